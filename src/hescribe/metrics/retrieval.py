"""Retrieval between images and expression that means something: declared pools, exact chance, true sizes.

A query is one side of a spot, a candidate the other side of a spot of its pool. Pools differ in what could be
mistaken for skill: see ``metrics.pools``. The recall that HESCAPE published is kept beside it, for comparison.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, get_args

import numpy as np

from hescribe.errors import InputError
from hescribe.metrics.pairs import Pairs, profiles_without_depth, remove_depth, to_unit
from hescribe.metrics.pools import POOLS, Pool, PoolKind, draw_pools
from hescribe.metrics.ranks import SAME, Found, chance_median_rank, chance_recall, find, join, median_rank, recall

Direction = Literal["image_to_expression", "expression_to_image"]
Rule = Literal["pair", "nearest_10"]

SIZES = (64, 256, 1024, None)  # candidates; None: all there are
KS = (1, 5, 10, 50)
N_NEAREST = 10  # hits of a query in a pool of other donors
HESCAPE_BATCH = 64  # queries and candidates at once, as published


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalCard:
    """Facts about a score of retrieval; what chance reaches depends on the pool and stands in each row."""

    name: str
    title: str
    higher_is_better: bool
    bounds: tuple[float, float]


CARDS = {
    c.name: c
    for c in (
        *(
            RetrievalCard(name=f"recall_at_{k}", title=f"Recall at {k}", higher_is_better=True, bounds=(0, 1))
            for k in KS
        ),
        RetrievalCard(name="median_rank", title="Median rank", higher_is_better=False, bounds=(1, np.inf)),
        RetrievalCard(name="auc", title="AUC: one minus the mean rank, 0 to 1", higher_is_better=True, bounds=(0, 1)),
        RetrievalCard(
            name="slide_confusion", title="Top hit merely from the same section", higher_is_better=False, bounds=(0, 1)
        ),
        RetrievalCard(
            name="other_section", title="Top hit from another section", higher_is_better=False, bounds=(0, 1)
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalScore:
    """One score of the queries of one section.

    Parameters
    ----------
    metric
        A name of ``CARDS``.
    value
        NaN where the section has no such pool: its donor has one section, or there is one donor.
    chance
        Of a random order of the same pool, exact.
    section, donor
        Of the queries.
    direction
        What asks, and what is found.
    pool, asked_size, pool_size
        See ``metrics.pools``; candidates asked for (None: all), and candidates there were.
    rule
        ``"pair"``: the other side of the spot itself. ``"nearest_10"``: one of the 10 candidates whose expression,
        less depth and the level of their section, is most like that of the query.
    n_queries
        Spots that asked.
    without_depth
        Log depth was taken out of both sides.
    """

    metric: str
    value: float
    chance: float
    section: str
    donor: str
    direction: Direction
    pool: PoolKind
    asked_size: int | None
    pool_size: int
    rule: Rule
    n_queries: int
    without_depth: bool

    @property
    def lift(self) -> float:
        """Value over chance; of use for recall alone."""
        return self.value / self.chance


def score_retrieval(
    pairs: Pairs,
    *,
    pools: Sequence[PoolKind] = get_args(PoolKind),
    sizes: Sequence[int | None] = SIZES,
    asking: np.ndarray | None = None,
    without_depth: bool = False,
    seed: int = 0,
) -> list[RetrievalScore]:
    """Score both directions of retrieval by cosine in declared pools.

    Every asking spot asks once: the spots of a section are dealt into pools at random, and each pool is filled up with
    other candidates. A pool is never larger than the candidates there are; the row has its true size.

    Parameters
    ----------
    pairs
        Embeddings of either side; those of other donors are candidates too.
    pools, sizes
        What to draw from, and how many; None: all there are.
    asking
        Which spots ask, shape ``(n_spots,)`` of bool; all by default. Of an aligner fitted on some donors, those of the
        others.
    without_depth
        Take log depth out of both sides first, inside each section.
    seed
        Of the draw.

    Returns
    -------
    Scores by section, pool, size and direction.

    Raises
    ------
    InputError
        If a pool is unknown or has fewer than 2 candidates, nothing asks, or depth or profile is needed and missing.

    Examples
    --------
    >>> spots = np.random.default_rng(0).normal(size=(30, 8))
    >>> pairs = Pairs(image=spots, expression=spots, section=np.repeat(["a"], 30), donor=np.repeat(["d"], 30))
    >>> best = score_retrieval(pairs, pools=("within_section",), sizes=(64,))[0]
    >>> best.metric, best.value, round(best.chance, 4), best.pool_size
    ('recall_at_1', 1.0, 0.0333, 30)
    """
    asking = _check(pairs, pools, sizes, asking)
    profile = profiles_without_depth(pairs) if "across_donors" in pools else None
    pairs = remove_depth(pairs) if without_depth else pairs
    image, expression = to_unit(pairs.image.astype(np.float64)), to_unit(pairs.expression.astype(np.float64))
    sides: dict[Direction, tuple[np.ndarray, np.ndarray]] = {
        "image_to_expression": (image, expression),
        "expression_to_image": (expression, image),
    }
    rows = []
    for section, kind, size in product(np.unique(pairs.section[asking]), pools, sizes):
        queries = np.flatnonzero((pairs.section == section) & asking)
        drawn = draw_pools(pairs, queries, kind, size, seed=seed)
        for direction, answers in _ask(drawn, kind, sides, profile).items():
            rows += [
                RetrievalScore(
                    metric=metric, value=value, chance=chance, section=str(section), donor=str(pairs.donor[queries[0]]),
                    direction=direction, pool=kind, asked_size=size, pool_size=answers.n_candidates,
                    rule="nearest_10" if kind == "across_donors" else "pair", n_queries=len(queries),
                    without_depth=without_depth,
                )
                for metric, value, chance in _score(answers, kind)
            ]  # fmt: skip
    return rows


def _check(
    pairs: Pairs, pools: Sequence[PoolKind], sizes: Sequence[int | None], asking: np.ndarray | None
) -> np.ndarray:
    if unknown := [p for p in pools if p not in POOLS]:
        raise InputError(f"there is no pool {unknown[0]!r}; known: {', '.join(POOLS)}")
    if small := [s for s in sizes if s is not None and s < 2]:
        raise InputError(f"a pool of {small[0]} has nothing to choose from; give sizes of at least 2")
    asking = np.ones(pairs.n_spots, dtype=bool) if asking is None else asking
    if asking.dtype != bool or asking.shape != (pairs.n_spots,) or not asking.any():
        raise InputError(f"asking must be a mask of bool over {pairs.n_spots} spots with one that asks at least")
    return asking


@dataclass
class _Answers:
    """What the queries of a section found in one direction: see ``find`` and ``_confusion``."""

    n_candidates: int
    n_near: int
    found: list[Found] = field(default_factory=list)
    confused: list[np.ndarray] = field(default_factory=list)


def _ask(
    drawn: Iterator[Pool],
    kind: PoolKind,
    sides: dict[Direction, tuple[np.ndarray, np.ndarray]],
    profile: np.ndarray | None,
) -> dict[Direction, _Answers]:
    """Return the answers of all pools of a section; of one without candidates none."""
    answers: dict[Direction, _Answers] = {}
    for pool in drawn:
        n = len(pool.candidates)
        own = pool.queries[:, None] == pool.candidates
        is_hit = own
        if kind == "across_donors" and profile is not None and n:
            is_hit = _nearest(profile[pool.queries] @ profile[pool.candidates].T, min(N_NEAREST, n))
        for direction, (asked, sought) in sides.items():
            of = answers.setdefault(direction, _Answers(n, pool.n_near))
            if n > 1:
                similarity = asked[pool.queries] @ sought[pool.candidates].T
                of.found.append(find(similarity, is_hit))
                of.confused.append(_confusion(similarity, own, pool.n_near))
    return answers


def _score(answers: _Answers, kind: PoolKind) -> Iterator[tuple[str, float, float]]:
    """Yield name, value and chance of every score of the queries of one section; NaN where nothing was found."""
    n, n_near = answers.n_candidates, answers.n_near
    n_hits = min(N_NEAREST, n) if kind == "across_donors" else 1
    found = join(answers.found) if answers.found else None
    for k in KS:
        value = float(recall(found, k).mean()) if found else np.nan
        yield f"recall_at_{k}", value, chance_recall(n, n_hits, k) if found else np.nan
    yield "median_rank", median_rank(found) if found else np.nan, chance_median_rank(n, n_hits) if found else np.nan
    yield "auc", float(found.auc.mean()) if found else np.nan, 0.5
    if kind in {"across_sections", "mixed"}:
        merely, other = np.concatenate(answers.confused).mean(axis=0) if found else (np.nan, np.nan)
        yield "slide_confusion", float(merely), (n_near - 1) / n if found else np.nan
        yield "other_section", float(other), (n - n_near) / n if found else np.nan


def _nearest(likeness: np.ndarray, n_hits: int) -> np.ndarray:
    """Return which candidates express most like the query, same shape; of equals at the end any."""
    is_hit = np.zeros(likeness.shape, dtype=bool)
    np.put_along_axis(is_hit, np.argpartition(-likeness, n_hits - 1, axis=1)[:, :n_hits], values=True, axis=1)
    return is_hit


def _confusion(similarity: np.ndarray, own: np.ndarray, n_near: int) -> np.ndarray:
    """Return for each query how much of its top hit is its section but not the spot, and how much another section.

    Shape ``(n_queries, 2)``; candidates that tie for the top share it.
    """
    top = similarity >= similarity.max(axis=1, keepdims=True) - SAME
    near = top[:, :n_near] & ~own[:, :n_near]
    return np.stack([near.sum(axis=1), top[:, n_near:].sum(axis=1)], axis=1) / top.sum(axis=1, keepdims=True)


def hescape_recall(image: np.ndarray, expression: np.ndarray, k: int, *, n_devices: int = 1) -> tuple[float, float]:
    """Return recall within mini-batches of 64 of consecutive spots, as HESCAPE published it, in both directions.

    Not a recall over a test set: a batch holds neighbours of one slide, so that neither its stain nor its biology can
    be mistaken for the spot, and chance at 5 is 5 / 64. Dot products are taken of embeddings as they are given. A last
    batch that is not full counts by its size, though its chance is higher. Gindra et al., HESCAPE, 2025,
    arXiv:2508.01490; we differ in ties, which it leaves to the order of a sort.

    Parameters
    ----------
    image, expression
        Embeddings of the test spots in the order of their file, shape ``(n_spots, n_dims)``.
    k
        Candidates that are looked at.
    n_devices
        Processes that the spots are dealt to one by one, filled up with the first spots; 4 as published.

    Returns
    -------
    Recall from image to expression, and from expression to image.

    Raises
    ------
    InputError
        If the shapes differ or a value is not finite.

    Examples
    --------
    >>> hescape_recall(np.zeros((64, 3)), np.zeros((64, 3)), 5)  # collapsed: chance
    (0.078125, 0.078125)
    """
    spots = np.array([""] * len(image))
    Pairs(image=image, expression=expression, section=spots, donor=spots)
    n = -(-len(image) // n_devices) * n_devices
    dealt = np.resize(np.arange(len(image)), n)
    found: list[tuple[float, float, int]] = []
    for device in range(n_devices):
        mine = dealt[device::n_devices]
        for start in range(0, len(mine), HESCAPE_BATCH):
            batch = mine[start : start + HESCAPE_BATCH]
            likeness, own = image[batch].astype(np.float64) @ expression[batch].T, np.eye(len(batch), dtype=bool)
            both = [float(recall(find(s, own), k).mean()) for s in (likeness, likeness.T)]
            found.append((both[0], both[1], len(batch)))
    forward, back, size = np.array(found).T
    return float(np.average(forward, weights=size)), float(np.average(back, weights=size))
