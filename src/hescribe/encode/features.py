"""Embed the patches of a section, and remember the result on disk and in memory."""

import hashlib
import itertools
import json
import math
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock

import numpy as np

from hescribe import settings
from hescribe._support import remove_stale, write_whole
from hescribe.ahead import ahead
from hescribe.data.image import CoveredImage
from hescribe.data.remembered import read_remembered, write_note
from hescribe.data.section import Section
from hescribe.data.untrusted import read_npy
from hescribe.encode import accelerate
from hescribe.encode.base import ImageEncoder, SectionEncoder, create_encoder
from hescribe.encode.blocks import Kept, order_blocks
from hescribe.errors import InputError
from hescribe.prep.patches import CHUNK, iter_patches
from hescribe.progress import track

FORMAT = 1  # of the cache; raise it when the cutting of patches changes
MEMORY_BYTES = 1_000_000_000


class Memory:
    """The last arrays used, up to a total size."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self._arrays, self._lock = limit_bytes, OrderedDict[str, np.ndarray](), Lock()

    def get(self, key: str) -> np.ndarray | None:
        """Return an array and mark it as used, or None."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
            return self._arrays.get(key)

    def add(self, key: str, array: np.ndarray) -> None:
        """Keep an array; the least recently used ones make room."""
        with self._lock:
            self._arrays[key] = array
            while sum(a.nbytes for a in self._arrays.values()) > self.limit_bytes:
                self._arrays.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._arrays.clear()


memory = Memory(MEMORY_BYTES)
_one_at_a_time = Lock()


def embed_section(
    section: Section,
    encoder: str | ImageEncoder | SectionEncoder = "efficientnet_lite0",
    *,
    fov_um: tuple[float, ...] | None = None,
    cache: Path | None = None,
) -> np.ndarray:
    """Return the image embedding of every spot, kept or not.

    Parameters
    ----------
    section
        A section with an image.
    encoder
        A registered name, the folder of a fitted aligner, or an encoder.
    fov_um
        Sides of the patches in um; the embeddings are concatenated. The encoder's own by default.
    cache
        Folder of remembered features; below ``settings.cache_dir()`` by default.

    Returns
    -------
    Shape ``(n_spots, len(fov_um) * n_dims)`` float32, not writable: the same array is handed out again.

    Raises
    ------
    InputError
        If the section has no image, or other patches are asked for than those that an aligner was fitted on.
    DataAccessError
        If the image cannot be read or the cache cannot be written.
    """
    if section.image is None:
        raise InputError(f"section {section.id} has no image to embed; leave it out or import it with one")
    encoder = create_encoder(encoder) if isinstance(encoder, str) else encoder
    if isinstance(encoder, SectionEncoder):
        if fov_um not in (None, encoder.card.fov_um):
            raise InputError(f"{encoder.card.name} reads patches of {encoder.card.fov_um} um; leave fov_um out")
        return _frozen(encoder.embed_section(section))
    folder = settings.cache_dir() / "features" if cache is None else Path(cache)
    sides = encoder.card.fov_um if fov_um is None else fov_um
    if not sides:
        raise InputError("fov_um is empty; give the side of at least one patch in um, for example (112.0,)")
    parts = [_embed_one(section, encoder, float(side), folder) for side in sides]
    return parts[0] if len(parts) == 1 else _frozen(np.hstack(parts))


def embed_tiles(
    section: Section,
    encoder: str | ImageEncoder | SectionEncoder = "efficientnet_lite0",
    *,
    n_side: int,
    fov_um: float | None = None,
    cache: Path | None = None,
) -> np.ndarray:
    """Return the image embedding of every tile that the patch of each spot is cut into.

    Parameters
    ----------
    section, encoder, cache
        As for ``embed_section``.
    n_side
        Tiles along the side of a patch. Each is read by the encoder at its own size in pixels.
    fov_um
        Side of the patch in um; the first one of the encoder's card by default.

    Returns
    -------
    Shape ``(n_spots, n_side**2, n_dims)`` float32, row by row from the upper left tile: a memory map of the cache, so
    that a cohort's tiles need not fit into memory.

    Raises
    ------
    InputError
        If the section has no image, or there are no tiles.
    DataAccessError
        If the image cannot be read or the cache cannot be written.
    """
    if section.image is None:
        raise InputError(f"section {section.id} has no image to embed; leave it out or import it with one")
    if n_side < 1:
        raise InputError(f"n_side must be at least 1, got {n_side}")
    encoder = create_encoder(encoder) if isinstance(encoder, str) else encoder
    if isinstance(encoder, SectionEncoder):
        raise InputError(f"{encoder.card.name} embeds whole patches, and no tiles of them; choose another encoder")
    folder = settings.cache_dir() / "features" if cache is None else Path(cache)
    side = float(encoder.card.fov_um[0] if fov_um is None else fov_um)
    facts = _facts(section, encoder, side, n_side)
    where, n_tiles, n_dims = _place(folder, encoder, facts), n_side**2, encoder.card.n_dims
    with _one_at_a_time:
        tiles = read_remembered(where, (section.n_spots, n_tiles * n_dims), np.float32, in_memory=False)
        if tiles is None:
            _write(where, section, encoder, side, facts, n_side)
            tiles = read_npy(where, in_memory=False)
    return tiles.reshape(section.n_spots, n_tiles, n_dims)


