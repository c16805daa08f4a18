"""How far embeddings tell batches apart: LISI within and across the two sides, silhouette of batch.

LISI: Korsunsky et al., Nature Methods 2019, doi:10.1038/s41592-019-0619-0. Silhouette: Rousseeuw, Journal of
Computational and Applied Mathematics 1987, doi:10.1016/0377-0427(87)90125-7. Both see an offset of a slide, and
neither sees skill: embeddings of noise mix best. Read them beside retrieval.
"""

from dataclasses import dataclass

import numpy as np

from hescribe.errors import InputError
from hescribe.metrics.pairs import Pairs, to_unit

PERPLEXITY = 30.0  # as published: effective number of neighbours
BLOCK = 2**21  # distances at once: 16 MB, which stays in the cache
N_HALVINGS = 50  # of the interval of a kernel's width: to rounding
ROUNDING = 1e-13  # of a squared distance, of the squared lengths that it is the difference of


@dataclass(frozen=True, slots=True)
class Mixing:
    """How far batches are mixed, and what perfect mixing would give.

    Parameters
    ----------
    value
        Mean over spots.
    mixed
        The same if the labels of neighbours were drawn at random: what perfect mixing gives with so few neighbours.
    """

    value: float
    mixed: float


def cross_modal_lisi(pairs: Pairs, *, perplexity: float = PERPLEXITY) -> Mixing:
    """Return the effective number of sections among the neighbours of a spot on the other side.

    1: images lie among the expression of their own section alone. Both directions, averaged; distances are those of
    unit vectors.

    Parameters
    ----------
    pairs
        Of at least two sections.
    perplexity
        Effective number of neighbours; three times as many are looked at. Less where there are fewer spots.

    Raises
    ------
    InputError
        If there is one section only.

    Examples
    --------
    >>> apart = np.repeat([[1.0, 0.0], [0.0, 1.0]], 100, axis=0)
    >>> labels = np.repeat(["a", "b"], 100)
    >>> found = cross_modal_lisi(Pairs(image=apart, expression=apart, section=labels, donor=labels))
    >>> round(found.value, 3), round(found.mixed, 1)
    (1.0, 2.0)
    """
    _check_sections(pairs)
    image, expression = to_unit(pairs.image.astype(np.float64)), to_unit(pairs.expression.astype(np.float64))
    ways = ((image, expression), (expression, image))
    both = [lisi(asked, sought, pairs.section, perplexity=perplexity) for asked, sought in ways]
    return Mixing(*np.mean([[found.mean(), mixed.mean()] for found, mixed in both], axis=0).tolist())


def modality_lisi(pairs: Pairs, *, perplexity: float = PERPLEXITY) -> Mixing:
    """Return the effective number of sides among the neighbours of a point: 1 if images lie apart from expression.

    Examples
    --------
    >>> spots, labels = np.random.default_rng(0).normal(size=(200, 3)), np.repeat(["a"], 200)
    >>> gap = Pairs(image=spots + [9, 0, 0], expression=spots - [9, 0, 0], section=labels, donor=labels)
    >>> round(modality_lisi(gap).value, 6)
    1.0
    """
    points = to_unit(np.concatenate([pairs.image, pairs.expression]).astype(np.float64))
    side = np.repeat([0, 1], pairs.n_spots)
    found, mixed = lisi(points, points, side, perplexity=perplexity, itself=True)
    return Mixing(float(found.mean()), float(mixed.mean()))


