"""Groups of rows that take turns, so that a batch holds as many of a small one as of a large one."""

import numpy as np


def take_turns(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return as many rows as there are, in an order in which every group comes up equally often, and evenly spread.

    Each turn holds one row of every group, groups in random order. The rows of a group come in a random order and then
    in another: those of a small group more than once, of a large one some not at all.

    Parameters
    ----------
    groups
        Group of each row, shape ``(n_rows,)``.
    rng
        Of the order.

    Returns
    -------
    Rows, shape ``(n_rows,)``; of a single group, or of groups of equal size, each row once.

    Examples
    --------
    >>> groups = np.array(["A"] * 6 + ["B"] * 2)
    >>> sorted(groups[take_turns(groups, np.random.default_rng(0))].tolist())
    ['A', 'A', 'A', 'A', 'B', 'B', 'B', 'B']
    """
    names = np.unique(groups)
    n_turns = -(-len(groups) // max(len(names), 1))
    turns = np.empty((n_turns, len(names)), dtype=np.int64)
    for column, name in enumerate(names):
        rows = np.flatnonzero(groups == name)
        passes = [rng.permutation(rows) for _ in range(-(-n_turns // len(rows)))]
        turns[:, column] = np.concatenate(passes)[:n_turns]
    return rng.permuted(turns, axis=1).ravel()[: len(groups)]
