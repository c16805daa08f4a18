"""Pairs of vectors on disk, for a training that holds few of them in memory.

One shard a section: ``00000.image.npy`` and ``00000.expression.npy``, float16, row by row of the same spots, and
``pairs.json`` that says how many there are.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hescribe._support import write_whole_folder
from hescribe.data.untrusted import parse_json, read_npy
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.train.turns import take_turns

INDEX = "pairs.json"
FORMAT = 1
SIDES = ("image", "expression")
BLOCK = 512  # rows that lie side by side and are read at once
POOL = 128  # blocks in memory, whose rows are shuffled among each other
FEW = 8  # blocks for a loss within sections: a batch must hold several spots of each
LARGEST = 65_504.0  # that float16 holds


@dataclass(frozen=True)
class PairShards:
    """Both halves of the pairs of some sections, on disk.

    Parameters
    ----------
    folder
        Of the shards.
    n_rows
        Pairs of each shard.
    n_dims
        Width of an image vector and of an expression vector.
    key
        What the vectors were made with, so that those of something else are not taken for them.
    """

    folder: Path
    n_rows: tuple[int, ...]
    n_dims: tuple[int, int]
    key: str = ""
    format: int = field(default=FORMAT, kw_only=True)

    @classmethod
    def open(cls, folder: Path) -> "PairShards":
        """Return the pairs of a folder.

        Raises
        ------
        DataAccessError
            If it holds none.
        FormatError
            If the index or a shard is damaged.
        """
        try:
            index = parse_json((folder / INDEX).read_bytes(), folder / INDEX)
            (n_image, n_expression), n_rows = map(int, index["n_dims"]), tuple(map(int, index["n_rows"]))
            found = cls(folder, n_rows, (n_image, n_expression), index["key"], format=index["format"])
        except (FormatError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise FormatError(f"{folder / INDEX} is damaged; remove {folder} and write the pairs again") from error
        except OSError as error:
            raise DataAccessError(f"{folder} holds no pairs: {INDEX} cannot be read; write them again") from error
        if found.format != FORMAT:
            raise FormatError(f"{folder / INDEX} is not of format {FORMAT}; remove {folder} and write the pairs again")
        for shard in range(len(found.n_rows)):
            found.read(shard)
        return found

    def __len__(self) -> int:
        return sum(self.n_rows)

    def read(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """Return both sides of a shard as memory maps, shapes ``(n_rows, n_dims)`` float16.

        Raises
        ------
        FormatError
            If a file is missing, cut off or of another shape.
        """
        parts = []
        for side, n_dims in zip(SIDES, self.n_dims, strict=True):
            path = _file(self.folder, shard, side)
            try:
                part = read_npy(path, in_memory=False)
            except FormatError as error:
                raise FormatError(f"{path} is missing or damaged; remove {self.folder} and write it again") from error
            if part.shape != (self.n_rows[shard], n_dims) or part.dtype != np.float16:
                expected = self.n_rows[shard], n_dims
                raise FormatError(
                    f"{path} holds {part.dtype} of shape {part.shape}, expected float16 of shape {expected}; "
                    f"remove {self.folder} and write it again"
                )
            parts.append(part)
        return parts[0], parts[1]

    def batches(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        few_sections: bool = False,
        balance: np.ndarray | None = None,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield all pairs once, in an order that seed and epoch fix alone.

        Blocks of rows are drawn from all shards at random; as many as memory holds make a pool, from whose rows the
        batches are drawn. A last batch that is not full is yielded too.

        Parameters
        ----------
        batch_size
            Pairs of a batch.
        seed, epoch
            Of the order.
        few_sections
            Take a batch from few blocks, so that it holds several spots of each of their sections.
        balance
            Group of each shard. Groups take turns, in blocks and in the rows of a pool: a batch holds equally many
            pairs of each that is in the pool, those of a small group more than once in an epoch.

        Yields
        ------
        Image vectors and expression vectors, float32, and the number of the shard of each pair.
        """
        rng = np.random.default_rng((seed, epoch))
        blocks = [(i, start, min(start + BLOCK, n)) for i, n in enumerate(self.n_rows) for start in range(0, n, BLOCK)]
        order = _order(np.array([shard for shard, *_ in blocks]), balance, rng)
        left, n_blocks = _empty(self.n_dims, 0), FEW if few_sections else POOL
        for at in range(0, len(order), n_blocks):
            pool = self._pool([blocks[b] for b in order[at : at + n_blocks]], left)
            rows = _order(pool[2], balance, rng)
            n_used = len(rows) if at + n_blocks >= len(order) else len(rows) // batch_size * batch_size
            for start in range(0, n_used, batch_size):
                image, expression, shard = (part[rows[start : start + batch_size]] for part in pool)
                yield (
                    torch.from_numpy(image.astype(np.float32)),
                    torch.from_numpy(expression.astype(np.float32)),
                    torch.from_numpy(shard),
                )
            left = tuple(part[rows[n_used:]] for part in pool)

    def _pool(self, blocks: list[tuple[int, int, int]], left: "_Pool") -> "_Pool":
        """Return the rows of some blocks behind those that were left of the last pool."""
        n_left = len(left[2])
        pool = _empty(self.n_dims, n_left + sum(stop - start for _, start, stop in blocks))
        for part, rest in zip(pool, left, strict=True):
            part[:n_left] = rest
        at = n_left
        for shard, start, stop in sorted(blocks):
            to = slice(at, at + stop - start)
            pool[0][to], pool[1][to] = (side[start:stop] for side in self.read(shard))
            pool[2][to] = shard
            at = to.stop
        return pool


