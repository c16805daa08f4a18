"""Bring inputs to one scale, whatever their unit."""

from dataclasses import dataclass

import numpy as np

from hescribe.errors import InputError

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
        mean = x.mean(axis=0, dtype=np.float64).astype(x.dtype)  # sums in float32 depend on the order of spots
        sd = np.sqrt(np.square(x - mean).mean(axis=0, dtype=np.float64))
        return cls(mean, np.where(sd > CONSTANT * np.median(sd), sd, np.inf).astype(x.dtype))

    @classmethod
    def overall(cls, x: np.ndarray) -> "Scale":
        """Return the scale of ``x`` with one sd for all inputs, which keeps their sizes beside each other.

        Examples
        --------
        >>> Scale.overall(np.array([[-3.0, 0.5], [3.0, -0.5]])).apply(np.array([[3.0, 0.5]])).round(2).tolist()
        [[1.39, 0.23]]
        """
        mean = x.mean(axis=0)
        sd = float(np.sqrt(np.square(x - mean).mean()))
        return cls(mean, np.full(x.shape[1], sd or np.inf, dtype=x.dtype))

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return standardised inputs, cut at 10 sd; constant ones are 0.

        Raises
        ------
        InputError
            If there are not as many as the scale was taken of.
        """
        if x.shape[-1] != self.mean.shape[-1]:
            raise InputError(
                f"{self.mean.shape[-1]} inputs were scaled in training, and {x.shape[-1]} are read now: the encoder or "
                "its fields of view are others; fit again"
            )
        out = x - self.mean
        out /= self.sd  # in place: at 10^5 spots each further copy costs as much as the arithmetic
        return np.clip(out, -LIMIT, LIMIT, out=out)
