"""The contract of a predictor. Import the class into a test module, and every registered one is tested.

>>> from hescribe.testing.predictors import TestGeneWiseContract, TestPredictorContract  # in your test module
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

from hescribe import keys
from hescribe.align.infonce import InfoNCEAligner
from hescribe.bench.model_folder import join_fitted, split_fitted
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import InputError, NotFittedError
from hescribe.predict.base import GeneWise, Prediction, Predictor, predictors
from hescribe.predict.ridge import RidgePredictor
from hescribe.prep.genes import to_panel
from hescribe.testing.cohorts import colour_cohort
from hescribe.testing.encoders import tiny_encoder

ALIGNER = InfoNCEAligner(encoder="color", gene_encoder=PCAEncoder(n_dims=4), epochs=2, batch_size=64)
FAST: dict[str, dict[str, object]] = {
    "aligned": {"aligner": ALIGNER},
    "bleep": {"epochs": 2, "batch_size": 64},
    "deepspot": {"size": "small", "epochs": 1},
    "egn": {"size": "small", "epochs": 1},
    "eggn": {"size": "small", "epochs": 1},
    "hist2st": {"size": "small", "epochs": 1, "n_views": 1},
    "histogene": {"size": "small", "epochs": 1},
    "mclstexp": {"epochs": 1, "batch_size": 64, "n_neighbours": 4, "n_layers": 1},
    "mixture": {"n_fine": 4, "n_experts": 2},
    "mlp": {"epochs": 2},
    "peka": {"epochs": 1, "n_clusters": 4},
    "sepal": {"epochs": 2},
    "shufflenet": {"encoder": "tiny", "epochs": 1},
    "stained": {"predictor": RidgePredictor(encoder="color", fov_um=(112.0,))},
    "stnet": {"encoder": "tiny", "epochs": 1},
    "triplex": {"size": "small", "epochs": 1},
    "vit_delta": {"encoder": "tiny", "epochs": 1},
}  # parameters that make a fit quick without changing what is tested


def write_external(cohort: Cohort, folder: Path) -> None:
    """Write what another tool might have predicted for a cohort: spots in another order, and a gene more."""
    for section in cohort:
        table = AnnData(np.random.default_rng(0).random((section.n_spots, len(section.genes) + 1)))
        table.obs_names, table.var_names = section.table.obs_names[::-1], ["MORE", *section.genes]
        table.write_h5ad(folder / f"{section.id}.h5ad")
    (folder / "predictions.toml").write_text('tool = "noise"\ntrain_donors = []\n')


def make(name: str) -> Any:
    """Return a predictor that reads colour, so that no network is needed."""
    predictor: Any = predictors.create(name)
    changes = dict(FAST.get(name, {}))
    if "encoder" in predictor.get_params():
        changes.setdefault("encoder", "color")
    return predictor.with_params(**changes)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cohort]:
    """Give a prepared synthetic cohort of three donors; ``encoder="tiny"`` is a network meanwhile."""
    prepared = colour_cohort()
    FAST["external"] = {"folder": str(tmp_path_factory.mktemp("external"))}
    write_external(prepared, Path(str(FAST["external"]["folder"])))
    with tiny_encoder():
        yield prepared


@pytest.mark.parametrize("name", list(predictors))
class TestPredictorContract:
    """What every predictor, present and future, must do."""

    def test_is_a_predictor_with_a_card(self, name: str) -> None:
        """It has the two methods and says what it is."""
        predictor = predictors.create(name)
        assert isinstance(predictor, Predictor)
        assert isinstance(predictor.card, MethodCard)
        assert predictor.card.summary

    def test_refuses_to_predict_before_fit(self, name: str, cohort: Cohort) -> None:
        """Predicting unfitted is an error that says what to do."""
        with pytest.raises(NotFittedError, match="call fit"):
            make(name).predict(cohort[0])

    def test_fit_returns_itself(self, name: str, cohort: Cohort) -> None:
        """Calls can be chained."""
        predictor = make(name)
        assert predictor.fit(cohort) is predictor

    def test_predicts_every_spot_and_gene_from_a_blind_section(self, name: str, cohort: Cohort) -> None:
        """A finite value for every spot and gene, in panel order, without any expression."""
        prediction = make(name).fit(cohort).predict(cohort[0].blind())
        assert isinstance(prediction, Prediction)
        assert prediction.genes == cohort.genes
        assert prediction.mean.shape == (cohort[0].n_spots, len(cohort.genes))
        assert np.isfinite(prediction.mean).all()

    def test_does_not_change_its_input(self, name: str, cohort: Cohort) -> None:
        """Neither fit nor predict writes into the cohort."""
        before = cohort.stack(keys.TARGET).copy()
        make(name).fit(cohort).predict(cohort[0].blind())
        np.testing.assert_array_equal(cohort.stack(keys.TARGET), before)

    def test_is_deterministic(self, name: str, cohort: Cohort) -> None:
        """The same data and seed give the same prediction."""
        first, second = (make(name).fit(cohort).predict(cohort[0].blind()).mean for _ in range(2))
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)

    def test_does_not_depend_on_spot_order(self, name: str, cohort: Cohort) -> None:
        """Reversing the spots of a section reverses its prediction."""
        predictor, section = make(name).fit(cohort), cohort[0].blind()
        reverse = section.with_table(section.table[::-1].copy())
        expected = predictor.predict(section).mean[::-1]
        np.testing.assert_allclose(predictor.predict(reverse).mean, expected, rtol=1e-4, atol=1e-5)

    def test_ignores_spots_that_are_not_kept(self, name: str, cohort: Cohort) -> None:
        """The expression of a spot that is no target cannot change the fit."""
        masked = cohort.map(lambda s: s.with_kept(np.arange(s.n_spots) % 3 > 0))
        poisoned = masked.map(lambda s: _poison(s, ~s.kept))
        clean, other = (make(name).fit(c).predict(cohort[0].blind()).mean for c in (masked, poisoned))
        np.testing.assert_allclose(clean, other, rtol=1e-5, atol=1e-6)

    def test_fits_on_one_donor(self, name: str, cohort: Cohort) -> None:
        """With one donor the inner choices fall back to spatial blocks."""
        one = cohort.where(lambda s: s.donor == cohort.donors[0])
        assert np.isfinite(make(name).fit(one).predict(cohort[-1].blind()).mean).all()

    def test_survives_saving(self, name: str, cohort: Cohort) -> None:
        """What a fit leaves behind is arrays and plain values, and is enough to predict."""
        fitted = make(name).fit(cohort)
        restored = make(name).set_fitted(join_fitted(*split_fitted(fitted.get_fitted())))
        section = cohort[0].blind()
        np.testing.assert_array_equal(restored.predict(section).mean, fitted.predict(section).mean)

    def test_parameters_round_trip_and_refuse_unknown_names(self, name: str) -> None:
        """``get_params`` is complete, and a typo is an error."""
        predictor = make(name)
        assert predictor.with_params().get_params() == predictor.get_params()
        with pytest.raises(InputError, match="has no parameter"):
            predictor.with_params(no_such_parameter=1)


@pytest.mark.parametrize("name", [n for n in predictors if issubclass(predictors.get(n), GeneWise)])
class TestGeneWiseContract:
    """What every predictor that genes can be added to must do."""

    def test_predicts_a_gene_alike_in_a_panel_and_in_a_block(self, name: str, cohort: Cohort) -> None:
        """Added genes leave those of the panel as they were, and come in the order of the blocks."""
        panel, rest = cohort.genes[:7], cohort.genes[7:]
        fitted = make(name).fit(_on(cohort, panel))
        wide = fitted.fit_blocks(_on(cohort, block) for block in (rest, panel))
        section = cohort[0].blind()
        prediction = wide.predict(section)
        assert prediction.genes == (*rest, *panel)
        assert prediction.mean.shape == (section.n_spots, len(cohort.genes))
        expected = fitted.predict(section)
        np.testing.assert_allclose(prediction.mean[:, len(rest) :], expected.mean, rtol=1e-4, atol=1e-5)
        assert (prediction.ood is None) == (expected.ood is None)

    def test_adding_genes_leaves_the_fit_as_it_was(self, name: str, cohort: Cohort) -> None:
        """The predictor that genes were added to still predicts its panel."""
        fitted = make(name).fit(_on(cohort, cohort.genes[:7]))
        before = fitted.predict(cohort[0].blind())
        fitted.fit_blocks([cohort])
        after = fitted.predict(cohort[0].blind())
        assert after.genes == before.genes
        np.testing.assert_array_equal(after.mean, before.mean)

    def test_refuses_to_add_genes_before_fit(self, name: str, cohort: Cohort) -> None:
        """Parameters are chosen on the panel first."""
        with pytest.raises(NotFittedError, match="call fit"):
            make(name).fit_blocks([cohort])


def _on(cohort: Cohort, genes: tuple[str, ...]) -> Cohort:
    return cohort.map(lambda s: to_panel(s, genes))


def _poison(section: Section, where: np.ndarray) -> Section:
    table = section.table.copy()
    layer = table.layers[keys.TARGET].copy()
    layer[where] = 1e3
    table.layers[keys.TARGET] = layer
    return section.with_table(table)
