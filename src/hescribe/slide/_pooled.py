"""Slides as one vector each: what models without a network of their own read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hescribe.params import Params
from hescribe.prep.scale import Scale
from hescribe.slide.bags import Bag
from hescribe.slide.base import check_fit, read_scaled, tile_scale
from hescribe.slide.targets import Target

Pool = Literal["mean", "max", "mean_max"]


@dataclass(kw_only=True)
class PooledModel(Params):
    """A model of pooled tiles.

    Parameters
    ----------
    pool
        What stands for a slide: the mean of its tiles, their maximum, or both side by side.
    """

    pool: Pool = "mean"

    def attention(self, bag: Bag) -> np.ndarray:
        """Return how much each tile weighs in the pooled slide, shape ``(n_tiles,)``.

        In a mean all alike; in the maxima by the share of dims in which a tile is the largest.
        """
        x = read_scaled(bag, self._tiles())
        alike = np.full(len(x), 1 / len(x))
        largest = np.bincount(x.argmax(axis=0), minlength=len(x)) / x.shape[1]
        return {"mean": alike, "max": largest, "mean_max": (alike + largest) / 2}[self.pool]

    def pool_train(self, bags: Sequence[Bag], target: Target) -> np.ndarray:
        """Return the pooled tiles of checked train bags, and remember their scale."""
        check_fit(bags, target)
        tiles = tile_scale(bags)
        self.tile_mean_, self.tile_sd_ = tiles.mean, tiles.sd
        return self.pool_bags(bags)

    def pool_bags(self, bags: Iterable[Bag]) -> np.ndarray:
        """Return the pooled tiles of each bag, which are read one after the other.

        Returns
        -------
        Shape ``(n_bags, n_dims)`` float64, twice as wide with ``"mean_max"``.
        """
        tiles, rows = self._tiles(), []
        for bag in bags:
            x = read_scaled(bag, tiles)
            mean, largest = x.mean(axis=0, dtype=np.float64), x.max(axis=0).astype(np.float64)
            rows.append({"mean": mean, "max": largest, "mean_max": np.append(mean, largest)}[self.pool])
        return np.array(rows).reshape(len(rows), len(tiles.mean) * (2 if self.pool == "mean_max" else 1))

    def _tiles(self) -> Scale:
        self.check_fitted()
        return Scale(self.tile_mean_, self.tile_sd_)
