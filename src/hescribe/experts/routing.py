"""Which experts a tile is sent to: by its distance from the centres of their clusters, in units that fit the features.

SPADE (Redekop et al., 2025, arXiv:2506.21857). We differ: features are standardised, the temperature is in units of the
median distance from the nearest centre, and a tile that is far from all centres is told.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from hescribe.errors import FormatError, InputError
from hescribe.experts.clustering import BLOCK, Clusters, distances
from hescribe.prep.scale import Scale

HARD, UNIFORM = 0.0, float("inf")  # temperatures
PUBLISHED_TEMPERATURE = 0.1  # of distances as they are


@dataclass(frozen=True)
class Router:
    """Clusters, and what is done to features before they are compared with them.

    Parameters
    ----------
    clusters
        Fitted on train tiles.
    scale
        Of the features; None leaves them as they are.
    unit
        Distance that a temperature of 1 stands for.
    """

    clusters: Clusters
    scale: Scale | None
    unit: float

    def weights(self, x: np.ndarray, temperature: float) -> np.ndarray:
        """Return how much each expert says of each tile, shape ``(n_tiles, n_experts)`` float32, sum 1.

        A softmax over all fine clusters, summed by expert.

        Parameters
        ----------
        x
            Features, shape ``(n_tiles, n_dims)``.
        temperature
            0 sends a tile to the expert of the nearest cluster alone; infinity gives each cluster the same weight.

        Raises
        ------
        InputError
            If the temperature is negative, or the features have other dims than the clusters.
        """
        if not temperature >= 0:
            raise InputError(f"temperature must be at least 0, got {temperature}")
        self._check(x)
        member = np.eye(self.clusters.n_experts, dtype=np.float32)[self.clusters.expert]  # (n_fine, n_experts)
        out = np.empty((len(x), self.clusters.n_experts), dtype=np.float32)
        for start in range(0, len(x), BLOCK):
            rows = slice(start, start + BLOCK)
            found = self._distances(x[rows])
            if temperature == HARD:
                out[rows] = member[found.argmin(axis=1)]
                continue
            found -= found.min(axis=1, keepdims=True)  # e^0 for the nearest: the others may vanish, it does not
            share = np.exp(-found / np.float32(temperature * self.unit))
            share /= share.sum(axis=1, keepdims=True)
            out[rows] = share @ member
        return out

    def nearest(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the expert of the nearest cluster of each tile, and how far that is in the router's unit."""
        self._check(x)
        expert, distance = np.empty(len(x), dtype=np.int64), np.empty(len(x), dtype=np.float32)
        for start in range(0, len(x), BLOCK):
            rows = slice(start, start + BLOCK)
            fine, distance[rows] = self.clusters.nearest(self._scaled(x[rows]))
            expert[rows] = self.clusters.expert[fine]
        return expert, distance / np.float32(self.unit)

    def is_far(self, x: np.ndarray) -> np.ndarray:
        """Return which tiles are further from every centre than 99 % of the train tiles, shape ``(n_tiles,)``."""
        return self.nearest(x)[1] > self.clusters.far / self.unit

    def state(self) -> dict[str, np.ndarray]:
        """Return it as arrays, to be saved."""
        c = self.clusters
        facts = {"near": c.near, "far": c.far, "unit": self.unit}
        scale = {} if self.scale is None else {"mean": self.scale.mean, "sd": self.scale.sd}
        return {
            "centres": c.centres, "expert": c.expert, "size": c.size, **scale,
            **{name: np.array([value]) for name, value in facts.items()},
        }  # fmt: skip

    @classmethod
    def restore(cls, arrays: dict[str, np.ndarray], organs: tuple[str, ...]) -> Self:
        """Return what ``state`` gave.

        Raises
        ------
        FormatError
            If an array is missing, or their shapes do not fit together.
        """
        needed = {"centres", "expert", "size", "near", "far", "unit"}
        if not needed <= arrays.keys() <= needed | {"mean", "sd"}:
            raise FormatError(f"a router has missing or unknown arrays ({min(needed ^ arrays.keys())}); fit it again")
        n_fine = {len(arrays["centres"]), len(arrays["expert"]), len(arrays["size"]), len(organs)}
        if len(n_fine) > 1 or arrays["expert"].min() < 0:
            raise FormatError("the arrays of a router do not fit together; fit it again")
        near, far, unit = (float(arrays[name][0]) for name in ("near", "far", "unit"))
        clusters = Clusters(arrays["centres"], arrays["expert"], arrays["size"], organs, near, far)
        return cls(clusters, Scale(arrays["mean"], arrays["sd"]) if "mean" in arrays else None, unit)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return x if self.scale is None else self.scale.apply(np.asarray(x, dtype=np.float32))

    def _distances(self, x: np.ndarray) -> np.ndarray:
        return distances(self._scaled(x), self.clusters.centres)

    def _check(self, x: np.ndarray) -> None:
        if x.ndim != 2 or x.shape[1] != (n_dims := self.clusters.centres.shape[1]):
            raise InputError(f"the router was fitted on features of {n_dims} dims, got shape {x.shape}")
