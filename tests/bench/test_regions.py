"""Covering the image square by square shows what a prediction rests on, exactly and for any predictor."""

from dataclasses import replace

import numpy as np
import pytest

from hescribe.bench.fitting import fit_model
from hescribe.bench.ladder import create_model
from hescribe.bench.protocols import read_protocol
from hescribe.bench.regions import cover_regions
from hescribe.data.cohort import Cohort
from hescribe.data.image import ArrayImage, CoveredImage
from hescribe.encode import features
from hescribe.encode.features import embed_section
from hescribe.errors import InputError, PanelError
from hescribe.predict.base import Prediction
from hescribe.prep.graph import rings
from hescribe.report.regions import regions_figure, write_regions

MIDDLE = 24  # of 7 x 7 spots, 200 um apart


@pytest.fixture(scope="module")
def model(raw_cohort):
    return fit_model(
        create_model("ridge:encoder=color:fov_um=[112.0]:alpha=100.0"), raw_cohort, read_protocol("donor-v1")
    )


@pytest.fixture(scope="module")
def section(raw_cohort):
    return raw_cohort[0]


def explain(model, section, **more):
    return cover_regions(model, section, section.table.obs_names[MIDDLE], "GENE0", **more)


def test_a_model_of_the_patch_looks_at_the_patch_alone(model, section):
    """Squares of 100 um on a grid of 1,300 um: the patch of 112 um lies under the one in the middle and its eight."""
    regions = explain(model, section, n_side=13, width_um=1300.0)
    outside = np.ones((13, 13), dtype=bool)
    outside[5:8, 5:8] = False
    assert (regions.fall[outside] == 0).all()
    assert (np.abs(regions.fall[5:8, 5:8]) > 1e-3).all()


def test_the_fall_is_that_of_a_prediction_on_an_image_that_is_painted_over(model, section):
    regions = explain(model, section, n_side=1, width_um=100.0)
    x, y = section.xy_um[MIDDLE]
    (left, top), mpp = regions.corner_um, section.image.mpp
    assert (left, top) == (x - 50, y - 50)
    pixels = section.image.pixels.copy()
    rows, columns = (slice(round(v / mpp), round((v + 100) / mpp)) for v in (top, left))
    pixels[rows, columns] = pixels[rows, columns].reshape(-1, 3).mean(axis=0).round()
    painted = replace(section, image=ArrayImage(pixels, mpp, "painted"))
    before, after = (model.predictor.predict(s.blind()).mean[MIDDLE, 0] for s in (section, painted))
    assert regions.predicted == pytest.approx(before)
    assert regions.fall[0, 0] == pytest.approx(before - after, abs=0.02)
    assert regions.section_mean == pytest.approx(model.predictor.predict(section.blind()).mean[:, 0].mean())


class RednessAround:
    """Predicts the mean redness of the eight spots around each spot."""

    def predict(self, section):
        red = embed_section(section, "color", fov_um=(112.0,))[:, :1]
        return Prediction(np.tile(rings(section, 1)[0] @ red, (1, 12)), section.genes)


def test_a_model_of_the_surroundings_looks_at_the_ring_and_not_at_the_spot(model, section):
    """Squares of 200 um, each centred on a spot: of 5 x 5, the eight around the one in the middle matter."""
    around = explain(replace(model, predictor=RednessAround()), section, n_side=5, width_um=1000.0)
    matters = np.zeros((5, 5), dtype=bool)
    matters[1:4, 1:4] = True
    matters[2, 2] = False
    np.testing.assert_array_equal(around.fall != 0, matters)


def test_only_the_patches_that_are_touched_are_embedded_again_and_nothing_is_cached(section, tmp_path, monkeypatch):
    whole = embed_section(section, "color", cache=tmp_path)
    files = set(tmp_path.rglob("*.npy"))
    x, y = section.xy_um[MIDDLE]
    image = CoveredImage(section.image, (x - 30, y - 30), 60.0, (10, 20, 30))
    monkeypatch.setattr(features, "memory", features.Memory(0))
    covered = embed_section(replace(section, image=image), "color", cache=tmp_path)
    changed = (covered != whole).any(axis=1)
    assert changed[MIDDLE]
    assert changed.sum() <= 5  # its own patch, and those 224 um wide of its neighbours
    painted = section.image.pixels.copy()
    at = [slice(round((v - 30) / section.image.mpp), round((v + 30) / section.image.mpp)) for v in (y, x)]
    painted[at[0], at[1]] = (10, 20, 30)
    expected = embed_section(
        replace(section, image=ArrayImage(painted, section.image.mpp, "p")), "color", cache=tmp_path / "other"
    )
    np.testing.assert_allclose(covered, expected, rtol=0.05, atol=2.0)  # edges of the square fall on half pixels
    assert set(tmp_path.glob("color/*.npy")) == files


def test_what_cannot_be_explained_is_told(model, section):
    spot = section.table.obs_names[0]
    with pytest.raises(PanelError, match="does not predict NOVEL; it predicts 12 genes"):
        cover_regions(model, section, spot, "NOVEL")
    with pytest.raises(InputError, match="section s0 has no spot '99x99'; its spots are named like '0x0'"):
        cover_regions(model, section, "99x99", "GENE0")
    with pytest.raises(InputError, match="section s0 has no image"):
        cover_regions(model, replace(section, image=None), spot, "GENE0")
    with pytest.raises(InputError, match="at least one square and a width above 0 um, got 0"):
        cover_regions(model, section, spot, "GENE0", n_side=0)


def test_the_figure_says_what_was_asked_and_warns_of_an_untrusted_gene(model, section, tmp_path):
    regions = replace(explain(model, section, n_side=3), gene="COST$A$")
    for trust, warns in (("predictable", False), ("do not use", True)):
        said = " ".join(t.get_text() for t in regions_figure(section, regions, trust).texts)
        assert r"COST\$A\$" in said
        assert section.table.obs_names[MIDDLE] in said
        assert f"trust class of the gene: {trust}" in said
        assert ("not to be trusted" in said) == warns
    write_regions(tmp_path / "a.png", section, regions, "weak")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_prediction_that_looks_nowhere_is_drawn_without_a_division_by_zero(section):
    flat = fit_model(create_model("mean"), Cohort((section,)), read_protocol("donor-v1"))
    regions = explain(flat, section, n_side=2)
    assert (regions.fall == 0).all()
    assert regions_figure(section, regions, "weak").texts
