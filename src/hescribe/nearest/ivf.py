"""Approximate search: only the lists of the bank whose centres are nearest to the query are looked through.

Sivic and Zisserman, Video Google, ICCV 2003, doi:10.1109/ICCV.2003.1238663; faiss (Douze et al., arXiv 2401.08281)
does the work. It is used only where it is asked for by name, and says what share of the true neighbours it found.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hescribe._support import import_extra
from hescribe.errors import InputError
from hescribe.nearest.scan import Scan
from hescribe.nearest.search import Metric, Neighbours, check_search, measure, nearest

RECALL = 0.99  # of rows of the bank, on which the number of lists to look through is tuned
SAMPLE = 100  # queries that are answered exactly too
ROWS_PER_LIST = 256  # 4,000 lists of a million rows: comparing with the centres costs as much as with 16 lists
FEW_LISTS, SHARE_OF_LISTS = 16, 1 / 32  # no more are looked through: the exact search would be as fast
TRAINING_ROWS_PER_LIST, N_ROUNDS = 32, 10  # of the k-means, which gains little from more


@dataclass(frozen=True)
class IvfIndex:
    """A bank sorted into lists by k-means. Beside the bank it holds a copy of it in float32.

    Parameters
    ----------
    bank
        Shape ``(n_bank, n_dims)``.
    metric
        ``"cosine"`` or ``"l2"``.
    lists
        faiss's index.
    n_probe
        Lists to look through for a query.
    seed
        Of the k-means and of the sampled queries.
    """

    bank: np.ndarray
    metric: Metric
    lists: Any
    n_probe: int
    seed: int

    @classmethod
    def build(cls, bank: np.ndarray, *, k: int, metric: Metric = "cosine", seed: int = 0) -> "IvfIndex":
        """Return the index of a bank that looks through as few lists as give 99 % of the k nearest.

        That is tuned on rows of the bank, and never more than a 32nd of the lists (or 16) are looked through: in banks
        without clusters, and for queries unlike the bank, the search finds less, and ``search`` measures how much.

        Raises
        ------
        MissingDependencyError
            If faiss is not installed.
        InputError
            If the metric is L1, or the bank cannot be searched.
        """
        if metric == "l1":
            raise InputError("the approximate search knows cosine and l2; use the exact one for l1")
        faiss = import_extra("faiss", "retrieval", "approximate search")
        bank = np.asarray(bank)
        check_search(bank, bank, k, metric)
        vectors, n_lists, n_dims = _vectors(bank, metric, "bank"), max(1, len(bank) // ROWS_PER_LIST), bank.shape[1]
        lists = faiss.IndexIVFFlat(faiss.IndexFlatL2(n_dims), n_dims, n_lists, faiss.METRIC_L2)
        lists.cp.seed, lists.cp.niter, lists.cp.min_points_per_centroid = seed + 1, N_ROUNDS, 1
        lists.train(vectors[_sample(len(bank), TRAINING_ROWS_PER_LIST * n_lists, seed)])
        lists.add(vectors)
        index = cls(bank, metric, lists, 1, seed)
        return replace(index, n_probe=index._n_probe_for(k))

    def search(self, query: np.ndarray, k: int) -> Neighbours:
        """Return the k nearest rows found, best first, and the share of the true ones among them.

        The share is measured against the exact search on at most 100 of the queries. Where the lists looked through
        hold fewer than k rows, the query is answered exactly.

        Raises
        ------
        InputError
            As for ``nearest``.
        """
        query = np.asarray(query)
        check_search(query, self.bank, k, self.metric)
        rows = self._ask(query, k, self.n_probe)
        if (short := (rows < 0).any(axis=1)).any():
            rows[short] = nearest(query[short], self.bank, k, metric=self.metric).rows
        distance = measure(query, self.bank, rows, metric=self.metric)
        order = np.lexsort((rows, distance))
        rows, distance = (np.take_along_axis(x, order, axis=1) for x in (rows, distance))
        asked = _sample(len(query), SAMPLE, self.seed)
        return Neighbours(rows, distance, self._recall(query[asked], distance[asked]))

    def _ask(self, query: np.ndarray, k: int, n_probe: int) -> np.ndarray:
        faiss = import_extra("faiss", "retrieval", "approximate search")
        options = faiss.SearchParametersIVF(nprobe=n_probe)
        return self.lists.search(_vectors(query, self.metric, "query"), k, params=options)[1]

    def _recall(self, query: np.ndarray, distance: np.ndarray) -> float:
        """Return the share of what was found that is as near as the k-th true neighbour."""
        exact = nearest(query, self.bank, distance.shape[1], metric=self.metric)
        return float(np.mean(distance <= exact.distance[:, -1:])) if len(query) else 1.0

    def _n_probe_for(self, k: int) -> int:
        """Return the lowest power of two of lists that finds enough of the neighbours of rows of the bank."""
        asked = self.bank[_sample(len(self.bank), SAMPLE, self.seed)]
        most, n_probe = min(self.lists.nlist, max(FEW_LISTS, int(self.lists.nlist * SHARE_OF_LISTS))), 1
        while n_probe < most:
            rows = self._ask(asked, k, n_probe)
            found = (rows >= 0).all(axis=1)
            distance = measure(asked[found], self.bank, rows[found], metric=self.metric)
            if found.mean() * self._recall(asked[found], distance) >= RECALL:
                break
            n_probe *= 2
        return min(n_probe, most)


def _vectors(x: np.ndarray, metric: str, what: str) -> np.ndarray:
    """Return float32 vectors whose L2 distance has the order of the metric."""
    x = np.ascontiguousarray(x, dtype=None if x.dtype == np.float32 else np.float64)
    return np.ascontiguousarray(Scan(metric, np.zeros(x.shape[1])).prepare(x, what, 0).scanned[:, : x.shape[1]])


def _sample(n: int, most: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n)[:most] if n > most else np.arange(n)
