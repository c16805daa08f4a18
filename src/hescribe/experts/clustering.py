"""Clusters of tiles in two stages: within each organ, then of the centres across organs.

SPADE (Redekop et al., 2025, arXiv:2506.21857). We differ: a centre counts as much as the tiles it stands for, k-means
is seeded, tiles are read in blocks, and the number of clusters is chosen by a rule: see ``stability``.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from hescribe.errors import InputError

BLOCK = 8192  # tiles read at once: 34 MB at 1,024 dims
N_SAMPLE = 10_000  # tiles of an organ that k-means is started on
N_STARTS = 3  # of k-means among tiles, which are many; the few centres get more
N_STARTS_CENTRES = 10
FAR = 0.99  # share of the train tiles that are not far from every centre


class Tiles(Protocol):
    """Rows that can be read some at a time: an array, an h5py dataset, or ``NpyTiles``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n_tiles, n_dims)``."""
        ...

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return some rows."""
        ...


class NpyTiles:
    """The rows of an ``.npy`` file, mapped anew for every block so that what was read does not stay in memory.

    Parameters
    ----------
    path
        Of a two-dimensional array.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shape: tuple[int, ...] = np.load(path, mmap_mode="r", allow_pickle=False).shape

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return some rows."""
        return np.array(np.load(self.path, mmap_mode="r", allow_pickle=False)[rows])


