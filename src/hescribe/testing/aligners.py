"""The contract of an aligner. Import the class into a test module, and every registered one is tested.

>>> from hescribe.testing.aligners import TestAlignerContract, cohort  # in your test module
"""

from typing import Any

import numpy as np
import pytest

from hescribe import keys
from hescribe.align.base import Aligner, aligners, to_pairs
from hescribe.align.infonce import InfoNCEAligner
from hescribe.bench.model_folder import join_fitted, split_fitted
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import InputError, NotFittedError
from hescribe.testing.cohorts import colour_cohort


def make(name: str) -> Any:
    """Return an aligner that reads colour and few components, so that no network is downloaded and a fit is quick."""
    aligner: Any = aligners.create(name)
    small = {
        "encoder": "color", "gene_encoder": PCAEncoder(n_dims=4), "n_dims": 16, "epochs": 2, "batch_size": 64,
        "n_neighbours": 2, "n_layers": 1,
        "aligner": InfoNCEAligner(encoder="color", gene_encoder=PCAEncoder(n_dims=4), epochs=2, batch_size=64),
        "n_fine": 4, "n_experts": 2, "tune_epochs": 1,
    }  # fmt: skip
    own = aligner.get_params()
    return aligner.with_params(**{k: v for k, v in small.items() if k in own})


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    """Return a prepared synthetic cohort of three donors, whose colour carries half of the genes."""
    return colour_cohort()


def both(aligner: Any, section: Section) -> list[np.ndarray]:
    """Return both embeddings of a section."""
    return [aligner.embed_image(section.blind()), aligner.embed_expression(section)]


@pytest.mark.parametrize("name", list(aligners))
class TestAlignerContract:
    """What every aligner, present and future, must do."""

    def test_is_an_aligner_with_a_card(self, name: str) -> None:
        """It has the three methods and says what it is."""
        aligner = aligners.create(name)
        assert isinstance(aligner, Aligner)
        assert isinstance(aligner.card, MethodCard)
        assert aligner.card.summary

    def test_refuses_to_embed_before_fit(self, name: str, cohort: Cohort) -> None:
        """Embedding unfitted is an error that says what to do."""
        for embed in (make(name).embed_image, make(name).embed_expression):
            with pytest.raises(NotFittedError, match="call fit"):
                embed(cohort[0])

    def test_fit_returns_itself(self, name: str, cohort: Cohort) -> None:
        """Calls can be chained."""
        aligner = make(name)
        assert aligner.fit(cohort) is aligner

    def test_embeds_every_spot_of_either_side_at_length_1(self, name: str, cohort: Cohort) -> None:
        """In one space, and the image without any expression."""
        image, expression = both(make(name).fit(cohort), cohort[0])
        assert image.shape == expression.shape
        assert len(image) == cohort[0].n_spots
        assert image.dtype == expression.dtype == np.float32
        for side in (image, expression):
            np.testing.assert_allclose(np.linalg.norm(side, axis=1), 1, atol=1e-5)

    def test_does_not_change_its_input(self, name: str, cohort: Cohort) -> None:
        """Neither fitting nor embedding writes into the cohort."""
        before = cohort.stack(keys.COUNTS).copy()
        both(make(name).fit(cohort), cohort[0])
        np.testing.assert_array_equal(cohort.stack(keys.COUNTS), before)

    def test_is_deterministic(self, name: str, cohort: Cohort) -> None:
        """The same data and seed give the same embeddings."""
        first, second = (both(make(name).fit(cohort), cohort[0]) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)

    def test_does_not_depend_on_spot_order(self, name: str, cohort: Cohort) -> None:
        """Reversing the spots of a section reverses both embeddings."""
        aligner, section = make(name).fit(cohort), cohort[0]
        reverse = section.with_table(section.table[::-1].copy())
        for one, other in zip(both(aligner, section), both(aligner, reverse), strict=True):
            np.testing.assert_allclose(other, one[::-1], rtol=1e-4, atol=1e-5)

    def test_ignores_spots_that_are_not_kept(self, name: str, cohort: Cohort) -> None:
        """The counts of a spot that is no target cannot change the fit."""
        masked = cohort.map(lambda s: s.with_kept(np.arange(s.n_spots) % 3 > 0))
        clean, other = (both(make(name).fit(c), cohort[0]) for c in (masked, masked.map(_poison)))
        for one, two in zip(clean, other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)

    def test_fits_on_one_donor(self, name: str, cohort: Cohort) -> None:
        """With one donor the inner choices fall back to spatial blocks."""
        aligner = make(name)
        if "epochs" in aligner.get_params():
            aligner = aligner.with_params(epochs=None)
        one = cohort.where(lambda s: s.donor == cohort.donors[0])
        assert np.isfinite(both(aligner.fit(one), cohort[-1])).all()

    def test_survives_saving(self, name: str, cohort: Cohort) -> None:
        """What a fit leaves behind is arrays and plain values, and is enough to embed."""
        fitted = make(name).fit(cohort)
        restored = make(name).set_fitted(join_fitted(*split_fitted(fitted.get_fitted())))
        for one, other in zip(both(fitted, cohort[0]), both(restored, cohort[0]), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_learns_pairs_that_hold_for_another_donor(self, name: str, cohort: Cohort) -> None:
        """Of a new donor an image finds its own expression more often than another."""
        train, test = (cohort.where(lambda s, d=d: (s.donor == "D2") is d) for d in (False, True))  # type: ignore[misc]
        aligner = make(name)
        if "epochs" in aligner.get_params():
            aligner = aligner.with_params(epochs=40)
        pairs = to_pairs(aligner.fit(train), test)
        own = (pairs.image * pairs.expression).sum(axis=1)
        others = pairs.image @ pairs.expression[pairs.section == pairs.section[0]].T
        assert np.mean(own[:, None] > others) > 0.6

    def test_refuses_unknown_parameters(self, name: str) -> None:
        """A misspelt name is an error."""
        with pytest.raises(InputError, match="has no parameter"):
            aligners.create(name, not_a_parameter=1)


def _poison(section: Section) -> Section:
    table = section.table.copy()
    for layer in (keys.COUNTS, keys.TARGET):
        values = table.layers[layer].copy()
        values[~section.kept] = 7777
        table.layers[layer] = values
    return section.with_table(table)
