"""The third step of ``stacked``: the section itself says how far to trust each guess.

Visible counts are hidden once more and asked of the first two steps. Where they err in this tissue, because it is
measured deeper than any in training or is of another kind, plainer guesses take their place.
"""

from dataclasses import dataclass

import numpy as np

from hescribe.complete._entry_network import FIRST, LEVELS, OFFSET, SHARE, EntryNetwork

PRIOR = 100  # entries that the training donors count for


@dataclass(frozen=True)
class Settled:
    """How the guesses of a section are weighed.

    Parameters
    ----------
    weights
        Of the terms, then a constant, shape ``(n_terms + 1,)``.
    widening
        What standard deviations are multiplied by.
    """

    weights: np.ndarray
    widening: float

    @classmethod
    def on(cls, x: np.ndarray, answer: np.ndarray, network: EntryNetwork) -> "Settled":
        """Return the weights that answer a section's own questions best.

        Parameters
        ----------
        x
            Features of the entries asked for, shape ``(n_features, n_entries)``; without any, the second step's
            guess is kept as it is.
        answer
            Their residuals, shape ``(n_entries,)``.
        network
            The second step.
        """
        value, sd = network.infer(x)
        terms = np.stack(_terms(x, value), axis=1).astype(np.float64)
        weights = np.zeros(terms.shape[1])
        weights[0] = 1
        scale = np.concatenate(_terms(network.sd[:, None], network.sd[[FIRST]]))
        gram = terms.T @ terms + PRIOR * np.diag(scale**2)
        weights += np.linalg.solve(gram, terms.T @ (answer - terms @ weights))
        squares = ((answer - terms @ weights) / sd) ** 2
        return cls(weights, float(np.sqrt((squares.sum() + PRIOR) / (len(squares) + PRIOR))))

    def infer(self, x: np.ndarray, network: EntryNetwork) -> tuple[np.ndarray, np.ndarray]:
        """Return residual and standard deviation of entries with features of shape ``(n_features, n_entries)``."""
        value, sd = network.infer(x)
        weighed = sum(float(w) * term for w, term in zip(self.weights, _terms(x, value), strict=True))
        return np.asarray(weighed), sd * np.float32(self.widening)


def _terms(x: np.ndarray, value: np.ndarray) -> list[np.ndarray]:
    """Return both guesses, how far the spot and its surroundings lie above the section, and 1."""
    levels = [x[level] for level in LEVELS]
    return [value, x[FIRST], x[OFFSET], x[OFFSET] * x[SHARE], *levels, np.ones(len(value), dtype=np.float32)]