@dataclass(frozen=True)
class Clusters:
    """Fine clusters, each of one organ, and the coarse cluster that each belongs to.

    Parameters
    ----------
    centres
        Shape ``(n_fine, n_dims)`` float32.
    expert
        Coarse cluster of each fine one, shape ``(n_fine,)``.
    size
        Train tiles of each fine cluster, shape ``(n_fine,)``.
    organs
        Of each fine cluster.
    near, far
        Distance of a train tile from the nearest centre: its median, and its 99th percentile.
    """

    centres: np.ndarray
    expert: np.ndarray
    size: np.ndarray
    organs: tuple[str, ...]
    near: float
    far: float

    @property
    def n_experts(self) -> int:
        """Number of coarse clusters."""
        return int(self.expert.max()) + 1

    def tiles_of_experts(self) -> np.ndarray:
        """Return the number of train tiles of each coarse cluster, shape ``(n_experts,)``."""
        return np.bincount(self.expert, self.size).astype(np.int64)

    def nearest(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest fine cluster of each tile and the distance, shapes ``(n_tiles,)``."""
        found = distances(x, self.centres)
        fine = found.argmin(axis=1)
        return fine, found[np.arange(len(x)), fine]


def distances(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return Euclidean distances, shape ``(n_tiles, n_centres)`` float32.

    Examples
    --------
    >>> distances(np.array([[0.0, 3.0]]), np.array([[4.0, 0.0], [0.0, 3.0]])).tolist()
    [[5.0, 0.0]]
    """
    x, centres = np.asarray(x, dtype=np.float32), np.asarray(centres, dtype=np.float32)
    squared = x @ (-2 * centres.T)
    squared += np.einsum("ij,ij->i", x, x)[:, None]
    squared += np.einsum("ij,ij->i", centres, centres)
    return np.sqrt(np.maximum(squared, 0, out=squared), out=squared)


def fit_clusters(
    organs: Mapping[str, Tiles], *, n_fine: int, n_experts: int, weighted: bool = True, seed: int = 0
) -> Clusters:
    """Cluster tiles within each organ, and the centres across organs.

    K-means starts on a sample of each organ; one pass over all its tiles moves the centres to the mean of theirs, and
    another one counts them. A block of tiles is in memory at a time, beside the sample.

    Parameters
    ----------
    organs
        Features of the train tiles of each organ, shape ``(n_tiles, n_dims)``, on one scale.
    n_fine
        Clusters within each organ.
    n_experts
        Clusters of all centres.
    weighted
        Count a centre as often as it has tiles; published is once, which gives an organ of few tiles as many votes.
    seed
        Of sample and starts.

    Raises
    ------
    InputError
        If an organ has fewer different tiles than clusters, there are fewer centres than ``n_experts``, organs differ
        in dims, or a value is not finite.

    Examples
    --------
    >>> left, right = np.zeros((4, 2)), np.full((4, 2), 9.0)
    >>> found = fit_clusters({"breast": left, "colon": right}, n_fine=1, n_experts=2)
    >>> found.centres.tolist(), found.size.tolist()
    ([[0.0, 0.0], [9.0, 9.0]], [4, 4])
    """
    return join_clusters(fit_fine(organs, n_fine=n_fine, seed=seed), n_experts, weighted=weighted, seed=seed)


def fit_fine(organs: Mapping[str, Tiles], *, n_fine: int, seed: int = 0) -> Clusters:
    """Return the clusters within each organ, all of one expert: see ``fit_clusters``."""
    if n_fine < 1:
        raise InputError(f"n_fine must be at least 1, got {n_fine}")
    if len(dims := {tiles.shape[1] for tiles in organs.values()}) > 1:
        raise InputError(f"organs have features of {' and '.join(map(str, sorted(dims)))} dims; embed all alike")
    centres, sizes, nearest = zip(*(_within(name, t, n_fine, seed) for name, t in organs.items()), strict=True)
    every, size, far = np.concatenate(centres), np.concatenate(sizes), np.concatenate(nearest)
    named, alone = tuple(name for name in organs for _ in range(n_fine)), np.zeros(len(every), dtype=np.int64)
    return Clusters(every, alone, size, named, float(np.median(far)), float(np.quantile(far, FAR)))


def join_clusters(fine: Clusters, n_experts: int, *, weighted: bool = True, seed: int = 0) -> Clusters:
    """Return the same fine clusters, joined across organs: see ``fit_clusters``."""
    if n_experts < 1:
        raise InputError(f"n_experts must be at least 1, got {n_experts}")
    if n_experts > (n_fine := len(fine.centres)):
        n_organs = len(set(fine.organs))
        raise InputError(
            f"n_experts is {n_experts}, more than the {n_fine} centres of {n_organs} organs; lower it, or raise n_fine"
        )
    weight = fine.size if weighted else None
    expert = _k_means(
        fine.centres, n_experts, "the centres", n_starts=N_STARTS_CENTRES, seed=seed, weight=weight
    )[1]  # fmt: skip
    return replace(fine, expert=_by_size(expert, fine.size))


def _within(organ: str, tiles: Tiles, k: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the centres of an organ, the number of their tiles, and the distance of each tile from the nearest."""
    n = tiles.shape[0]
    if n < k:
        raise InputError(f"organ {organ} has {n} train tiles and is to have {k} clusters; lower n_fine to at most {n}")
    centres, _ = _k_means(_sample(tiles, seed), k, f"organ {organ}", n_starts=N_STARTS, seed=seed)
    if n > N_SAMPLE:
        total, count = np.zeros(centres.shape), np.zeros(k)
        for x in blocks(tiles):
            fine = distances(x, centres).argmin(axis=1)
            count += np.bincount(fine, minlength=k)
            total += _one_hot(fine, k) @ x
        centres = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], centres).astype(np.float32)
    count, nearest = np.zeros(k, dtype=np.int64), []
    for x in blocks(tiles):
        found = distances(x, centres)
        nearest.append(found.min(axis=1))
        count += np.bincount(found.argmin(axis=1), minlength=k)
    return centres, count, np.concatenate(nearest)


def blocks(tiles: Tiles) -> Iterator[np.ndarray]:
    """Yield all rows as float32, some at a time.

    Raises
    ------
    InputError
        If a value is not finite.
    """
    for start in range(0, tiles.shape[0], BLOCK):
        x = np.asarray(tiles[start : start + BLOCK], dtype=np.float32)
        if not np.isfinite(x.sum()):
            row = int(np.argwhere(~np.isfinite(x))[0][0]) + start
            raise InputError(f"features of tile {row} are not finite; embed it again, or leave it out")
        yield x


def _sample(tiles: Tiles, seed: int) -> np.ndarray:
    n = tiles.shape[0]
    rows = np.sort(np.random.default_rng(seed).choice(n, min(n, N_SAMPLE), replace=False))
    parts, start = [], 0
    for x in blocks(tiles):
        parts.append(x[rows[(rows >= start) & (rows < start + len(x))] - start])
        start += len(x)
    return np.concatenate(parts)


def _one_hot(code: np.ndarray, k: int) -> np.ndarray:
    """Return which row has which code, shape ``(k, n)`` float32."""
    return (np.arange(k)[:, None] == code).astype(np.float32)


def _k_means(
    x: np.ndarray, k: int, what: str, *, n_starts: int, seed: int, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return centres and labels; ``what`` is clustered, for messages."""
    from sklearn.cluster import KMeans  # noqa: PLC0415 - 0.5 s
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - as above
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - as above

    # One core: on a shared machine the threads of k-means wait for each other longer than they compute.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="openmp"):
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            found = KMeans(k, n_init=n_starts, random_state=seed).fit(x, sample_weight=weight)
        except ConvergenceWarning as warning:
            raise InputError(
                f"{what}: fewer than {k} tiles differ in their features; ask for fewer clusters"
            ) from warning
    return found.cluster_centers_.astype(np.float32), found.labels_


def _by_size(expert: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return labels counted from the cluster with most tiles on, so that they do not depend on the start."""
    total = np.bincount(expert, size)
    place = np.empty(len(total), dtype=np.int64)
    place[np.argsort(-total, kind="stable")] = np.arange(len(total))
    return place[expert]
