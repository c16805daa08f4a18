"""Embeddings of the same spots from either side, image and expression, and what may be taken out of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hescribe.errors import InputError
from hescribe.metrics.gene import remove_linear


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Spots as an aligner embeds them: row ``i`` of both arrays is the same spot.

    Parameters
    ----------
    image, expression
        Embeddings in one space, shape ``(n_spots, n_dims)``.
    section, donor
        Where each spot is from, shape ``(n_spots,)``.
    depth
        Counts of each spot over all measured genes, shape ``(n_spots,)``; None where depth plays no part.
    profile
        What says how alike two spots express, shape ``(n_spots, n_genes)``: lognorm values, each gene scaled by the
        train cohort. Only pools of other donors need it.

    Raises
    ------
    InputError
        If the shapes do not match, a value is not finite, there is no spot, or a section has two donors.

    Examples
    --------
    >>> Pairs(image=np.eye(2), expression=np.eye(2), section=np.array(["s", "s"]), donor=np.array(["d", "d"])).n_spots
    2
    """

    image: np.ndarray
    expression: np.ndarray
    section: np.ndarray
    donor: np.ndarray
    depth: np.ndarray | None = None
    profile: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 2 or not self.image.size or self.expression.shape != self.image.shape:
            raise InputError(
                f"image and expression have shapes {self.image.shape} and {self.expression.shape}; expected two of the "
                "same (n_spots, n_dims), with at least one spot"
            )
        for name in ("section", "donor"):
            if np.shape(labels := getattr(self, name)) != (self.n_spots,):
                raise InputError(
                    f"{name} has shape {np.shape(labels)}, expected a label for each of {self.n_spots} spots"
                )
        for name in ("image", "expression", "depth", "profile"):
            _check_finite(name, getattr(self, name), self.section)
        for section in np.unique(self.section):
            if len(donors := np.unique(self.donor[self.section == section])) > 1:
                raise InputError(f"section {section} has the donors {donors[0]} and {donors[1]}; a section has one")

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return len(self.image)

    def log_depth(self) -> np.ndarray:
        """Return the logarithm of depth, shape ``(n_spots,)``; that of an empty spot is 0.

        Raises
        ------
        InputError
            If depth was not given.
        """
        if self.depth is None:
            raise InputError("taking depth out needs the depth of every spot; give Pairs(depth=)")
        return np.log(np.maximum(self.depth.astype(np.float64), 1.0))


def _check_finite(name: str, values: np.ndarray | None, section: np.ndarray) -> None:
    if values is None:
        return
    if len(values) != len(section):
        raise InputError(f"{name} has {len(values)} rows, expected one for each of {len(section)} spots")
    if not np.isfinite(values).all():
        spots = np.unique(np.argwhere(~np.isfinite(values))[:, 0])
        where = f"the first is spot {spots[0]}, of section {section[spots[0]]}"
        raise InputError(f"{name} holds NaN or infinity at {len(spots)} of {len(section)} spots; {where}")


def centre_sections(pairs: Pairs) -> Pairs:
    """Return the pairs with the mean of each section taken out of both sides: what an offset of a slide costs.

    Statistics of the test section's expression go into it; a score of what it returns is no score of a method.
    """
    image, expression = (
        _by_section(pairs, v, lambda x, _: x - x.mean(axis=0)) for v in (pairs.image, pairs.expression)
    )
    return replace(pairs, image=image, expression=expression)


def remove_depth(pairs: Pairs) -> Pairs:
    """Return the pairs with what log depth explains inside each section taken out of both sides.

    A straight line is fitted to every dimension; the mean of a section stays, so that what tells sections apart is
    neither mended nor harmed.

    Raises
    ------
    InputError
        If depth was not given.

    Examples
    --------
    >>> deep = np.array([[2.0], [4.0], [6.0]])  # a line in log depth, and nothing else
    >>> labels = np.array(["s", "s", "s"])
    >>> pairs = Pairs(image=deep, expression=deep, section=labels, donor=labels, depth=np.exp([1.0, 2.0, 3.0]))
    >>> remove_depth(pairs).image.ravel().tolist()
    [4.0, 4.0, 4.0]
    """
    depth = pairs.log_depth()
    image, expression = (
        _by_section(pairs, v, lambda x, rows: x.mean(axis=0) + remove_linear(x, depth[rows]))
        for v in (pairs.image, pairs.expression)
    )
    return replace(pairs, image=image, expression=expression)


def profiles_without_depth(pairs: Pairs) -> np.ndarray:
    """Return how each spot differs from its section in expression, less what log depth explains, as unit vectors.

    Returns
    -------
    Shape ``(n_spots, n_genes)`` float64; 0 for a spot that does not differ.

    Raises
    ------
    InputError
        If profile or depth was not given.
    """
    if pairs.profile is None:
        raise InputError("a hit in a pool of other donors is judged by expression; give Pairs(profile=)")
    depth = pairs.log_depth()
    return to_unit(_by_section(pairs, pairs.profile, lambda x, rows: remove_linear(x, depth[rows])))


def to_unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors scaled to length 1; 0 stays 0, so that it is as near to one vector as to another.

    Examples
    --------
    >>> to_unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)


def _by_section(pairs: Pairs, values: np.ndarray, change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Return ``change(values of a section, its rows)`` for every section."""
    out = np.empty(values.shape)
    for section in np.unique(pairs.section):
        rows = np.flatnonzero(pairs.section == section)
        out[rows] = change(values[rows].astype(np.float64), rows)
    return out
