"""SPADE: experts in one space, what is loaded and what is not, and the panel."""

import json
import shutil
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
import pytest
from tests.old_folders import without_checksum
from typer.testing import CliRunner

from hescribe.align.base import aligners
from hescribe.align.bleep import BleepAligner
from hescribe.align.infonce import InfoNCEAligner
from hescribe.align.robust import RobustAligner
from hescribe.align.spade import SpadeAligner, procrustes
from hescribe.bench.aligner_folder import fit_aligner, read_aligner, write_aligner
from hescribe.bench.components import create_component
from hescribe.bench.model_folder import ALIGNER_INDEX, WEIGHTS
from hescribe.bench.protocols import read_protocol
from hescribe.cli.app import app
from hescribe.data.cohort import Cohort
from hescribe.data.folder import write_cohort
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import FormatError, InputError
from hescribe.prep.genes import to_panel
from hescribe.slide.bag_files import FileBag
from hescribe.testing.cohorts import colour_cohort, raw_colour_cohort

BLEEP = BleepAligner(gene_encoder=PCAEncoder(n_dims=4), n_dims=16, batch_size=64)
SETTING: dict[str, Any] = {"encoder": "color", "n_fine": 4, "n_experts": 2, "epochs": 3, "tune_epochs": 2}


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return colour_cohort()


def small(**changes: Any) -> SpadeAligner:
    return SpadeAligner(**{"aligner": BLEEP, "strength": 1.0, "temperature": 0.0, **SETTING, **changes})


def test_without_strength_it_is_the_generalist_after_as_many_steps(cohort):
    spade = small(strength=0.0).fit(cohort)
    every = np.ones(sum(s.n_spots for s in cohort), dtype=bool)
    general = BLEEP.with_params(encoder="color", epochs=3).fit(cohort).refine(cohort, [every], epochs=2)[0]
    np.testing.assert_allclose(spade.embed_image(cohort[0]), general.embed_image(cohort[0]), atol=1e-6)
    np.testing.assert_allclose(spade.embed_expression(cohort[0]), general.embed_expression(cohort[0]), atol=1e-6)


def test_experts_start_from_the_generalist_and_share_its_expression(cohort):
    spade = small().fit(cohort)
    mixed = spade.restore()
    general = mixed.general.embed_image(cohort[0])
    for expert in mixed.experts:
        cosine = (general * expert.embed_image(cohort[0])).sum(axis=1)
        assert 0.8 < cosine.min() < 0.9999, "moved, and not far"
        np.testing.assert_array_equal(expert.embed_expression(cohort[0]), mixed.general.embed_expression(cohort[0]))


def test_a_tile_is_embedded_by_the_expert_it_is_routed_to(cohort):
    spade = small().fit(cohort)
    nearest, weights = spade.route(cohort[0])
    found = np.stack([e.embed_image(cohort[0]) for e in spade.restore().experts])
    np.testing.assert_allclose(spade.embed_image(cohort[0]), found[nearest, np.arange(len(nearest))], atol=1e-6)
    np.testing.assert_array_equal(weights.argmax(axis=1), nearest)


def test_procrustes_finds_a_planted_rotation_and_permutation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0][:, rng.permutation(6)]
    np.testing.assert_allclose(procrustes(x @ turn, x), turn.T, atol=1e-5)


def test_an_expert_in_a_basis_of_its_own_is_turned_onto_the_generalist(cohort):
    spade = small(basis="procrustes").fit(cohort)
    mixed = spade.restore()
    target = mixed.general.embed_expression(cohort[0])
    for expert, basis in zip(mixed.experts, mixed.bases, strict=True):
        np.testing.assert_allclose(basis @ basis.T, np.eye(16), atol=1e-5)
        turned = expert.embed_expression(cohort[0]) @ basis
        assert (turned * target).sum(axis=1).mean() > 0.9


def test_legacy_experts_are_unrelated_and_the_router_is_one_hot(cohort):
    spade = small(legacy=True, strength=None, temperature=None, tune_epochs=5).fit(cohort)
    first, second = (e.embed_image(cohort[0]) for e in spade.restore().experts)
    assert abs((first * second).sum(axis=1).mean()) < 0.5, "bases drawn apart"
    weights = spade.route(cohort[0])[1]
    assert np.median(weights.max(axis=1)) > 0.99
    assert spade.get_fitted()["router_"].keys().isdisjoint({"mean", "sd"}), "features as they are"


def test_legacy_refuses_what_it_does_not_read(cohort):
    with pytest.raises(InputError, match="strength of SpadeAligner has no effect with legacy=True"):
        small(legacy=True).fit(cohort)
    with pytest.raises(InputError, match="aligner infonce has no parameter 'legacy'"):
        small(legacy=True, strength=None, temperature=None, tune_epochs=5, aligner=InfoNCEAligner()).fit(cohort)


@pytest.mark.parametrize("aligner", ["siglip", "robust", "mclstexp"])
def test_any_aligner_can_be_the_expert(aligner, cohort):
    expert: Any = aligners.create(aligner)
    expert = expert.with_params(gene_encoder=PCAEncoder(n_dims=4), n_dims=16, batch_size=64)
    spade = small(aligner=expert, epochs=1, tune_epochs=1).fit(cohort)
    assert spade.embed_image(cohort[0]).shape == spade.embed_expression(cohort[0]).shape


