"""The patches of a cohort's spots on disk, for networks that are trained on images."""

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hescribe import settings
from hescribe._support import write_whole
from hescribe.data.cohort import Cohort
from hescribe.data.remembered import read_remembered, write_note
from hescribe.data.section import Section
from hescribe.data.untrusted import read_npy
from hescribe.prep.patches import CHUNK, iter_patches

FORMAT = 1  # of the cache; raise it when the cutting of patches changes


@dataclass(frozen=True)
class SpotPatches:
    """Patches of the kept spots of a cohort, read from disk when they are needed.

    Parameters
    ----------
    parts
        One memory map a section, of the patches of all its spots.
    rows
        Section and spot of every kept spot, shape ``(n_spots, 2)``.
    """

    parts: tuple[np.ndarray, ...]
    rows: np.ndarray

    @classmethod
    def of(cls, cohort: Cohort, fov_um: float, px: int) -> "SpotPatches":
        """Return the patches of the kept spots, in the order of the cohort; they are cut once and cached."""
        parts = tuple(section_patches(s, fov_um, px) for s in cohort)
        rows = [(i, spot) for i, s in enumerate(cohort) for spot in np.flatnonzero(s.kept)]
        return cls(parts, np.array(rows).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, spots: np.ndarray) -> np.ndarray:
        """Return the patches of some kept spots, by their number, shape ``(n, px, px, 3)`` uint8."""
        taken = np.empty((len(spots), *self.parts[0].shape[1:]), dtype=np.uint8)
        for to, (part, row) in zip(taken, self.rows[spots], strict=True):
            to[:] = self.parts[part][row]
        return taken

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the patches of all kept spots in order, some at a time."""
        for start in range(0, len(self), CHUNK):
            yield self.take(np.arange(start, min(start + CHUNK, len(self))))


def section_patches(section: Section, fov_um: float, px: int) -> np.ndarray:
    """Return the patches of all spots of a section as a memory map of the cache, which is filled at first use.

    What is found there is compared with its checksum, and cut again where it differs.

    Parameters
    ----------
    section, fov_um, px
        As for ``iter_patches``.

    Returns
    -------
    Shape ``(n_spots, px, px, 3)`` uint8, read only.

    Raises
    ------
    InputError
        If the section has no image, or a spot lies outside of it.
    DataAccessError
        If the image cannot be read or the cache cannot be written.
    """
    chunks = iter_patches(section, fov_um, px)  # checks the section
    facts, shape, crc32 = _facts(section, fov_um, px), (section.n_spots, px, px, 3), 0
    where = _place(facts)
    found = read_remembered(where, shape, np.uint8, in_memory=False)
    if found is not None:
        return found
    with write_whole(where) as tmp, tmp.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for chunk in chunks:
            rows = np.ascontiguousarray(chunk).tobytes()
            crc32 = zlib.crc32(rows, crc32)
            out.write(rows)
    write_note(where, crc32, facts)
    return read_npy(where, in_memory=False)


def _facts(section: Section, fov_um: float, px: int) -> dict[str, object]:
    """Return everything the patches depend on, ready for JSON."""
    assert section.image is not None
    return {
        "format": FORMAT, "image": section.image.fingerprint, "mpp": section.image.mpp, "fov_um": fov_um, "px": px,
        "xy_um": hashlib.sha256(np.ascontiguousarray(section.xy_um).tobytes()).hexdigest(),
    }  # fmt: skip


def _place(facts: dict[str, object]) -> Path:
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    return settings.cache_dir() / "patches" / f"{key}.npy"
