"""An aligner fitted from disk does as well as in memory, reads sections one at a time, and goes on after a stop."""

import weakref

import numpy as np
import pytest
from tests.align.held_out import auc, split

from hescribe import keys
from hescribe.align.infonce import InfoNCEAligner
from hescribe.align.mclstexp import MclstexpAligner
from hescribe.align.robust import RobustAligner
from hescribe.align.siglip import SigLIPAligner
from hescribe.align.streamed import fit_streamed
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import InputError, PanelError
from hescribe.testing.cohorts import colour_section

SMALL = {"encoder": "color", "gene_encoder": PCAEncoder(n_dims=4), "n_dims": 16, "epochs": 20, "lr": 5e-3}


@pytest.mark.parametrize(
    "aligner", [InfoNCEAligner(**SMALL), SigLIPAligner(**SMALL, negatives="section")], ids=lambda a: a.name
)
def test_it_does_as_well_as_in_memory(aligner, cohort, tmp_path):
    train, test = split(cohort)
    streamed = fit_streamed(aligner.with_params(batch_size=64), lambda: iter(train), tmp_path, cohort="colour")
    assert auc(streamed, test) > 0.65
    assert streamed.get_fitted()["gene_donors_"] == ("colour/D0", "colour/D1")


@pytest.mark.parametrize("centred", [False, True])
def test_with_all_spots_in_sample_and_batch_it_is_the_fit_in_memory(centred, cohort, tmp_path):
    """But for the rounding of float16."""
    aligner = InfoNCEAligner(
        **SMALL | {"epochs": 2}, dropout=0.0, batch_size=294, standardise="section", centre_expression=centred
    )
    streamed = fit_streamed(aligner.with_params(), lambda: iter(cohort), tmp_path)
    fitted = aligner.fit(cohort)
    np.testing.assert_allclose(
        streamed.embed_image(cohort[0].blind()), fitted.embed_image(cohort[0].blind()), atol=0.01
    )
    np.testing.assert_allclose(streamed.embed_expression(cohort[0]), fitted.embed_expression(cohort[0]), atol=0.01)


def test_each_view_of_robust_is_fitted(cohort, tmp_path):
    train, test = split(cohort)
    given = {"gene_encoder": PCAEncoder(n_dims=4), "n_dims": 16, "epochs": 20, "lr": 5e-3, "batch_size": 64}
    robust = RobustAligner(encoder="color", **given)
    assert auc(fit_streamed(robust, lambda: iter(train), tmp_path), test) > 0.65
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(robust.views)


@pytest.mark.parametrize("aligner", [InfoNCEAligner, RobustAligner])
def test_donors_are_balanced_from_disk_too_and_one_is_refused(aligner, cohort, tmp_path):
    train, test = split(cohort)
    uneven = train.map(lambda s: s if s.donor == "D0" else s.with_kept(np.arange(49) < 10))
    given = {**SMALL, "batch_size": 32, "balance_donors": True}
    assert auc(fit_streamed(aligner(**given), lambda: iter(uneven), tmp_path / "two"), test) > 0.6
    with pytest.raises(InputError, match="batches cannot be balanced among donors: every train spot is of donor D2"):
        fit_streamed(aligner(**given), lambda: iter(test), tmp_path / "one")


def test_no_more_than_one_section_is_held(tmp_path):
    """A section must be gone before the one after the next is asked for."""
    alive = []

    def sections():
        for i in range(3):
            assert sum(ref() is not None for ref in alive) <= 1
            section = colour_section(i, f"D{i}")
            alive.append(weakref.ref(section.image))
            yield section
            del section

    fit_streamed(InfoNCEAligner(**SMALL | {"epochs": 1}), sections, tmp_path, n_sample=40)
    assert len(alive) == 9  # three passes