_Pool = tuple[np.ndarray, np.ndarray, np.ndarray]  # both sides, and the shard of each row


def write_pairs(folder: Path, parts: Iterable[tuple[np.ndarray, np.ndarray]], *, key: str = "") -> PairShards:
    """Write pairs of vectors, section after section, as a new folder: all of it or nothing.

    Parameters
    ----------
    folder
        New, empty, or of other pairs, which are replaced.
    parts
        Image vectors and expression vectors of the spots of a section, of equal length.
    key
        What they were made with.

    Raises
    ------
    InputError
        If the sides of a section differ in length, a width changes, or a value is not finite or too large for float16;
        if there is no pair at all; or if the folder holds something else.
    DataAccessError
        If the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "pairs"
    >>> pairs = write_pairs(folder, [(np.ones((5, 3)), np.zeros((5, 2))), (np.ones((4, 3)), np.zeros((4, 2)))])
    >>> [len(image) for image, _, _ in pairs.batches(6, seed=0, epoch=1)]
    [6, 3]
    """
    if folder.exists() and not (folder / INDEX).exists() and any(folder.iterdir()):
        raise InputError(f"{folder} exists and holds no pairs; give a new folder")
    n_rows: list[int] = []
    n_dims: tuple[int, int] | None = None
    with write_whole_folder(folder) as tmp:
        for part in parts:
            n_dims = _check(part, len(n_rows), n_dims)
            if not len(part[0]):
                continue
            for side, x in zip(SIDES, part, strict=True):
                np.save(_file(tmp, len(n_rows), side), x.astype(np.float16), allow_pickle=False)
            n_rows.append(len(part[0]))
        if n_dims is None or not sum(n_rows):
            raise InputError("there is no pair to write; no section has a kept spot")
        pairs = PairShards(folder, tuple(n_rows), n_dims, key)
        index = {name: value for name, value in asdict(pairs).items() if name != "folder"}
        (tmp / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return pairs


def _order(shards: np.ndarray, balance: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Return an order of what lies in some shards: any, or one in which their groups take turns."""
    return rng.permutation(len(shards)) if balance is None else take_turns(balance[shards], rng)


def _file(folder: Path, shard: int, side: str) -> Path:
    return folder / f"{shard:05d}.{side}.npy"


def _empty(n_dims: tuple[int, int], n: int) -> _Pool:
    image, expression = (np.empty((n, d), dtype=np.float16) for d in n_dims)
    return image, expression, np.empty(n, dtype=np.int64)


def _check(part: tuple[np.ndarray, np.ndarray], shard: int, n_dims: tuple[int, int] | None) -> tuple[int, int]:
    """Return the widths of both sides of a section."""
    image, expression = part
    if len(image) != len(expression):
        raise InputError(f"section {shard} has {len(image)} image vectors and {len(expression)} expression vectors")
    found = image.shape[1], expression.shape[1]
    if n_dims is not None and found != n_dims:
        raise InputError(f"vectors of section {shard} have widths {found}, and those before it {n_dims}")
    for side, x in zip(SIDES, part, strict=True):
        if not (np.abs(x) <= LARGEST).all():  # NaN is not either
            raise InputError(
                f"{side} vectors of section {shard} are not finite or beyond {LARGEST:g}; scale them first"
            )
    return found
