"""The predictor contract: expression of every spot from its histology."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import pandas as pd

from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.registry import Registry


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted expression of one section.

    Parameters
    ----------
    mean
        ln(1 + 1e4 * count / depth), shape ``(n_spots, n_genes)``.
    genes
        Names of the columns.
    lower, upper
        Ends of an interval, same shape as ``mean``; None if the method gives none.
    ood
        How unlike the training images each spot looks, 0 to 1, shape ``(n_spots,)``; None if the
        method does not read the image.
    recall
        Share of the true neighbours that an approximate search found; None without such a search.
    filled
        Share of the values that are the train mean, for another tool predicted none; None where that cannot be.
    """

    mean: np.ndarray
    genes: tuple[str, ...]
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None
    ood: np.ndarray | None = None
    recall: float | None = None
    filled: float | None = None


@runtime_checkable
class Predictor(Protocol):
    """Anything with ``fit`` and ``predict``; no base class is needed.

    ``fit`` learns from the kept spots of the train sections (``layers["target"]``); ``predict``
    is given a blind section and returns every spot of it, whatever order the spots come in.
    """

    name: ClassVar[str]
    card: ClassVar[MethodCard]

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Learn from a train cohort and return the predictor.

        Parameters are chosen by the inner rule, or on ``val`` where one is given.
        """
        ...

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot of a blind section."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A predictor whose predictions are weighted sums over training spots, and that can name them."""

    def explain(self, section: Section) -> pd.DataFrame:
        """Return the training spots that the prediction of every spot rests on.

        Returns
        -------
        One line for each of them, heaviest first: ``spot, rank, section, donor, train_spot, distance, weight``. The
        weights of neighbours add up to 1. Those of a ridge are of either sign and multiply differences from the mean
        expression; then only the heaviest are named, and ``share`` says how much of all the weight each has.

        Raises
        ------
        InputError
            If the fit did not keep what is needed.
        """
        ...


@runtime_checkable
class GeneWise(Protocol):
    """A predictor that treats each gene alone once its parameters are chosen, so that genes can be added in blocks."""

    def fit_blocks(self, blocks: Iterable[Cohort]) -> Self:
        """Return a copy for the genes of all blocks, with the parameters that this fit chose.

        A gene is predicted as if it had been in the panel of the fit, and the others had not.

        Parameters
        ----------
        blocks
            The train cohort of the fit on one block of genes after the other; at least one, no gene twice.
        """
        ...


predictors: Registry[Predictor] = Registry("predictor", "hescribe.predict")
