"""A metric is a pure numpy function on ``(y_true, y_pred, context)`` plus a frozen card."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from hescribe.errors import InputError

CONSTANT = 1e-6  # an sd below this share of the values is rounding, not variation


@dataclass(frozen=True, slots=True)
class MetricContext:
    """What some metrics need beside the two arrays.

    Parameters
    ----------
    depth
        Counts of each spot over all measured genes, shape ``(n_spots,)``.
    counts
        Raw counts behind ``y_true``, shape ``(n_spots, n_genes)``.
    """

    depth: np.ndarray | None = None
    counts: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """Mean of a metric over what is defined, and how much is not."""

    value: float
    n_defined: int
    n_undefined: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A score of a prediction: one value for each gene, for each spot, or for each entry that is scored.

    An undefined value (a constant gene has no correlation) is NaN in the array and is *counted*
    by ``summary``: never dropped in silence, never 0, never NaN for the whole.

    Parameters
    ----------
    name, title
        Identifier and name for people.
    fn
        ``(y_true, y_pred, context) -> values``; arrays of shape ``(n_spots, n_genes)``.
    axis
        What one value belongs to.
    higher_is_better
        Direction.
    bounds
        Smallest and largest possible value.
    scale_free
        True if the unit and offset of a prediction do not matter (correlations).
    chance
        Expected value of a prediction that knows nothing; None if it depends on the data.
    """

    name: str
    title: str
    fn: Callable[[np.ndarray, np.ndarray, MetricContext], np.ndarray]
    axis: Literal["gene", "spot", "entry"]
    higher_is_better: bool
    bounds: tuple[float, float]
    scale_free: bool
    chance: float | None = None

    def __call__(self, y_true: np.ndarray, y_pred: np.ndarray, context: MetricContext | None = None) -> np.ndarray:
        """Return one value for each gene, spot or entry; NaN where undefined.

        Raises
        ------
        InputError
            If the shapes differ, there is no spot, or a value is not finite.
        """
        if y_true.shape != y_pred.shape or y_true.ndim != 2:
            raise InputError(f"y_pred has shape {y_pred.shape}, expected {y_true.shape} (n_spots, n_genes)")
        if not len(y_true):
            raise InputError(f"{self.name} needs at least one spot")
        for label, values in (("y_true", y_true), ("y_pred", y_pred)):
            if not np.isfinite(values).all():
                spot, gene = np.argwhere(~np.isfinite(values))[0]
                raise InputError(f"{label} is not finite at spot {spot}, gene {gene}")
        return self.fn(y_true.astype(np.float64), y_pred.astype(np.float64), context or MetricContext())

    def summary(self, y_true: np.ndarray, y_pred: np.ndarray, context: MetricContext | None = None) -> MetricSummary:
        """Return the mean over what is defined, with the counts of both."""
        return summarise(self(y_true, y_pred, context))


def summarise(values: np.ndarray) -> MetricSummary:
    """Return the mean of the finite values and how many are finite.

    Examples
    --------
    >>> summarise(np.array([1.0, np.nan, 2.0]))
    MetricSummary(value=1.5, n_defined=2, n_undefined=1)
    """
    defined = np.isfinite(values)
    n = int(defined.sum())
    return MetricSummary(float(values[defined].mean()) if n else float("nan"), n, int(values.size - n))


class Centred(NamedTuple):
    """Columns less their mean, the sum of squares of each, and which do not vary beyond rounding."""

    values: np.ndarray
    power: np.ndarray
    is_constant: np.ndarray


def centre(values: np.ndarray) -> Centred:
    """Return the columns less their mean.

    Parameters
    ----------
    values
        Shape ``(n, n_columns)``, float64.
    """
    mean = values.mean(axis=0)
    centred = values - mean
    power = np.einsum("ij,ij->j", centred, centred)
    sd = np.sqrt(power / len(values))
    return Centred(centred, power, sd <= CONSTANT * (np.abs(mean) + sd))


@cache
def all_metrics() -> dict[str, Metric]:
    """Return every metric of this package by name; a new one only has to stand in a module here."""
    package = importlib.import_module("hescribe.metrics")
    modules = [importlib.import_module(f"hescribe.metrics.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    found = [v for module in modules for v in vars(module).values() if isinstance(v, Metric)]
    return {m.name: m for m in found}
