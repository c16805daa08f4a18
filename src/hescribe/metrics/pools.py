"""Pools of candidates that retrieval is scored on, and how they are drawn."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from hescribe.metrics.pairs import Pairs

PoolKind = Literal["within_section", "across_sections", "across_donors", "mixed"]

POOLS: dict[PoolKind, str] = {
    "within_section": "spots of the query's section: stain and slide cannot help",
    "across_sections": "half its section, half other sections of its donor, each alike",
    "across_donors": "spots of other donors, each alike; a hit is one of the 10 that express most like the query",
    "mixed": "half its section, half other donors, each alike: the slide's offset can hide the pair",
}
COMPARED = 2**21  # queries times candidates at once: 16 MB, which stays in the cache


class Pool(NamedTuple):
    """Queries of one section and the candidates of all of them, by row.

    Parameters
    ----------
    queries, candidates
        Rows of the pairs.
    n_near
        The first so many candidates are of the queries' section, the queries among them; 0 in pools of other donors.
    """

    queries: np.ndarray
    candidates: np.ndarray
    n_near: int


def draw_pools(pairs: Pairs, queries: np.ndarray, kind: PoolKind, size: int | None, *, seed: int) -> Iterator[Pool]:
    """Yield pools of one size that deal with every query once.

    Parameters
    ----------
    pairs
        Where spots are from.
    queries
        Rows of one section.
    kind, size
        See ``POOLS``; None: all candidates there are. There may be fewer than asked for: of a pool of two halves,
        neither is filled up by the other.
    seed
        Of the draw, for each section.

    Examples
    --------
    >>> section, donor = np.array(["a", "a", "b", "b", "b"]), np.array(["x", "x", "y", "y", "y"])
    >>> pairs = Pairs(image=np.eye(5), expression=np.eye(5), section=section, donor=donor)
    >>> [len(p.candidates) for p in draw_pools(pairs, np.array([0, 1]), "mixed", 4, seed=0)]
    [4]
    """
    section, donor = pairs.section[queries[0]], pairs.donor[queries[0]]
    rng = np.random.default_rng([seed, *str(section).encode()])
    near, far = pairs.section == section, pairs.donor != donor
    if kind == "across_sections":
        far = (pairs.donor == donor) & ~near
    near_rows = np.flatnonzero(near) if kind != "across_donors" else np.zeros(0, dtype=np.int64)
    far_rows = np.flatnonzero(far) if kind != "within_section" else np.zeros(0, dtype=np.int64)
    if not len(far_rows) and kind != "within_section":
        yield Pool(queries, far_rows, 0)
        return
    whole = len(near_rows) + len(far_rows) if size is None else size
    part = whole // 2 if len(near_rows) and len(far_rows) and size is not None else whole
    n_near, n_far = min(part, len(near_rows)), min(part, len(far_rows))
    of = (pairs.section if kind == "across_sections" else pairs.donor)[far_rows]
    at_once = min(n_near or n_far, max(COMPARED // (n_near + n_far), 1))
    order = rng.permutation(queries)
    for start in range(0, len(order), at_once):
        asked = order[start : start + at_once]
        others = near_rows[~np.isin(near_rows, asked)]
        filled = rng.permutation(others)[: n_near - len(asked)] if n_near else others
        drawn = _draw_evenly(rng, far_rows, of, n_far)
        yield Pool(asked, np.concatenate([asked[:n_near], filled, drawn]), n_near)


def _draw_evenly(rng: np.random.Generator, rows: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    """Return ``n`` rows, as many of each group as of the others, as far as it has them."""
    order = rng.permutation(len(rows))
    _, label = np.unique(group[order], return_inverse=True)
    by_group = np.argsort(label, kind="stable")
    size = np.bincount(label)
    turn = np.empty(len(rows), dtype=np.int64)  # place of a row in the draw of its group
    turn[by_group] = np.arange(len(rows)) - np.repeat(np.cumsum(size) - size, size)
    return rows[order[np.argsort(turn, kind="stable")[:n]]]
