"""Bags in files, one a slide: h5 of TRIDENT, CLAM and HEST, npy, parquet, our own h5ad, and wsidata's zarr."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np
import pyarrow.parquet as pq

from hescribe import keys
from hescribe.data.untrusted import check_parquet, named_damage, open_h5, read_npy
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.slide._wsidata import read_store, read_store_places
from hescribe.slide.bags import Places, check_features

T = TypeVar("T")
FEATURES, COORDS, SIDE = "features", "coords", "patch_size_level0"  # datasets of an h5; attribute of the second
EMBEDDINGS = "embeddings"  # what HEST calls the first
LAYOUT = "*/features_*"  # of TRIDENT's job folders: <magnification and patch>/features_<encoder>/<slide>.h5
XY = ("x_um", "y_um")  # columns of a parquet that are no features
NO_BAG = "cannot be read as a bag of tiles"


@dataclass(frozen=True)
class FileBag:
    """A bag in a file of its own.

    Parameters
    ----------
    path
        Its stem is the name of the slide.
    """

    path: Path

    @property
    def id(self) -> str:
        """Name of the slide."""
        return self.path.stem

    def read(self) -> np.ndarray:
        """Return the vectors of the tiles.

        Raises
        ------
        DataAccessError
            If the file is gone.
        FormatError
            If it is damaged or holds no features.
        InputError
            If it has no tile, or a value that is not finite.
        """
        return check_features(_read(self.path, READERS[self.path.suffix][0]), str(self.path))

    def read_places(self) -> Places | None:
        """Return where the tiles lie, if the file says."""
        places = _read(self.path, READERS[self.path.suffix][1])
        if places is not None and np.shape(places.xy) != (expected := (len(self.read()), 2)):
            raise FormatError(
                f"{self.path} has places of shape {np.shape(places.xy)} for {expected[0]} tiles; embed the slide again"
            )
        return places

    def read_seen(self) -> str | None:
        """Return where the encoder of the features has seen this tissue in its training, if the file says so."""
        reader = {".h5ad": _read_h5ad_seen, ".h5": _read_h5_seen}.get(self.path.suffix)
        return None if reader is None else _read(self.path, reader)


def read_bags(folder: Path) -> dict[str, FileBag]:
    """Return the bags of a folder by the names of their slides; no vector is read yet.

    Parameters
    ----------
    folder
        One file a slide: ``.h5`` (dataset ``features`` or ``embeddings`` and, for maps, ``coords``), ``.npy``,
        ``.parquet`` (a column a dimension, taken in the order of their names; ``x_um`` and ``y_um`` are places),
        ``.h5ad``, or ``.zarr``, a store of wsidata. Other files are left alone. Or a job folder of TRIDENT that holds
        the features of one encoder.

    Raises
    ------
    DataAccessError
        If there is no such folder, or no bag in it.
    InputError
        If two files are of one slide, parquet files differ in their columns, or a job folder holds several encoders.
    """
    if not folder.is_dir():
        raise DataAccessError(f"{folder} is no folder of features; give one that holds a file for each slide")
    folder = _find_features(folder)
    paths = _bag_paths(folder)
    if not paths:
        raise DataAccessError(f"{folder} holds no features; expected one file a slide: {', '.join(READERS)}")
    bags: dict[str, FileBag] = {}
    for path in paths:
        if path.stem in bags:
            other = bags[path.stem].path.name
            raise InputError(f"slide {path.stem} has two files in {folder}: {other} and {path.name}; keep one")
        bags[path.stem] = FileBag(path)
    _check_columns([p for p in paths if p.suffix == ".parquet"])
    return bags


def _bag_paths(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in READERS and not p.name.startswith("."))


def _find_features(folder: Path) -> Path:
    """Return where the bags are: the folder itself, or that of the one encoder in TRIDENT's layout."""
    if _bag_paths(folder):
        return folder
    found = sorted(p for p in folder.glob(LAYOUT) if p.is_dir())
    if len(found) > 1:
        names = ", ".join(str(p.relative_to(folder)) for p in found)
        raise InputError(f"{folder} holds features of several encoders or patches ({names}); give one of these folders")
    return found[0] if found else folder