def _embed_one(section: Section, encoder: ImageEncoder, fov_um: float, folder: Path) -> np.ndarray:
    if isinstance(section.image, CoveredImage):
        return _embed_covered(section, section.image, encoder, fov_um, folder)
    facts = _facts(section, encoder, fov_um)
    where = _place(folder, encoder, facts)
    with _one_at_a_time:  # an encoder keeps every core busy; two threads must not do the same work
        found = memory.get(str(where))
        if found is None:
            shape = (section.n_spots, encoder.card.n_dims)
            found = read_remembered(where, shape, np.float32)
            if found is None:
                _write(where, section, encoder, fov_um, facts)
                found = read_npy(where)
            memory.add(str(where), _frozen(found))
        return found


def _embed_covered(
    section: Section, image: CoveredImage, encoder: ImageEncoder, fov_um: float, folder: Path
) -> np.ndarray:
    """Embed again only the patches that a covered square touches; nothing of that is kept."""
    found = _embed_one(replace(section, image=image.base), encoder, fov_um, folder).copy()
    near = image.is_near(section.xy_um, fov_um)
    if near.any():
        part = section.with_table(section.table[near].copy())
        found[near] = np.concatenate([encoder.encode(p) for p in iter_patches(part, fov_um, encoder.card.px)])
    return _frozen(found)


def _place(folder: Path, encoder: ImageEncoder, facts: dict[str, object]) -> Path:
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    return folder / encoder.name / f"{key}.npy"


def _facts(section: Section, encoder: ImageEncoder, fov_um: float, n_side: int = 1) -> dict[str, object]:
    """Return everything the features depend on, ready for JSON."""
    assert section.image is not None
    xy = np.ascontiguousarray(section.xy_um)
    tiles = {"n_side": n_side} if n_side > 1 else {}
    return {
        "format": FORMAT,
        "encoder": asdict(encoder.card),
        "params": encoder.get_params(),
        "fov_um": fov_um,
        "image": section.image.fingerprint,
        "mpp": section.image.mpp,
        "xy_um": hashlib.sha256(xy.tobytes()).hexdigest(),
        "n_spots": len(xy),
        **tiles,
    }


def _write(  # noqa: PLR0917 - what is embedded, and where it goes
    where: Path, section: Section, encoder: ImageEncoder, fov_um: float, facts: dict[str, object], n_side: int = 1
) -> None:
    """Embed block by block straight into the file, so that memory does not grow with the section.

    Each block is kept on disk until all are done: what was killed goes on where it stopped.
    """
    blocks = order_blocks(section.xy_um)
    kept = Kept(where.with_suffix(".blocks"), encoder)
    remove_stale(where.parent)
    with write_whole(where) as tmp:
        rows = np.lib.format.open_memmap(
            tmp, "w+", "<f4", (section.n_spots, n_side**2 * encoder.card.n_dims), version=(1, 0)
        )
        for spots, features in _embed_blocks(section, encoder, fov_um, blocks, kept, n_side):
            rows[spots] = features
        rows.flush()
        crc32 = zlib.crc32(rows.data)
    write_note(where, crc32, {"backend": accelerate.backend(encoder), **facts})
    kept.remove()


def _embed_blocks(  # noqa: PLR0917 - what is embedded, and what was
    section: Section, encoder: ImageEncoder, fov_um: float, blocks: list[np.ndarray], kept: "Kept", n_side: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the spots and features of each block, the kept ones first; the rest is read while the encoder works."""
    px, size = encoder.card.px, max(CHUNK // n_side**2, 1)

    def cut(block: int) -> Iterator[np.ndarray]:
        part = section.with_table(section.table[blocks[block]].copy())
        return iter_patches(part, fov_um, n_side * px, size)

    if kept.any():
        encoder.encode(_tiles(next(cut(0)), n_side, px))  # chooses the way to run, on the same patches as the first run
    missing = []
    for block, spots in enumerate(blocks):
        features = kept.read(block, (len(spots), n_side**2 * encoder.card.n_dims))
        if features is None:
            missing.append(block)
        else:
            yield spots, features
    n_chunks = sum(math.ceil(len(blocks[b]) / size) for b in missing)
    chunks = track(ahead((b, patches) for b in missing for patches in cut(b)), f"embedding {section.id}", n_chunks)
    for block, of_block in itertools.groupby(chunks, key=lambda c: c[0]):
        encoded = [encoder.encode(_tiles(patches, n_side, px)) for _, patches in of_block]
        features = np.concatenate(encoded).reshape(len(blocks[block]), -1).astype("<f4", copy=False)
        if len(blocks) > 1:
            kept.write(block, features)
        yield blocks[block], features


def _tiles(patches: np.ndarray, n_side: int, px: int) -> np.ndarray:
    """Return the tiles of patches ``(n, n_side * px, n_side * px, 3)``, shape ``(n * n_side**2, px, px, 3)``."""
    grid = patches.reshape(-1, n_side, px, n_side, px, 3)
    return np.ascontiguousarray(grid.swapaxes(2, 3)).reshape(-1, px, px, 3)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
