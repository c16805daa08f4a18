"""Out-of-distribution score: how unlike the training inputs a spot looks."""

from dataclasses import dataclass

import numpy as np

N_COMPONENTS = 16  # directions that are weighed one by one; the rest counts as one


@dataclass(frozen=True)
class Novelty:
    """Distance from the training inputs, as a share of training spots that lie closer.

    The distance is Mahalanobis's in the leading components plus the scaled residual outside of
    them, so that an image unlike any training image shows even where the components do not reach.

    Parameters
    ----------
    basis
        Leading directions, shape ``(n_dims, n_components)``.
    variance
        Of the training inputs along them, shape ``(n_components,)``.
    residual
        Mean squared training residual outside of them, shape ``(1,)``.
    distances
        Sorted distances of the training spots, shape ``(n_quantiles,)``.
    """

    basis: np.ndarray
    variance: np.ndarray
    residual: np.ndarray
    distances: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, *, seed: int = 0) -> "Novelty":
        """Learn from standardised inputs, shape ``(n_spots, n_dims)``."""
        start = np.random.default_rng(seed).normal(size=(x.shape[1], N_COMPONENTS)).astype(x.dtype)
        sketch = np.linalg.qr(x.T @ (x @ start))[0] if len(x) > N_COMPONENTS else np.zeros((x.shape[1], 0), x.dtype)
        _, _, rows = np.linalg.svd(x @ sketch, full_matrices=False)
        basis = sketch @ rows.T
        scores = x @ basis
        variance = np.maximum(scores.var(axis=0), 1e-12)
        residual = np.maximum(((x - scores @ basis.T) ** 2).sum(axis=1).mean(keepdims=True), 1e-12)
        distance = _distance(x, basis, variance, residual)
        return cls(basis, variance, residual, np.quantile(distance, np.linspace(0, 1, 201)))

    def score(self, x: np.ndarray) -> np.ndarray:
        """Return the share of training spots that lie closer, 0 to 1, shape ``(n_spots,)``."""
        distance = _distance(x, self.basis, self.variance, self.residual)
        return np.searchsorted(self.distances, distance, side="left") / len(self.distances)


def _distance(x: np.ndarray, basis: np.ndarray, variance: np.ndarray, residual: np.ndarray) -> np.ndarray:
    scores = x @ basis
    outside = np.maximum((x * x).sum(axis=1) - (scores * scores).sum(axis=1), 0.0)
    return (scores**2 / variance).sum(axis=1) + outside / residual
