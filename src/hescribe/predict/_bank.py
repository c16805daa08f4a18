"""A bank of training spots: what is retrieved from it, and which spots a prediction rests on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np
import pandas as pd

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.errors import InputError
from hescribe.nearest.ivf import IvfIndex
from hescribe.nearest.search import Metric, Neighbours, nearest
from hescribe.nearest.weights import Weighting, average, weigh

Index = Literal["exact", "ivf"]
N_NAMED = 20  # training spots that are named for a prediction which rests on all of them
CHUNK = 256  # predictions whose weights on all training spots are held at once
TINY = 1e-30  # where all weights are 0, so is each one's share


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How a bank is asked.

    Parameters
    ----------
    metric
        Of the distance between a query and a spot of the bank.
    weighting, temperature
        What the neighbours weigh: see ``nearest.weights.weigh``.
    index
        ``"exact"``, or ``"ivf"`` for the approximate search.
    weigh_by
        Metric of the distance that weights are taken of, ``"l1"`` or ``"l2"``; None: that of the search.
    """

    metric: Metric = "cosine"
    weighting: Weighting = "uniform"
    temperature: float = 1.0
    index: Index = "exact"
    weigh_by: Literal["l1", "l2"] | None = None


@dataclass(frozen=True)
class Bank:
    """Vectors of training spots, what they carry, and where they come from. All fields are arrays, to be saved.

    Parameters
    ----------
    vectors
        Shape ``(n_bank, n_dims)``.
    values
        Expression, shape ``(n_bank, n_genes)``.
    section
        Number of the section of every row, shape ``(n_bank,)``.
    spot_names, section_names, donor_names
        UTF-8, one name a row, padded with zeros; donors are those of the sections.
    """

    vectors: np.ndarray
    values: np.ndarray
    section: np.ndarray
    spot_names: np.ndarray
    section_names: np.ndarray
    donor_names: np.ndarray

    @classmethod
    def of(cls, train: Cohort, vectors: np.ndarray) -> Self:
        """Return the bank of the kept spots of a cohort, which carry their target.

        Parameters
        ----------
        train
            Sections with ``layers["target"]``.
        vectors
            Of the kept spots in the order of the cohort, shape ``(n_spots, n_dims)``.

        Raises
        ------
        InputError
            If no spot is kept, or there is not one vector a spot.
        """
        n_kept = [int(s.kept.sum()) for s in train]
        if not sum(n_kept):
            raise InputError("no spot of the train cohort is kept: the bank is empty; lower the limit on counts")
        if len(vectors) != sum(n_kept):
            raise InputError(f"the bank was given {len(vectors)} vectors for {sum(n_kept)} kept spots")
        return cls(
            vectors,
            train.stack(keys.TARGET),  # noqa: PD013 - a cohort's, not pandas'
            np.repeat(np.arange(len(train), dtype=np.int32), n_kept),
            _as_bytes([name for s in train for name in s.table.obs_names[s.kept]]),
            _as_bytes([s.id for s in train]),
            _as_bytes([s.donor for s in train]),
        )

    def state(self) -> dict[str, np.ndarray]:
        """Return the fields, as a fitted attribute is saved."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def restore(cls, state: object) -> Self:
        """Return the bank of a fitted attribute: see ``state``.

        Raises
        ------
        InputError
            If it is something else: models of an older version kept their banks in another form.
        """
        if not isinstance(state, dict) or state.keys() != {f.name for f in fields(cls)}:
            raise InputError("the bank of this model is of another version of the program; fit the model again")
        return cls(**state)

    def without_donor(self, donor: str) -> "Bank":
        """Return the bank without the spots of a donor.

        Raises
        ------
        InputError
            If no spot is left.
        """
        keep = (np.array(_as_names(self.donor_names)) != donor)[self.section]
        if not keep.any():
            raise InputError(f"without donor {donor} the bank is empty; it needs spots of another donor")
        rows = {name: getattr(self, name)[keep] for name in ("vectors", "values", "section", "spot_names")}
        return Bank(**rows, section_names=self.section_names, donor_names=self.donor_names)

    def section_centred(self) -> "Bank":
        """Return the bank with the level of each section taken out of what its spots carry, and the common one put in.

        A prediction averages spots of several sections. What it takes of each then tells of genes, and not of how deep
        a section was sequenced, which would enter as noise: which sections are near changes from spot to spot. The
        common level is the mean over donors of the means over their sections.
        """
        level = np.zeros((len(self.section_names), self.values.shape[1]))
        by_donor: dict[str, list[int]] = {}
        donors = _as_names(self.donor_names)
        for i in np.unique(self.section):
            level[i] = self.values[self.section == i].mean(axis=0, dtype=np.float64)
            by_donor.setdefault(donors[i], []).append(i)
        common = np.mean([level[of_donor].mean(axis=0) for of_donor in by_donor.values()], axis=0)
        return replace(self, values=(self.values - level[self.section] + common).astype(self.values.dtype))

    def means(self, query: np.ndarray, ks: Sequence[int], how: Retrieval) -> Iterator[np.ndarray]:
        """Yield what the k nearest carry, averaged, for each k (at most the bank), shape ``(n_query, n_genes)``.

        A query of zeros, which has no direction under the cosine, gets the mean of the bank.
        """
        found, asked = self._find(query, max(ks), how)
        yield from self._average(found, asked, ks, how)

    def answer(self, query: np.ndarray, k: int, how: Retrieval) -> tuple[np.ndarray, float | None]:
        """Return what ``means`` gives for one k, and the recall of an approximate search."""
        found, asked = self._find(query, k, how)
        return next(self._average(found, asked, (k,), how)), found.recall

    def _average(self, found: Neighbours, asked: np.ndarray, ks: Sequence[int], how: Retrieval) -> Iterator[np.ndarray]:
        for k in ks:
            out = np.tile(self.values.mean(axis=0, dtype=np.float64), (len(asked), 1))
            weights = weigh(found.distance[:, :k], how.weighting, temperature=how.temperature)
            out[asked] = average(self.values, found.rows[:, :k], weights)
            yield out

    def explain(self, query: np.ndarray, names: Sequence[str], k: int, how: Retrieval) -> pd.DataFrame:
        """Return the training spots that predictions rest on, one line a neighbour, best first.

        Parameters
        ----------
        query, names
            Vectors and names of the spots to explain.
        k, how
            As for the prediction.

        Returns
        -------
        Columns ``spot, rank, section, donor, train_spot, distance, weight``; the weights of a spot add up to 1, and the
        weighted mean of what its training spots carry is its prediction.
        """
        found, asked = self._find(query, k, how)
        rows, n = found.rows.ravel(), found.rows.shape[1]
        section = self.section[rows]
        return pd.DataFrame(
            {
                "spot": np.repeat(np.asarray(names)[asked], n),
                "rank": np.tile(np.arange(1, n + 1), len(found.rows)),
                "section": np.array(_as_names(self.section_names))[section],
                "donor": np.array(_as_names(self.donor_names))[section],
                "train_spot": _as_names(self.spot_names[rows]),
                "distance": found.distance.ravel(),
                "weight": weigh(found.distance, how.weighting, temperature=how.temperature).ravel(),
            }
        )

    def _find(self, query: np.ndarray, k: int, how: Retrieval) -> tuple[Neighbours, np.ndarray]:
        """Return the neighbours of the queries that have any, and which those are.

        Under the cosine, a vector of zeros has no direction: it has no neighbours and is nobody's.
        """
        if how.metric != "cosine":
            return self._nearest(query, self.vectors, k, how), np.ones(len(query), dtype=bool)
        asked, usable = (np.asarray((x != 0).any(axis=1)) for x in (query, self.vectors))
        if not usable.any():
            return Neighbours(np.empty((0, k), dtype=np.int64), np.empty((0, k))), np.zeros_like(asked)
        if usable.all():
            return self._nearest(query[asked], self.vectors, k, how), asked
        found = self._nearest(query[asked], self.vectors[usable], k, how)
        return replace(found, rows=np.flatnonzero(usable)[found.rows]), asked

    def _nearest(self, query: np.ndarray, vectors: np.ndarray, k: int, how: Retrieval) -> Neighbours:
        found = self._search(query, vectors, min(k, len(vectors)), how)
        if how.weigh_by is None:
            return found
        norm = 1 if how.weigh_by == "l1" else 2
        columns = [np.linalg.norm(query - vectors[rows], ord=norm, axis=1) for rows in found.rows.T]
        return replace(found, distance=np.stack(columns, axis=1))

    def _search(self, query: np.ndarray, vectors: np.ndarray, k: int, how: Retrieval) -> Neighbours:
        if how.index == "exact":
            return nearest(query, vectors, k, metric=how.metric)
        key = (how.metric, k)
        if key not in self._indexes:
            self._indexes[key] = IvfIndex.build(vectors, k=k, metric=how.metric)
        return self._indexes[key].search(query, k)

    @cached_property
    def _indexes(self) -> dict[tuple[str, int], IvfIndex]:
        """Approximate indexes by metric and k, built when first asked."""
        return {}


def name_heaviest(
    bank: Bank, query: np.ndarray, names: Sequence[str], weights: Callable[[np.ndarray], np.ndarray]
) -> pd.DataFrame:
    """Return the training spots that weigh most in predictions that are weighted sums over all of them.

    Parameters
    ----------
    bank
        Of the training spots.
    query, names
        Vectors and names of the spots to explain.
    weights
        From some of the vectors ``(n, n_dims)`` to what every training spot weighs, ``(n, n_bank)``, of either sign.

    Returns
    -------
    Columns ``spot, rank, section, donor, train_spot, distance, weight, share``, 20 lines a spot: ``distance`` is the
    Euclidean one of the vectors, ``share`` that of the weight in the sum of all absolute weights. Where the shares of a
    spot add up to little, its prediction rests on no spots in particular.
    """
    n_named = min(N_NAMED, len(bank.vectors))
    section_names, donor_names = (np.array(_as_names(n)) for n in (bank.section_names, bank.donor_names))
    parts = []
    for start in range(0, len(query), CHUNK):
        part = query[start : start + CHUNK]
        w = weights(part)
        rows = np.argsort(-np.abs(w), axis=1, kind="stable")[:, :n_named]
        own, total = np.take_along_axis(w, rows, axis=1), np.maximum(np.abs(w).sum(axis=1, keepdims=True), TINY)
        columns = [np.linalg.norm(part - bank.vectors[r], axis=1) for r in rows.T]
        flat = rows.ravel()
        parts.append(
            pd.DataFrame(
                {
                    "spot": np.repeat(np.asarray(names)[start : start + CHUNK], n_named),
                    "rank": np.tile(np.arange(1, n_named + 1), len(part)),
                    "section": section_names[bank.section[flat]],
                    "donor": donor_names[bank.section[flat]],
                    "train_spot": _as_names(bank.spot_names[flat]),
                    "distance": np.stack(columns, axis=1).ravel(),
                    "weight": own.ravel(),
                    "share": (np.abs(own) / total).ravel(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _as_bytes(names: Sequence[str]) -> np.ndarray:
    """Return names as numbers, which a model folder can hold: uint8, shape ``(n, longest)``."""
    encoded = np.array([name.encode() for name in names], dtype=np.bytes_)
    return encoded.view(np.uint8).reshape(len(names), -1)


def _as_names(encoded: np.ndarray) -> list[str]:
    flat = np.ascontiguousarray(encoded).view(f"S{encoded.shape[1]}").ravel()
    return [name.decode() for name in flat]
