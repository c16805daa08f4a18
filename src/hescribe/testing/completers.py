"""The contract of a completer. Import the class into a test module, and every registered one is tested.

Tested is each as it comes, with a shorter training. ``spackle`` with ``legacy_batch_attention`` is exempt: as
published, what it says of a spot depends on which spots lie beside it in the table.

>>> from hescribe.testing.completers import TestCompleterContract  # in your test module
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from hescribe import keys
from hescribe.bench.model_folder import join_fitted, split_fitted
from hescribe.cards import MethodCard
from hescribe.complete.base import Completer, complete, completers
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError, NotFittedError, PanelError
from hescribe.prep.counts import log_normalise
from hescribe.testing.cohorts import raw_colour_cohort

FAST: dict[str, dict[str, object]] = {
    "gene_ridge": {"alpha": 1e4},
    "spackle": {"n_dims": 8, "n_heads": 2, "n_steps": 3, "batch_size": 32},
    "stacked": {"n_hidden": 8, "n_steps": 4},
}  # parameters that make a fit quick without changing what is tested


def make(name: str) -> Any:
    """Return a completer that trains in a moment."""
    return completers.create(name, **FAST.get(name, {}))


def thin_cohort() -> Cohort:
    """Return a small cohort in which a quarter of all entries are missing."""
    return raw_colour_cohort().map(lambda s: _with_counts(s, _counts(s) * (_noise(s) > 1 / 4)))


@cache
def fitted(name: str) -> Any:
    """Return a completer fitted on ``thin_cohort``; nothing in the contract changes it."""
    return make(name).fit(thin_cohort())


def take_spots(section: Section, spots: Any) -> Section:
    """Return the section with some of its spots, in the order asked for."""
    return section.with_table(section.table[spots].copy())


def _one_spot(section: Section) -> Section:
    return take_spots(section, [0])


def _spots_without_counts(section: Section) -> Section:
    return _with_counts(section, _counts(section) * (np.arange(section.n_spots) > 2)[:, None], depth_too=True)


def _no_count_at_all(section: Section) -> Section:
    return _with_counts(section, 0 * _counts(section), depth_too=True)


def _gene_never_measured(section: Section) -> Section:
    return _with_counts(section, _counts(section) * (np.arange(len(section.genes)) > 0))


def _islands(section: Section) -> Section:
    """Return two corners and a lone spot."""
    row, col = (section.table.obs[k].to_numpy() for k in (keys.ARRAY_ROW, keys.ARRAY_COL))
    first, last = (row < 2) & (col < 2), (row > row.max() - 2) & (col > col.max() - 2)
    return take_spots(section, first | last | ((row == 0) & (col == col.max())))


ODD: dict[str, Callable[[Section], Section]] = {
    "one spot": _one_spot,
    "spots without counts": _spots_without_counts,
    "no count at all": _no_count_at_all,
    "a gene never measured": _gene_never_measured,
    "islands": _islands,
}


@pytest.fixture
def section() -> Section:
    """Return a section of the cohort that completers were fitted on, of a test's own."""
    return thin_cohort()[0]


