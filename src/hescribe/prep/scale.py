"""Bring inputs to one scale, whatever their unit."""

from dataclasses import dataclass

import numpy as np

CONSTANT = 1e-3  # a feature with less than this share of the median sd is constant: rounding must not be blown up
LIMIT = 10.0  # sd; a channel that was nearly silent in training must not shout on another scanner


@dataclass(frozen=True)
class Scale:
    """Mean and sd of each input, shape ``(n_dims,)``; the sd of a constant input is infinite."""

    mean: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> "Scale":
        """Return the scale of ``x``, shape ``(n_spots, n_dims)``."""
        sd = x.std(axis=0)
        return cls(x.mean(axis=0), np.where(sd > CONSTANT * np.median(sd), sd, np.inf).astype(x.dtype))

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return standardised inputs, cut at 10 sd; constant ones are 0."""
        return np.clip((x - self.mean) / self.sd, -LIMIT, LIMIT)
