"""Maps of predicted sections: with and without a measurement, trusted or not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image

from hescribe import keys
from hescribe.errors import DataAccessError
from hescribe.report import maps
from hescribe.report.maps import GeneMap, measure, round_length_um, section_figure, write_map
from hescribe.report.run_maps import choose_genes
from hescribe.testing.cohorts import colour_section

VERMILLION = (213, 94, 0)


@pytest.fixture
def section():
    return colour_section(0, "D0")


def predicted(section, trust="predictable"):
    n, genes = section.n_spots, section.genes[:4]
    var = pd.DataFrame({keys.TRUST: trust, "pearson": [0.1, 0.4, np.nan, 0.3]}, index=list(genes))
    obs = pd.DataFrame({keys.OOD: np.linspace(0, 1, n)}, index=section.table.obs_names)
    layer = np.random.default_rng(0).random((n, len(genes))).astype(np.float32)
    return AnnData(obs=obs, var=var, layers={keys.PREDICTED: layer})


def texts(figure):
    return [t.get_text() for axes in figure.axes for t in axes.texts]


def captured(monkeypatch, *args):
    """Return the texts of the figure that write_map draws."""
    drawn = []
    real = maps.section_figure
    monkeypatch.setattr(maps, "section_figure", lambda *a, **k: drawn.append(real(*a, **k)) or drawn[-1])
    write_map(*args)
    return texts(drawn[0])


def count_pixels(path, colour):
    with Image.open(path) as image:
        return int((np.abs(np.asarray(image.convert("RGB")).astype(int) - colour).max(axis=2) < 8).sum())


def test_a_measured_section_shows_measured_predicted_and_error(section, tmp_path, monkeypatch):
    said = captured(monkeypatch, tmp_path / "map.png", section, predicted(section))
    assert said.count("measured") == said.count("predicted") == 3
    assert "H&E" in said
    assert "Unlike the training images" in said
    assert any(t.endswith(("µm", " mm")) for t in said)


def test_genes_come_in_the_order_of_their_trust_and_score(section, tmp_path, monkeypatch):
    table = predicted(section)
    table.var[keys.TRUST] = ["predictable", "do not use", "predictable", "weak"]
    said = captured(monkeypatch, tmp_path / "map.png", section, table)
    assert [t for t in said if t.startswith("GENE")] == ["GENE0", "GENE2", "GENE3"]


def test_a_bare_image_shows_predictions_only(section, tmp_path, monkeypatch):
    said = captured(monkeypatch, tmp_path / "map.png", section.blind(), predicted(section))
    assert "measured" not in said
    assert said.count("predicted") == 4


def test_genes_that_are_not_predictable_are_marked(section, tmp_path):
    write_map(tmp_path / "good.png", section, predicted(section))
    write_map(tmp_path / "bad.png", section, predicted(section, "do not use"))
    assert count_pixels(tmp_path / "good.png", VERMILLION) == 0
    assert count_pixels(tmp_path / "bad.png", VERMILLION) > 500


def hatches(figure):
    return [p.get_hatch() for axes in figure.axes for p in axes.patches if p.get_hatch()]


def opacities(figure):
    """Return the opacity of the spots of each map, in the order drawn."""
    return [np.asarray(c.get_alpha()) for axes in figure.axes for c in axes.collections if c.get_alpha() is not None]


@pytest.mark.parametrize(("trust", "n_hatched"), [("predictable", 0), ("weak", 0), ("untested", 2), ("do not use", 2)])
def test_a_gene_that_is_not_to_be_used_is_hatched_and_says_so_on_its_maps(section, trust, n_hatched):
    """The predicted map and the error; what was measured may be read."""
    values = np.linspace(0, 1, section.n_spots)
    figure = section_figure(section, [GeneMap(gene="G", predicted=values, measured=values, trust=trust)])
    assert len(hatches(figure)) == n_hatched
    assert texts(figure).count(trust) == n_hatched
    assert all((a == (maps.PALE if n_hatched else 1.0)).all() for a in opacities(figure))
    legend = [t for t in texts(figure) if t == maps.TRUST_WORDS.get(trust)]
    assert len(legend) == (trust != "predictable")


def test_spots_unlike_the_training_images_are_pale_and_counted(section):
    values, ood = np.linspace(0, 1, section.n_spots), np.full(section.n_spots, 0.5)
    ood[[3, 7]] = 0.99
    figure = section_figure(section, [GeneMap(gene="G", predicted=values, measured=values)], ood=ood)
    expected = np.where(ood > 0.95, maps.PALE, 1.0)
    assert [a.tolist() for a in opacities(figure)] == [expected.tolist()] * 2  # predicted and error, not measured
    assert f"pale: 2 of {section.n_spots} spots, which look unlike the training images" in texts(figure)


def test_a_section_like_the_training_images_has_no_pale_spots_to_explain(section):
    figure = section_figure(section, [], ood=np.full(section.n_spots, 0.5))
    assert not [t for t in texts(figure) if t.startswith("pale")]


def test_a_method_without_novelty_gets_no_map_of_it(section, tmp_path, monkeypatch):
    table = predicted(section)
    table.obs[keys.OOD] = np.nan
    assert "Unlike the training images" not in captured(monkeypatch, tmp_path / "map.png", section, table)


def test_a_name_with_a_line_break_or_a_formula_is_written_on_one_line(section):
    values = np.zeros(section.n_spots)
    figure = section_figure(section, [GeneMap(gene="x\n$y$", predicted=values)])
    assert r"x \$y\$" in texts(figure)
    figure.canvas.draw()  # where a formula would be read


def test_a_section_of_one_spot_without_genes_or_image_is_drawn(section):
    figure = section_figure(replace(section.with_table(section.table[:1].copy()), image=None), [])
    assert "no image" in texts(figure)


def test_a_map_that_cannot_be_written_says_so(section, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataAccessError, match=r"map\.png cannot be written"):
        write_map(tmp_path / "file" / "map.png", section, predicted(section))


def test_measured_expression_is_log_normalised_by_the_depth_of_all_genes(section):
    counts = section.table.layers[keys.COUNTS].toarray()
    expected = np.log1p(1e4 * counts[:, 1] / section.depth)
    np.testing.assert_allclose(measure(section, ["GENE1"])[:, 0], expected, rtol=1e-5)


def test_spots_below_the_least_counts_are_blank(section):
    least = int(np.median(section.depth))
    assert (np.isnan(measure(section, ["GENE1"], min_counts=least)[:, 0]) == (section.depth < least)).all()


@pytest.mark.parametrize(("longest", "length"), [(999.0, 500.0), (1000.0, 1000.0), (2400.0, 2000.0), (7.0, 5.0)])
def test_a_scale_bar_has_a_round_length(longest, length):
    assert round_length_um(longest) == length


def test_the_most_trusted_genes_are_drawn_and_a_typical_one():
    trust = pd.DataFrame(
        {"pearson": [0.9, 0.5, 0.4, 0.3, 0.1], "n_donors": [1, 3, 3, 3, 3],
         "trust": ["weak", "predictable", "do not use", "do not use", "do not use"]},
        index=list("abcde"),
    )  # fmt: skip
    assert choose_genes(trust, set("abcde")) == ["b", "a", "c"]
    assert choose_genes(trust, set("cde")) == ["c", "d"]