def _check_columns(paths: list[Path]) -> None:
    """Raise ``InputError`` where a parquet file has other columns than the first: dimensions go by name."""
    columns = {path: _read(path, _feature_columns) for path in paths}
    for path, found in columns.items():
        if odd := set(found) ^ set(columns[paths[0]]):
            raise InputError(f"{path.name} and {paths[0].name} differ in column {min(odd)!r}; embed all slides alike")


def _read(path: Path, reader: Callable[[Path], T]) -> T:
    if not path.exists():
        raise DataAccessError(f"{path} is gone; embed the slide again")
    with named_damage(path, NO_BAG):
        return reader(path)


def _read_h5(path: Path) -> np.ndarray:
    with open_h5(path, NO_BAG) as file:
        name = FEATURES if FEATURES in file else EMBEDDINGS
        if name not in file:
            raise FormatError(f"{path} has no dataset {FEATURES!r}; it holds {', '.join(file) or 'nothing'}")
        features: np.ndarray = file[name][()]
    return features[0] if features.ndim == 3 and len(features) == 1 else features  # some write a batch of one slide


def _read_h5_places(path: Path) -> Places | None:
    with open_h5(path, NO_BAG) as file:
        if COORDS not in file:
            return None
        corner = np.asarray(file[COORDS][()], dtype=np.float64)
        side = file[COORDS].attrs.get(SIDE)
    corner = corner[0] if corner.ndim == 3 else corner
    return Places(corner + (float(side) / 2 if side is not None else 0), None if side is None else float(side), "px")


def _read_npy(path: Path) -> np.ndarray:
    return read_npy(path)


def _feature_columns(path: Path) -> list[str]:
    return sorted(c for c in check_parquet(path, what=NO_BAG) if c not in XY)


def _read_parquet(path: Path) -> np.ndarray:
    table = pq.read_table(path, columns=_feature_columns(path))
    return np.column_stack([c.to_numpy() for c in table.columns]) if table.num_columns else np.empty((0, 0))


def _read_parquet_places(path: Path) -> Places | None:
    if not set(XY) <= set(check_parquet(path, what=NO_BAG)):
        return None
    table = pq.read_table(path, columns=list(XY))
    return Places(np.column_stack([c.to_numpy() for c in table.columns]), None, "um")


def _read_h5ad(path: Path) -> np.ndarray:
    with open_h5(path, NO_BAG) as file:
        if not isinstance(x := file["X"], h5py.Dataset):
            raise FormatError(f"{path} has a sparse X: a table of counts, not of features; embed the slide first")
        features: np.ndarray = x[()]
    return features


def _read_h5ad_places(path: Path) -> Places | None:
    with open_h5(path, NO_BAG) as file:
        if keys.SPATIAL_UM not in file["obsm"]:
            return None
        return Places(np.asarray(file["obsm"][keys.SPATIAL_UM][()], dtype=np.float64), None, "um")


def _read_h5ad_seen(path: Path) -> str | None:
    with open_h5(path, NO_BAG) as file:
        if keys.SEEN not in file.get("uns", ()):
            return None
        return str(file["uns"][keys.SEEN].asstr()[()])


def _read_h5_seen(path: Path) -> str | None:
    with h5py.File(path) as file:
        found = file.attrs.get(keys.SEEN)
    return None if found is None else str(found)


def _no_places(path: Path) -> Places | None:
    del path
    return None


# Of each kind of file: what reads the features, and what reads where the tiles lie.
READERS: dict[str, tuple[Callable[[Path], np.ndarray], Callable[[Path], Places | None]]] = {
    ".h5": (_read_h5, _read_h5_places),
    ".npy": (_read_npy, _no_places),
    ".parquet": (_read_parquet, _read_parquet_places),
    ".h5ad": (_read_h5ad, _read_h5ad_places),
    ".zarr": (read_store, read_store_places),
}