def test_spots_that_are_not_kept_are_not_read(cohort, tmp_path):
    def poisoned(section):
        table = section.table.copy()
        table.layers[keys.COUNTS] = np.where(section.kept[:, None], table.layers[keys.COUNTS], 7777)
        return section.with_table(table)

    masked = cohort.map(lambda s: s.with_kept(np.arange(49) % 3 > 0))
    aligner = InfoNCEAligner(**SMALL | {"epochs": 1})
    one = fit_streamed(aligner.with_params(), lambda: iter(masked), tmp_path / "a")
    other = fit_streamed(aligner.with_params(), lambda: iter(masked.map(poisoned)), tmp_path / "b")
    np.testing.assert_array_equal(one.embed_expression(cohort[0]), other.embed_expression(cohort[0]))


def test_a_fit_that_was_done_is_found_and_another_loss_reads_the_same_pairs(cohort, tmp_path):
    first = fit_streamed(InfoNCEAligner(**SMALL | {"epochs": 2}), lambda: iter(cohort), tmp_path)
    written = (tmp_path / "pairs" / "pairs.json").stat().st_mtime_ns
    again = fit_streamed(InfoNCEAligner(**SMALL | {"epochs": 2}), lambda: iter(cohort), tmp_path)
    fit_streamed(SigLIPAligner(**SMALL | {"epochs": 1}), lambda: iter(cohort), tmp_path)
    assert (tmp_path / "pairs" / "pairs.json").stat().st_mtime_ns == written
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    np.testing.assert_array_equal(first.embed_expression(cohort[0]), again.embed_expression(cohort[0]))


def test_pairs_of_other_sections_are_not_taken_for_these(cohort, tmp_path):
    aligner = InfoNCEAligner(**SMALL | {"epochs": 1})
    fit_streamed(aligner.with_params(), lambda: iter(cohort), tmp_path)
    with pytest.raises(InputError, match="holds pairs of other sections or another encoder; remove it"):
        fit_streamed(aligner.with_params(), lambda: iter(cohort[:4]), tmp_path)


def test_damaged_pairs_are_written_again(cohort, tmp_path):
    aligner = InfoNCEAligner(**SMALL | {"epochs": 1})
    fit_streamed(aligner.with_params(), lambda: iter(cohort), tmp_path)
    damaged = tmp_path / "pairs" / "00003.image.npy"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    fit_streamed(aligner.with_params(), lambda: iter(cohort), tmp_path)
    assert np.load(damaged).shape == (49, 20)  # two of 22 colours say nothing new


@pytest.mark.parametrize(
    ("aligner", "told"),
    [
        (
            InfoNCEAligner(**SMALL | {"epochs": None}),
            "epochs must be at least 1 for a fit from disk",
        ),
        (InfoNCEAligner(**SMALL | {"epochs": 0}), "epochs must be at least 1 for a fit from disk"),
        (MclstexpAligner(**SMALL), "MclstexpAligner reads a spot with its neighbours"),
        (InfoNCEAligner(**SMALL, frozen=False, fov_um=(112.0,)), "InfoNCEAligner with frozen=False trains on patches"),
        (InfoNCEAligner(**SMALL | {"n_dims": 1}), "n_dims of InfoNCEAligner must be at least 2"),
    ],
    ids=lambda x: "",
)
def test_refuses_what_cannot_be_done_from_disk(aligner, told, cohort, tmp_path):
    with pytest.raises(InputError, match=told):
        fit_streamed(aligner, lambda: iter(cohort), tmp_path)


def test_sections_that_can_be_read_once_alone_are_refused(cohort, tmp_path):
    once = iter(cohort)
    with pytest.raises(InputError, match="gave no section when it was called again"):
        fit_streamed(InfoNCEAligner(**SMALL), lambda: once, tmp_path)


def test_sections_of_another_panel_are_refused(cohort, tmp_path):
    other = cohort[1].with_table(cohort[1].table[:, ::-1].copy())
    with pytest.raises(PanelError, match="s1 and s0 differ in genes"):
        fit_streamed(InfoNCEAligner(**SMALL), lambda: iter((cohort[0], other)), tmp_path)
