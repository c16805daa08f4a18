"""What the viewer shows: sections with their image, spots and the values of any gene, read when they are asked for."""

import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy import sparse

from hescribe import keys
from hescribe.data.folder import INDEX, SECTIONS, find_section, read_index
from hescribe.data.image import ImageSource
from hescribe.data.section import Section
from hescribe.data.slide import open_image
from hescribe.data.untrusted import open_h5
from hescribe.errors import DataAccessError, FormatError, HescribeError, InputError
from hescribe.prep.counts import log_normalise
from hescribe.prep.graph import spacing_um

PEARSON, COLUMN = "pearson", "column"  # of the table of genes
MEASURED, ERROR, WIDTH = "measured", "error", "interval width"
NO_IMAGE = "shown without its image"
MAX_DOMAINS = 40  # values of a column that is still a set of domains, not a name for each spot


@dataclass(frozen=True, kw_only=True)
class View:
    """One section to look at.

    Parameters
    ----------
    id
        Of the section.
    predicted
        The file of its prediction, if there is one.
    counts
        The file of the measured section in its cohort, if there is one.
    slide, mpp
        An image without a measured section, and its um per pixel (None: as it says).
    """

    id: str
    predicted: Path | None = None
    counts: Path | None = None
    slide: Path | None = None
    mpp: float | None = None
    _lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def measured(self) -> Section | None:
        """The section with its counts, if it was measured and is where it was."""
        return self._opened[0]

    @property
    def image(self) -> ImageSource | None:
        """The H&E image; None shows the spots alone."""
        return self._opened[1]

    @property
    def problem(self) -> str:
        """Why something is missing, for the reader; empty if nothing is."""
        return self._opened[2]

    @cached_property
    def xy_um(self) -> np.ndarray:
        """Centres of the spots, shape ``(n_spots, 2)`` float32."""
        xy_um = self._obsm if self.predicted is not None else self._section.xy_um.astype(np.float32)
        if xy_um.shape != (len(self._obs), 2) or not np.isfinite(xy_um).all():
            raise FormatError(f"section {self.id} does not say where each spot lies; predict it again")
        return xy_um

    @cached_property
    def spot_names(self) -> list[str]:
        """Names of the spots."""
        return [str(n) for n in self._obs.index]

    @cached_property
    def pitch_um(self) -> float:
        """Distance between neighbouring spots."""
        return spacing_um(self.xy_um)

    @cached_property
    def genes(self) -> pd.DataFrame:
        """Index gene, best first; columns ``trust`` and ``pearson``, which are empty where nothing was predicted."""
        if self.predicted is None:
            names = list(self._section.genes)
            return pd.DataFrame({keys.TRUST: "", PEARSON: np.nan, COLUMN: range(len(names))}, index=names)
        var = self._read("var")
        if not var.index.is_unique:
            raise FormatError(f"{self.predicted} holds gene {var.index[var.index.duplicated()][0]} twice")
        score = var[PEARSON].to_numpy(float) if PEARSON in var else np.full(len(var), np.nan)
        trust = var[keys.TRUST].astype(str) if keys.TRUST in var else "untested"
        table = pd.DataFrame({keys.TRUST: trust, PEARSON: score, COLUMN: range(len(var))}, index=var.index)
        return table.sort_values(PEARSON, ascending=False, kind="stable")

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """What can be shown of a gene."""
        predicted = () if self.predicted is None else (keys.PREDICTED,)
        ends = (keys.LOWER, keys.UPPER, WIDTH) if self._has_interval else ()
        measured = () if self.measured is None else (MEASURED,)
        return (*predicted, *measured, *((ERROR,) if predicted and measured else ()), *ends)

    @cached_property
    def domains(self) -> dict[str, tuple[list[str], np.ndarray]]:
        """Columns that name a few groups of spots: their values, and which one each spot has (-1: none)."""
        found = {}
        for name, column in self._obs.items():
            if not isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.kind not in "OUT":
                continue  # numbers name no groups
            values = column.astype("category") if not isinstance(column.dtype, pd.CategoricalDtype) else column
            is_named = values.cat.categories.dtype.kind in "OUT"
            if is_named and 1 < len(values.cat.categories) <= MAX_DOMAINS:
                codes = values.cat.codes.to_numpy(dtype=np.float32)
                found[str(name)] = ([str(v) for v in values.cat.categories], codes)
        return found

    @cached_property
    def ood(self) -> np.ndarray | None:
        """How unlike the training images each spot looks, 0 to 1, shape ``(n_spots,)``; None if nobody said."""
        if self.predicted is None or keys.OOD not in self._obs:
            return None
        found = self._obs[keys.OOD].to_numpy(dtype=np.float32)
        return found if np.isfinite(found).any() else None

    @cached_property
    def notes(self) -> dict[str, Any]:
        """What the prediction says about itself: model, interval, doubts."""
        if self.predicted is None:
            return {}
        found = self._read("uns").get("hescribe", {})
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}

    def values(self, gene: str, layer: str) -> np.ndarray:
        """Return one layer of one gene, shape ``(n_spots,)`` float32; NaN where it is not defined.

        Raises
        ------
        InputError
            If there is no such gene or layer.
        """
        if gene not in self.genes.index:
            raise InputError(f"section {self.id} has no gene {gene!r} to show")
        if layer not in self.layers:
            raise InputError(f"section {self.id} has no layer {layer!r}; it has {', '.join(self.layers)}")
        if layer == MEASURED:
            return self._measure(gene)
        if layer == ERROR:
            return self.values(gene, keys.PREDICTED) - self._measure(gene)
        if layer == WIDTH:
            return self.values(gene, keys.UPPER) - self.values(gene, keys.LOWER)
        assert self.predicted is not None
        return _read_column(self.predicted, layer, int(self.genes.loc[gene, COLUMN]), len(self.xy_um))

    @cached_property
    def _opened(self) -> tuple[Section | None, ImageSource | None, str]:
        """Return the measured section, the image and what went wrong; read when the section is first shown."""
        try:
            if self.slide is not None:
                return None, open_image(self.slide, self.mpp), ""
            if self.counts is not None:
                if not self.counts.exists():
                    raise DataAccessError(f"{self.counts.absolute()} is not there any more; give --slide")
                section = find_section(self.counts)
                return section, section.image, ""
        except HescribeError as error:
            if self.predicted is None:
                raise
            return None, None, f"{NO_IMAGE}: {error}"
        return None, None, f"{NO_IMAGE}: the prediction does not say where it is; give --slide"

    @property
    def _section(self) -> Section:
        assert self.measured is not None
        return self.measured

    @cached_property
    def _obs(self) -> pd.DataFrame:
        return self._section.table.obs if self.predicted is None else self._read("obs")

    @cached_property
    def _obsm(self) -> np.ndarray:
        found = self._read("obsm").get(keys.SPATIAL_UM)
        is_numbers = isinstance(found, np.ndarray) and found.dtype.kind in "fiu"
        return found.astype(np.float32) if is_numbers else np.empty(0, dtype=np.float32)

    @cached_property
    def _has_interval(self) -> bool:
        if self.predicted is None:
            return False
        with self._lock, open_h5(self.predicted) as file:
            return keys.LOWER in file["layers"] and keys.UPPER in file["layers"]

    def _read(self, part: str) -> Any:
        assert self.predicted is not None
        with self._lock, open_h5(self.predicted) as file:
            found = read_elem(file[part]) if part in file else {}
        if part in {"obs", "var"} and not isinstance(found, pd.DataFrame):
            raise FormatError(f"{self.predicted} is damaged: its {part} is no table")
        return found

    def _measure(self, gene: str) -> np.ndarray:
        """Return log-normalised counts of the spots shown, NaN where a spot is no target or was not measured."""
        section = self._section
        if not section.table.obs_names.is_unique:
            raise FormatError(f"{self.counts} names a spot twice; bring the cohort in again")
        if gene not in section.genes:
            return np.full(len(self.xy_um), np.nan, dtype=np.float32)
        at = list(section.genes).index(gene)
        counts = section.table.layers[keys.COUNTS][:, [at]]
        found = log_normalise(counts, section.depth)
        values = np.asarray(found.todense() if sparse.issparse(found) else found, dtype=np.float32).ravel()
        values[~section.kept] = np.nan
        if self.predicted is None:
            return values
        place = pd.Series(values, index=section.table.obs_names)
        return place.reindex(self._obs.index).to_numpy(dtype=np.float32)