def lisi(
    asked: np.ndarray,
    sought: np.ndarray,
    labels: np.ndarray,
    *,
    perplexity: float = PERPLEXITY,
    itself: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inverse Simpson index of the labels of the neighbours of each point, and what perfect mixing gives.

    Neighbours weigh by a Gaussian of their distance whose width gives every point the same perplexity.

    Parameters
    ----------
    asked, sought
        Shapes ``(n_asked, n_dims)`` and ``(n_sought, n_dims)``.
    labels
        Of what is sought, shape ``(n_sought,)``.
    perplexity
        Effective number of neighbours; a third of those there are, if that is less.
    itself
        The two arrays are one, and a point is no neighbour of itself.

    Returns
    -------
    The index, and the inverse of the mean Simpson index over all ways to deal the labels, shapes ``(n_asked,)``.

    Raises
    ------
    InputError
        If there are fewer than 2 neighbours to weigh, or perplexity is below 1.

    Examples
    --------
    >>> found, mixed = lisi(np.zeros((1, 2)), np.ones((90, 2)), np.repeat(["a", "b", "c"], 30))
    >>> found.round(6).tolist(), mixed.round(6).tolist()  # all there are: as even as by chance
    ([3.0], [3.0])
    """
    n = len(sought) - itself
    if n < 2 or perplexity < 1:
        raise InputError(f"LISI needs at least 2 neighbours and a perplexity of at least 1, got {n} and {perplexity}")
    k = min(round(3 * perplexity), n)
    _, label = np.unique(labels, return_inverse=True)
    same = _share_alike(label)
    found, mixed = np.empty((2, len(asked)))
    step = max(BLOCK // len(sought), 1)
    for start in range(0, len(asked), step):
        rows = np.arange(start, min(start + step, len(asked)))
        square = _squares(asked[rows], sought)
        if itself:
            square[np.arange(len(rows)), rows] = np.inf
        near = np.argpartition(square, k - 1, axis=1)[:, :k]
        distance = np.sqrt(np.take_along_axis(square, near, axis=1))
        weights = _weigh(distance, min(perplexity, max(n / 3, 1.0)))
        shares = np.zeros((len(rows), label.max() + 1))
        np.add.at(shares, (np.arange(len(rows))[:, None], label[near]), weights)
        found[rows] = 1 / (shares**2).sum(axis=1)
        one = (weights**2).sum(axis=1)  # of a neighbour with itself
        mixed[rows] = 1 / (one + (1 - one) * same)
    return found, mixed


def _share_alike(label: np.ndarray) -> float:
    """Return the share of pairs of points with one label."""
    size = np.bincount(label).astype(np.float64)
    return float((size * (size - 1)).sum() / (len(label) * (len(label) - 1)))


def _weigh(distance: np.ndarray, perplexity: float) -> np.ndarray:
    """Return Gaussian weights that add up to 1 in each row, with that perplexity as far as ties allow."""
    distance = distance - distance.min(axis=1, keepdims=True)
    farthest = distance.max(axis=1, keepdims=True)
    distance = distance / np.where(farthest > 0, farthest, 1.0)
    low, high = np.full((2, len(distance), 1), [[[-10.0]], [[16.0]]])  # log of one over the width; beyond is rounding
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        p = np.exp(-distance * np.exp(middle))
        p /= p.sum(axis=1, keepdims=True)
        wide = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1, keepdims=True) > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return p


def batch_silhouette(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean silhouette of batches: 1 if they lie apart, about 0 if they are one cloud.

    Parameters
    ----------
    vectors
        Shape ``(n_spots, n_dims)``.
    labels
        Batch of each spot, shape ``(n_spots,)``. A spot that is alone in its batch counts 0.

    Raises
    ------
    InputError
        If there is one batch only, or a value is not finite.

    Examples
    --------
    >>> batch_silhouette(np.array([[0.0], [0.0], [1.0], [1.0]]), np.array(["a", "a", "b", "b"]))
    1.0
    """
    names, label, size = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise InputError("the silhouette compares batches, and there is one only")
    if not np.isfinite(vectors).all():
        raise InputError(f"vectors are not finite at spot {np.argwhere(~np.isfinite(vectors))[0][0]}")
    member = np.eye(len(names))[label]
    width = np.zeros(len(vectors))
    step = max(BLOCK // len(vectors), 1)
    for start in range(0, len(vectors), step):
        rows = np.arange(start, min(start + step, len(vectors)))
        total = np.sqrt(_squares(vectors[rows], vectors)) @ member  # to each batch
        own = (np.arange(len(rows)), label[rows])
        inside = total[own] / np.maximum(size[label[rows]] - 1, 1)
        mean = total / size
        mean[own] = np.inf
        outside = mean.min(axis=1)
        wider = np.maximum(inside, outside)
        alone = (size[label[rows]] == 1) | (wider == 0)
        width[rows] = np.where(alone, 0.0, (outside - inside) / np.where(alone, 1.0, wider))
    return float(width.mean())


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances, shape ``(len(a), len(b))`` float64; 0 where they are rounding."""
    a, b = a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)
    power = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    square = power - 2 * a @ b.T
    square[square <= ROUNDING * power] = 0.0
    return square


def _check_sections(pairs: Pairs) -> None:
    if len(np.unique(pairs.section)) < 2:
        raise InputError("mixing compares sections, and there is one only; give pairs of at least two")