def test_its_parts_go_by_name_and_leak_guards_see_the_gene_encoder():
    given = {"aligner": "siglip", "aligner.gene_encoder": "pca", "aligner.gene_encoder.n_dims": 4, "n_experts": 3}
    spade = create_component(aligners, "spade", given)
    assert (spade.aligner.name, spade.n_experts) == ("siglip", 3)
    assert spade.gene_encoder == PCAEncoder(n_dims=4)
    assert create_component(aligners, "spade", spade.get_params()) == spade


def test_an_aligner_that_cannot_learn_on_is_fitted_apart_and_needs_procrustes(cohort):
    class Apart(InfoNCEAligner):
        refine = None  # type: ignore[assignment]

    apart = Apart(gene_encoder=PCAEncoder(n_dims=4), n_dims=16)
    with pytest.raises(InputError, match="cannot learn on from a generalist; give basis=procrustes"):
        small(aligner=apart).fit(cohort)
    assert small(aligner=apart, basis="procrustes").fit(cohort).embed_image(cohort[0]).shape == (49, 16)


def test_refining_some_spots_with_0_change_of_the_others_reads_only_those(cohort):
    fitted = RobustAligner(encoder="color", gene_encoder=PCAEncoder(n_dims=4), epochs=2, n_dims=16).fit(cohort)
    part = np.zeros(sum(s.n_spots for s in cohort), dtype=bool)
    part[:60] = True
    clean = fitted.refine(cohort, [part], epochs=1)[0]
    with pytest.raises(InputError, match="a part is a mask of 294 kept spots"):
        fitted.refine(cohort, [part[:10]], epochs=1)
    both = fitted.refine(cohort, [part], epochs=1, both=True)[0]
    np.testing.assert_array_equal(clean.embed_expression(cohort[0]), fitted.embed_expression(cohort[0]))
    assert not np.allclose(both.embed_expression(cohort[0]), fitted.embed_expression(cohort[0]))


def test_warns_of_an_organ_with_one_section(cohort):
    odd = cohort.map(lambda s: replace(s, card=replace(s.card, organ="colon" if s.id == "s0" else "breast")))
    with pytest.warns(UserWarning, match="organ colon has one train section"):
        small().fit(odd)


def test_genes_go_by_name_when_a_section_has_them_in_another_order(cohort):
    spade = small().fit(cohort)
    order = np.random.default_rng(1).permutation(len(cohort.genes))
    shuffled = cohort[0].with_table(cohort[0].table[:, order].copy())
    assert shuffled.genes != cohort.genes
    np.testing.assert_allclose(spade.embed_expression(shuffled), spade.embed_expression(cohort[0]), atol=1e-6)
    turned = Cohort(tuple(s.with_table(s.table[:, order].copy()) for s in cohort), cohort.card)
    again = small().fit(turned.map(lambda s: to_panel(s, cohort.genes)))
    np.testing.assert_allclose(again.embed_expression(shuffled), spade.embed_expression(shuffled), atol=1e-5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Return the folders of two mixtures whose heads differ."""
    where, raw = tmp_path_factory.mktemp("spade"), raw_colour_cohort()
    for name, n_dims in (("one", 16), ("other", 8)):
        spade = small(aligner=BLEEP.with_params(n_dims=n_dims), epochs=1, tune_epochs=1)
        fitted = fit_aligner(spade, raw, read_protocol("donor-v1"))
        write_aligner(where / name, fitted)
    return where / "one", where / "other"


def test_a_folder_embeds_as_the_fit_did_and_keeps_the_clusters(folders, cohort):
    fitted = read_aligner(folders[0])
    assert fitted.info.method == "spade"
    nearest, _ = fitted.aligner.route(cohort[0])  # type: ignore[attr-defined]
    assert set(nearest) <= {0, 1}
    assert fitted.aligner.embed_image(cohort[0].blind()).shape == (49, 16)


def test_weights_of_another_head_are_not_loaded(folders, cohort, tmp_path):
    shutil.copytree(folders[0], tmp_path / "mixed")
    shutil.copy(folders[1] / WEIGHTS, tmp_path / "mixed" / WEIGHTS)
    with pytest.raises(FormatError, match=r"is not the file that aligner.json was written with"):
        read_aligner(tmp_path / "mixed")
    without_checksum(tmp_path / "mixed" / ALIGNER_INDEX)
    with pytest.raises(FormatError, match="does not fit"):
        read_aligner(tmp_path / "mixed")


def test_a_folder_that_lacks_an_expert_is_refused(cohort):
    spade = small(epochs=1, tune_epochs=1).fit(cohort)
    state = {k: v for k, v in spade.get_fitted().items() if not k.startswith("expert1_")}
    with pytest.raises(FormatError, match="1 experts are not whole, or not one for each of 2 clusters"):
        small().set_fitted(state).check_weights()


def test_embed_writes_bags_of_informed_tiles_that_say_what_made_them(folders, tmp_path):
    write_cohort(raw_colour_cohort(1), tmp_path / "C")
    words = ["embed", tmp_path / "C", "--encoder", folders[0], "--format", "h5", "--out", tmp_path / "E", "--json"]
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    told = json.loads(done.stdout)["sections"][0]
    bag = FileBag(tmp_path / "E" / "s0.h5")
    assert (told["n_dims"], bag.read().shape) == (16, (49, 16))
    assert 0 <= told["n_far"] < 49
    with h5py.File(bag.path) as file:
        facts = json.loads(file.attrs["hescribe"])
    assert (facts["section"], facts["trained_on"]) == ("s0", ["colour"])
    assert len(facts["revision"]) == 16
    assert bag.read_seen() == "colour itself", "the benchmark of slides refuses tissue of the training"