@pytest.mark.parametrize("name", list(completers))
class TestCompleterContract:
    """What every completer, present and future, must do."""

    def test_is_a_completer_with_a_card(self, name: str) -> None:
        """It has the two methods and says what it is."""
        completer = completers.create(name)
        assert isinstance(completer, Completer)
        assert isinstance(completer.card, MethodCard)
        assert completer.card.summary

    def test_fit_returns_itself(self, name: str) -> None:
        """Calls can be chained."""
        completer = make(name)
        assert completer.fit(thin_cohort()) is completer

    def test_refuses_to_complete_before_fit(self, name: str, section: Section) -> None:
        """Completing unfitted is an error that says what to do."""
        with pytest.raises(NotFittedError, match="call fit"):
            make(name).estimate(section)

    def test_says_something_of_every_entry(self, name: str, section: Section) -> None:
        """Values, and standard deviations above 0 where it gives any, for every spot and gene."""
        found = fitted(name).estimate(section)
        assert found.mean.shape == (section.n_spots, len(section.genes))
        assert np.isfinite(found.mean).all()
        if found.sd is not None:
            assert found.sd.shape == found.mean.shape
            assert (np.isfinite(found.sd) & (found.sd > 0)).all()

    def test_leaves_counts_and_what_was_observed(self, name: str, section: Section) -> None:
        """The layer of counts is the one that came in, and observed values are its log-normalised ones."""
        counts = _counts(section)
        layers = complete(fitted(name), section).table.layers
        np.testing.assert_array_equal(sparse.csr_matrix(layers[keys.COUNTS]).toarray(), counts)
        observed = layers[keys.OBSERVED]
        np.testing.assert_array_equal(observed, counts > 0)
        expected = log_normalise(counts, section.depth)
        np.testing.assert_array_equal(layers[keys.COMPLETED][observed], expected[observed])
        if keys.COMPLETED_SD in layers:
            assert (layers[keys.COMPLETED_SD][observed] == 0).all()
            assert (layers[keys.COMPLETED_SD][~observed] > 0).all()

    def test_does_not_change_its_input(self, name: str) -> None:
        """Neither fit nor completion writes into a section."""
        cohort = thin_cohort()
        complete(make(name).fit(cohort), cohort[0])
        for now, before in zip(cohort, thin_cohort(), strict=True):
            assert list(now.table.layers) == list(before.table.layers)
            np.testing.assert_array_equal(_counts(now), _counts(before))
            np.testing.assert_array_equal(now.depth, before.depth)

    @pytest.mark.parametrize("odd", list(ODD))
    def test_completes_an_odd_section_with_finite_values(self, name: str, odd: str, section: Section) -> None:
        """Every entry of it gets a value that is no NaN and not below 0."""
        layers = complete(fitted(name), ODD[odd](section)).table.layers
        assert np.isfinite(layers[keys.COMPLETED]).all()
        assert (layers[keys.COMPLETED] >= 0).all()
        if keys.COMPLETED_SD in layers:
            assert np.isfinite(layers[keys.COMPLETED_SD]).all()

    def test_a_spot_without_counts_is_not_filled_with_all_there_could_be(self, name: str, section: Section) -> None:
        """The value of a gene that holds every count of its spot, ln(1 + 1e4), is no answer where nothing is known."""
        odd = _spots_without_counts(section)
        completed = complete(fitted(name), odd).table.layers[keys.COMPLETED]
        empty = odd.depth == 0
        assert empty.any()
        assert completed[empty].max() <= completed[~empty].max()

    def test_learns_from_odd_sections(self, name: str) -> None:
        """Odd sections among those of the fit leave no NaN behind, nor does a gene that is never measured."""
        whole = thin_cohort()
        changes = [lambda s: s, *ODD.values()]
        odd = Cohort(tuple(_gene_never_measured(f(s)) for f, s in zip(changes, whole, strict=True)), whole.card)
        found = make(name).fit(odd).estimate(whole[0])
        assert np.isfinite(found.mean).all()
        assert found.sd is None or np.isfinite(found.sd).all()

    def test_learns_from_one_donor(self, name: str) -> None:
        """With one donor the inner choices fall back to sections or stripes."""
        whole = thin_cohort()
        one = whole.where(lambda s: s.donor == whole.donors[0])
        assert np.isfinite(make(name).fit(one).estimate(whole[-1]).mean).all()

    def test_does_not_depend_on_spot_order(self, name: str, section: Section) -> None:
        """Reversing the spots of a section reverses its completion."""
        expected = fitted(name).estimate(section).mean[::-1]
        found = fitted(name).estimate(take_spots(section, slice(None, None, -1))).mean
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    def test_does_not_depend_on_what_was_completed_before(self, name: str, section: Section) -> None:
        """A section has no batch mates: others completed before it change nothing."""
        first = fitted(name).estimate(section).mean
        fitted(name).estimate(_islands(thin_cohort()[3]))
        np.testing.assert_array_equal(fitted(name).estimate(section).mean, first)

    def test_is_deterministic(self, name: str, section: Section) -> None:
        """The same data and seed give the same completion."""
        again = make(name).fit(thin_cohort()).estimate(section).mean
        np.testing.assert_allclose(again, fitted(name).estimate(section).mean, rtol=1e-5, atol=1e-5)

    def test_takes_sparse_and_dense_counts_alike(self, name: str, section: Section) -> None:
        """How a table is stored changes nothing."""
        dense = section.table.copy()
        dense.layers[keys.COUNTS] = _counts(section)
        found = fitted(name).estimate(section.with_table(dense)).mean
        np.testing.assert_array_equal(found, fitted(name).estimate(section).mean)

    def test_refuses_another_panel(self, name: str, section: Section) -> None:
        """Genes in another order are not taken for those of the fit."""
        with pytest.raises(PanelError, match="bring it to the panel"):
            fitted(name).estimate(section.with_table(section.table[:, ::-1].copy()))

    def test_refuses_what_is_no_counts(self, name: str, section: Section) -> None:
        """Normalised values, and a section without counts, are told by the section's name."""
        table = section.table.copy()
        table.layers[keys.COUNTS] = np.log1p(_counts(section))
        with pytest.raises(InputError, match=f"{section.id}.*no counts"):
            fitted(name).estimate(section.with_table(table))
        del table.layers[keys.COUNTS]
        with pytest.raises(InputError, match=f"{section.id} has no layer"):
            fitted(name).estimate(section.with_table(table))

    def test_survives_saving(self, name: str, section: Section) -> None:
        """What a fit leaves behind is arrays and plain values, and is enough to complete."""
        restored = make(name).set_fitted(join_fitted(*split_fitted(fitted(name).get_fitted())))
        np.testing.assert_array_equal(restored.estimate(section).mean, fitted(name).estimate(section).mean)

    def test_refuses_a_seed_below_0(self, name: str) -> None:
        """A completer that draws at random says which parameter is wrong."""
        if "seed" not in make(name).get_params():
            return
        with pytest.raises(InputError, match=r"seed of .* must be at least 0, got -1"):
            make(name).with_params(seed=-1).fit(thin_cohort())

    def test_parameters_round_trip_and_refuse_unknown_names(self, name: str) -> None:
        """``get_params`` is complete, and a typo is an error."""
        completer = make(name)
        assert completer.with_params().get_params() == completer.get_params()
        with pytest.raises(InputError, match="has no parameter"):
            completer.with_params(no_such_parameter=1)


def _counts(section: Section) -> np.ndarray:
    return sparse.csr_matrix(section.table.layers[keys.COUNTS]).toarray()


def _noise(section: Section) -> np.ndarray:
    return np.random.default_rng(list(section.id.encode())).random((section.n_spots, len(section.genes)))


def _with_counts(section: Section, counts: np.ndarray, *, depth_too: bool = False) -> Section:
    """Return the section with other counts; its depth loses what they lost, or is their sum."""
    table, lost = section.table.copy(), _counts(section).sum(axis=1) - counts.sum(axis=1)
    table.layers[keys.COUNTS] = sparse.csr_matrix(counts.astype(np.float32))
    table.obs[keys.DEPTH] = counts.sum(axis=1) if depth_too else section.depth - lost
    return section.with_table(table)
