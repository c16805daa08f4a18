"""The viewer shows the values that the files hold, spot by spot and gene by gene."""

import re
import shutil

import anndata
import numpy as np
import pytest

from hescribe import keys
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.testing.cohorts import raw_colour_cohort
from hescribe.view.scene import read_scene


@pytest.fixture
def view(prediction):
    (found,) = read_scene(prediction)
    return found


def test_genes_stand_best_first_and_keep_their_columns(view):
    assert list(view.genes.index[:3]) == ["GENE1", "GENE0", "GENE2"]
    expected = np.arange(49) / 100
    assert np.allclose(view.values("GENE1", keys.PREDICTED), 1 + expected)
    assert np.allclose(view.values("GENE2", keys.PREDICTED), 2 + expected)


def test_interval_and_error_are_differences_of_layers(view):
    assert np.allclose(view.values("GENE0", "interval width"), 3)
    error = view.values("GENE0", keys.PREDICTED) - view.values("GENE0", "measured")
    assert np.allclose(view.values("GENE0", "error"), error)


def test_measured_values_are_log_normalised_counts_of_the_same_spots(view):
    section = raw_colour_cohort(3, 1)[0]
    counts = np.asarray(section.table[:, "GENE2"].layers[keys.COUNTS].todense()).ravel()
    expected = np.log1p(1e4 * counts / section.depth)
    assert np.allclose(view.values("GENE2", "measured"), expected, atol=1e-5)


def test_spots_that_stand_in_another_order_get_their_own_counts(prediction, tmp_path):
    shutil.copytree(prediction.parent, tmp_path / "all")
    path = tmp_path / "all" / "prediction" / "s0.h5ad"
    anndata.read_h5ad(path)[::-1].copy().write_h5ad(path)
    (turned,), (straight,) = read_scene(path.parent), read_scene(prediction)
    assert np.allclose(turned.values("GENE0", "measured"), straight.values("GENE0", "measured")[::-1])


def test_a_compressed_layer_reads_like_a_plain_one(prediction, tmp_path):
    shutil.copytree(prediction.parent, tmp_path / "all")
    path = tmp_path / "all" / "prediction" / "s0.h5ad"
    anndata.read_h5ad(path).write_h5ad(path, compression="gzip")
    (packed,), (plain,) = read_scene(path.parent), read_scene(prediction)
    assert np.array_equal(packed.values("GENE2", keys.PREDICTED), plain.values("GENE2", keys.PREDICTED))


def test_domains_are_columns_that_name_a_few_groups(view):
    assert list(view.domains) == ["region"]
    names, codes = view.domains["region"]
    assert names == ["stroma", "tumour"]
    assert codes[:3].tolist() == [0, 1, 0]


def test_a_cohort_shows_what_was_measured(viewed_cohort):
    views = read_scene(viewed_cohort)
    assert [v.id for v in views] == ["s0", "s1", "s2"]
    assert views[1].layers == ("measured",)
    assert views[1].image is not None


def test_a_prediction_without_its_image_shows_the_spots_and_says_why(prediction, tmp_path):
    shutil.copytree(prediction, tmp_path / "alone")
    (alone,) = read_scene(tmp_path / "alone")
    assert alone.image is None
    assert re.match(r"shown without its image: .*s0\.h5ad is not there any more; give --slide", alone.problem)
    assert alone.values("GENE0", keys.PREDICTED).shape == (49,)


@pytest.mark.parametrize(
    ("gene", "layer", "told"), [("NO", "predicted", "no gene 'NO'"), ("GENE0", "x", "no layer 'x'")]
)
def test_an_unknown_gene_or_layer_is_one_clear_error(view, gene, layer, told):
    with pytest.raises(InputError, match=told):
        view.values(gene, layer)


def test_folders_without_anything_to_see_are_refused(tmp_path):
    with pytest.raises(DataAccessError, match="is no folder"):
        read_scene(tmp_path / "missing")
    with pytest.raises(InputError, match="nothing to view"):
        read_scene(tmp_path)
    (tmp_path / "a.h5ad").write_bytes(b"no table")
    with pytest.raises(FormatError, match="no readable h5ad"):
        read_scene(tmp_path)


def test_options_that_would_be_passed_over_are_refused(viewed_cohort, prediction, tmp_path):
    with pytest.raises(InputError, match="is a cohort"):
        read_scene(viewed_cohort, slide=tmp_path / "slide.png", mpp=1.0)
    with pytest.raises(InputError, match="give both, or neither"):
        read_scene(prediction, mpp=1.0)


def test_a_slide_is_for_one_section_only(prediction, tmp_path):
    for name in ("a", "b"):
        shutil.copy(prediction / "s0.h5ad", tmp_path / f"{name}.h5ad")
    with pytest.raises(InputError, match="image of one section"):
        read_scene(tmp_path, slide=tmp_path / "slide.png", mpp=1.0)