def _read_column(path: Path, layer: str, column: int, n_spots: int) -> np.ndarray:
    """Return a column of a layer, shape ``(n_spots,)`` float32, without reading the others.

    HDF5 takes five times as long for it as a map of the file, which a layer allows that is stored in one piece.
    """
    with open_h5(path) as file:
        values = file["layers"][layer]
        if values.ndim != 2 or len(values) != n_spots:
            raise FormatError(f"{path} has a layer {layer!r} of shape {values.shape} for {n_spots} spots")
        if values.chunks is not None or values.id.get_offset() is None or values.dtype != np.float32:
            return np.asarray(values[:, column], dtype=np.float32)
        offset, shape = values.id.get_offset(), values.shape
    return np.array(np.memmap(path, np.float32, "r", offset, shape)[:, column])


def read_scene(folder: Path, *, slide: Path | None = None, mpp: float | None = None) -> tuple[View, ...]:
    """Return the sections of a prediction folder or of a cohort.

    Parameters
    ----------
    folder
        What ``hescribe predict`` wrote, or a cohort.
    slide
        Image below a prediction, where that which it was made from has moved.
    mpp
        um per pixel of ``slide``, if it does not say.

    Raises
    ------
    InputError
        If the folder holds neither predictions nor a cohort, or ``slide`` is given for several sections.
    DataAccessError, FormatError
        If it does not exist or a file is damaged.
    """
    if not folder.is_dir():
        raise DataAccessError(f"{folder} is no folder; give what hescribe predict wrote, or a cohort")
    if mpp is not None and slide is None:
        raise InputError("--mpp is the scale of --slide; give both, or neither")
    if (folder / INDEX).is_file():
        if slide is not None:
            raise InputError(f"--slide is for a prediction; {folder} is a cohort, whose sections know their images")
        return tuple(View(id=r.id, counts=folder / SECTIONS / f"{r.id}.h5ad") for r in read_index(folder).section)
    files = sorted(p for p in folder.glob("*.h5ad") if p.is_file())
    if not files:
        raise InputError(f"{folder} holds no predicted section (*.h5ad) and is no cohort ({INDEX}); nothing to view")
    if slide is not None and len(files) > 1:
        raise InputError(f"--slide is the image of one section, and {folder} holds {len(files)}")
    return tuple(_predicted_view(path, slide, mpp) for path in files)


def _predicted_view(path: Path, slide: Path | None, mpp: float | None) -> View:
    with open_h5(path, "is no readable h5ad") as file:
        if keys.PREDICTED not in file.get("layers", {}):
            raise FormatError(f"{path} holds no predicted layer; view a folder that hescribe predict wrote")
        notes = read_elem(file["uns"]).get("hescribe", {})
    if slide is not None:
        return View(id=path.stem, predicted=path, slide=slide, mpp=mpp)
    if not notes.get("source"):
        return View(id=path.stem, predicted=path)
    place = path.parent / str(notes["source"])  # written as seen from the prediction
    if place.suffix == ".h5ad":
        return View(id=path.stem, predicted=path, counts=place)
    return View(id=path.stem, predicted=path, slide=place, mpp=notes.get("mpp"))
