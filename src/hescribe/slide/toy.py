"""Generated bags whose telling tiles are known: what attention is checked on."""

from typing import NamedTuple

import numpy as np

from hescribe.errors import InputError
from hescribe.slide.bags import ArrayBag
from hescribe.slide.targets import Classes


class ToyBags(NamedTuple):
    """Bags, their classes, and of each bag which tiles make it positive, shape ``(n_tiles,)`` bool."""

    bags: list[ArrayBag]
    target: Classes
    telling: list[np.ndarray]


def toy_bags(
    seed: int,
    *,
    n_bags: int = 60,
    n_tiles: tuple[int, int] = (40, 80),
    n_dims: int = 32,
    share: float = 0.1,
    distance: float = 4.0,
) -> ToyBags:
    """Return bags of which every second one holds a few tiles of another kind.

    All other tiles are drawn from five kinds that both classes have; how many tiles of a kind a bag has says nothing.

    Parameters
    ----------
    seed
        Of everything.
    n_bags, n_tiles, n_dims
        Bags, the smallest and largest number of tiles of one, and dims of a tile.
    share
        Of a positive bag's tiles that are telling; at least one is.
    distance
        Between the centres of kinds, in sd of the tiles of a kind along the line between them.

    Raises
    ------
    InputError
        If there are fewer than 2 bags, or a number is not above 0.

    Examples
    --------
    >>> toy = toy_bags(0, n_bags=4)
    >>> [int(t.sum()) > 0 for t in toy.telling]
    [False, True, False, True]
    """
    if n_bags < 2 or n_dims < 1 or not 0 < n_tiles[0] <= n_tiles[1] or not 0 < share < 1:
        raise InputError("toy_bags needs at least 2 bags, 1 dim, 1 tile in the smallest bag, and a share in (0, 1)")
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(6, n_dims))
    kinds *= distance / np.sqrt(2) / np.linalg.norm(kinds, axis=1, keepdims=True)
    bags, telling = [], []
    for i in range(n_bags):
        n = int(rng.integers(n_tiles[0], n_tiles[1] + 1))
        kind = rng.choice(5, size=n, p=rng.dirichlet(np.ones(5)))
        if i % 2:
            kind[rng.permutation(n)[: max(round(share * n), 1)]] = 5
        bags.append(ArrayBag(f"toy{i:03d}", (kinds[kind] + rng.normal(size=(n, n_dims))).astype(np.float32)))
        telling.append(kind == 5)
    target = Classes(codes=np.arange(n_bags) % 2, names=("negative", "positive"))
    return ToyBags(bags, target, telling)
