"""Which genes go together: co-expression that a prediction keeps, loses or makes up."""

from dataclasses import dataclass

import numpy as np

from hescribe.errors import InputError
from hescribe.metrics.base import centre
from hescribe.metrics.ceiling import Normalise, split_halves, step_up
from hescribe.metrics.gene import correlate

CLEAR = 0.2  # correlation of two measured genes whose sign is worth asking for
N_SPLITS = 5


@dataclass(frozen=True)
class Coexpression:
    """Correlations between the genes of one section, measured and predicted.

    Parameters
    ----------
    genes
        Those that vary in both; the others are counted in ``n_undefined``.
    measured, predicted
        Correlation of every two genes over spots, shape ``(n_genes, n_genes)``.
    agreement
        Correlation of the two over all pairs of different genes; NaN with fewer than three genes.
    ceiling
        What ``agreement`` would be for a perfect prediction, given the noise in the counts.
    signs_kept
        Share of the pairs measured beyond 0.2 whose predicted correlation has the same sign; NaN if there is none.
    strength_measured, strength_predicted
        Mean absolute correlation of a pair. Noise weakens the measured one; a prediction made of few patterns
        strengthens its own.
    n_undefined
        Genes that are constant where measured or predicted.
    """

    genes: tuple[str, ...]
    measured: np.ndarray
    predicted: np.ndarray
    agreement: float
    ceiling: float
    signs_kept: float
    strength_measured: float
    strength_predicted: float
    n_undefined: int


def compare_coexpression(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    genes: tuple[str, ...],
    *,
    counts: np.ndarray,
    depth: np.ndarray,
    normalise: Normalise,
    seed: int = 0,
) -> Coexpression:
    """Return how the correlations between genes survive in a prediction.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(n_spots, n_genes)``.
    genes
        Names of the columns.
    counts, depth, normalise
        Behind ``y_true``, for the ceiling: see ``metrics.ceiling``.
    seed
        Of the thinning.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    if y_true.shape != y_pred.shape or y_true.shape != counts.shape or y_true.shape[1] != len(genes):
        raise InputError(
            f"y_true, y_pred, counts and genes are of {y_true.shape}, {y_pred.shape}, {counts.shape} and {len(genes)} "
            "(n_spots, n_genes); they must be of the same spots and genes"
        )
    varies = ~(centre(y_true.astype(np.float64)).is_constant | centre(y_pred.astype(np.float64)).is_constant)
    measured, predicted = _correlations(y_true[:, varies]), _correlations(y_pred[:, varies])
    a, b = _pairs(measured), _pairs(predicted)
    clear = np.abs(a) > CLEAR
    halves = split_halves(counts[:, varies], depth, normalise, seed=seed, n_splits=N_SPLITS)
    repeated = [_agreement(_pairs(_correlations(x)), _pairs(_correlations(y))) for x, y in halves]
    return Coexpression(
        genes=tuple(g for g, is_in in zip(genes, varies, strict=True) if is_in),
        measured=measured, predicted=predicted, agreement=_agreement(a, b),
        ceiling=float(step_up(np.array(repeated)[:, None])[0]),
        signs_kept=float((a[clear] * b[clear] > 0).mean()) if clear.any() else float("nan"),
        strength_measured=float(np.abs(a).mean()) if len(a) else float("nan"),
        strength_predicted=float(np.abs(b).mean()) if len(b) else float("nan"),
        n_undefined=int((~varies).sum()),
    )  # fmt: skip


def _correlations(values: np.ndarray) -> np.ndarray:
    """Return the correlation of every two columns; NaN for a constant one."""
    x, power, constant = centre(values.astype(np.float64))
    x = x / np.sqrt(np.where(constant, np.nan, power))
    return np.clip(x.T @ x, -1.0, 1.0)


def _pairs(matrix: np.ndarray) -> np.ndarray:
    """Return the entries above the diagonal."""
    return matrix[np.triu_indices(len(matrix), 1)]


def _agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation over pairs that are defined on both sides; NaN with fewer than three of them."""
    both = np.isfinite(a) & np.isfinite(b)
    return float(correlate(a[both, None], b[both, None])[0]) if both.sum() > 2 else float("nan")
