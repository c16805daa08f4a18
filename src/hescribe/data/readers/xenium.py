"""Xenium: the output of Xenium Onboard Analysis 1.0 to 4, transcripts summed in square pseudo-spots."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv, parquet
from scipy import sparse

from hescribe.data.readers.base import RawSection, find_samples, name_sample
from hescribe.data.readers.he_alignment import find_scale, read_alignment, to_he_px
from hescribe.data.readers.tenx_matrix import EXPRESSION, read_features
from hescribe.data.readers.transcripts import Squares, sum_transcripts
from hescribe.data.untrusted import parse_json
from hescribe.errors import DataAccessError, FormatError, SchemaError
from hescribe.params import Params
from hescribe.progress import track
from hescribe.units import reduce_mpp, to_px

TRANSCRIPTS = ("transcripts.parquet", "transcripts.csv.gz")
CELLS = ("cells.parquet", "cells.csv.gz")
CENTROIDS = ("x_centroid", "y_centroid")
EXPERIMENT, CELL_MATRIX = "experiment.xenium", "cell_feature_matrix.h5"
ALIGNMENT = re.compile(r".*(imagealignment|keypoints|landmarks)\.csv", re.IGNORECASE)
IMAGE = re.compile(r"(?!morphology).*\.(tiff?|btf|svs|ndpi|jpe?g|png)", re.IGNORECASE)
MAX_RATIO = 3.0  # of the reach of transcripts and cells: in pixels, one would be 4.7 times the other


@dataclass(kw_only=True)
class XeniumReader(Params):
    """Reads one output folder, or every one in a folder of samples.

    Parameters
    ----------
    spot_um
        Side of a pseudo-spot in um. 55 is that of HESCAPE and of a Visium spot; HEST has 100.
    min_qv
        Lowest quality value of a transcript that counts; below 20, 10x calls it uncertain.
    """

    name: ClassVar[str] = "xenium"
    summary: ClassVar[str] = "Xenium: transcripts in square pseudo-spots of spot_um (55), quality min_qv (20) or better"

    spot_um: float = 55.0
    min_qv: float = 20.0

    def read(self, source: Path) -> list[RawSection]:
        """Return the sections of a folder, in the order of their names."""
        self.check_between("spot_um", 2, 1000)
        self.check_between("min_qv", 0, 40)
        found = find_samples(source, lambda folder: _first(folder, TRANSCRIPTS) is not None)
        if not found:
            raise DataAccessError(f"{source} holds neither {' nor '.join(TRANSCRIPTS)}: it is no output of Xenium")
        return [self._read_sample(folder) for folder in track(found, "reading sections")]

    def _read_sample(self, folder: Path) -> RawSection:
        path = next(folder / name for name in TRANSCRIPTS if (folder / name).is_file())
        place = _find_place(folder)
        squares = sum_transcripts(path, self.spot_um, self.min_qv)
        if not len(squares.array_xy):
            problem = f"no transcript of a gene has a quality value of at least {self.min_qv:g}"
            raise SchemaError(str(path), [problem])
        _check_cells(folder, squares, path)
        counts, genes, gene_ids = _to_panel(squares, folder / CELL_MATRIX)
        centre_um = (squares.array_xy + 0.5) * self.spot_um
        left_out = (
            f"{squares.n_uncertain} transcripts under quality {self.min_qv:g} and {squares.n_controls} of controls"
        )
        return RawSection(
            id=name_sample(folder),
            where=path,
            counts=counts,
            genes=genes,
            gene_ids=gene_ids,
            spots=tuple(f"{row:03d}x{column:03d}" for column, row in squares.array_xy.tolist()),
            xy_px=place.to_px(centre_um),
            array_xy=squares.array_xy,
            technology="xenium",
            pitch_um=self.spot_um,
            mpp=place.mpp,
            aligned=place.matrix is not None,
            image=place.image,
            notes=(f"left out {left_out}", *place.notes),
        )


@dataclass(frozen=True)
class Place:
    """How um of the platform become pixels of the H&E image; without a matrix, a pixel is a um."""

    image: Path | None = None
    matrix: np.ndarray | None = None
    pixel_um: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def mpp(self) -> dict[str, float]:
        """The um per pixel of the coordinates, and who states it."""
        if self.matrix is None:
            return {"native um": 1.0}
        return {"alignment": reduce_mpp(self.pixel_um, find_scale(self.matrix))}

    def to_px(self, xy_um: np.ndarray) -> np.ndarray:
        """Return um of the platform, shape ``(n, 2)``, as pixels."""
        return xy_um if self.matrix is None else to_he_px(np.asarray(to_px(xy_um, self.pixel_um)), self.matrix)


def _find_place(folder: Path) -> Place:
    """Return the H&E image of a sample and its alignment, from its folder or beside ``outs``."""
    folders = [folder, folder.resolve().parent] if folder.name == "outs" else [folder]
    files = sorted(p for f in folders for p in f.iterdir() if p.is_file())
    images = [p for p in files if IMAGE.fullmatch(p.name)]
    alignments = [p for p in files if ALIGNMENT.fullmatch(p.name)]
    for what, found in (("images", images), ("alignments", alignments)):
        if len(found) > 1:
            names = ", ".join(p.name for p in found)
            raise DataAccessError(f"{folder} has {len(found)} {what} ({names}); keep that of the H&E stain only")
    if images and not alignments:
        raise DataAccessError(
            f"{images[0]} is not aligned: export *_imagealignment.csv from Xenium Explorer to {folder}, or move the "
            "image away to import the section without"
        )
    if not alignments:
        return Place()
    matrix, notes = read_alignment(alignments[0])
    return Place(images[0] if images else None, matrix, _read_pixel_um(folder / EXPERIMENT), notes)


def _read_pixel_um(path: Path) -> float:
    """Return the size of a pixel of the morphology image."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataAccessError(f"{path} cannot be read: it states the pixel size that the alignment needs") from error
    try:
        pixel_um = float(parse_json(text, path)["pixel_size"])
    except (FormatError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} does not state pixel_size, the um per pixel of the morphology image") from error
    if not 0.01 < pixel_um < 10:
        raise SchemaError(str(path), [f"pixel_size is {pixel_um:g}, which is no um per pixel of a microscope"])
    return pixel_um


def _check_cells(folder: Path, squares: Squares, path: Path) -> None:
    """Refuse transcripts that reach much farther than the cells, or not nearly as far: one of them is in pixels."""
    cells = _first(folder, CELLS)
    if cells is None:
        return
    try:
        if cells.suffix == ".parquet":
            table = parquet.read_table(cells, columns=list(CENTROIDS))
        else:
            table = csv.read_csv(cells, convert_options=csv.ConvertOptions(include_columns=list(CENTROIDS)))
        centroids = table.to_pandas()[list(CENTROIDS)].astype(np.float64)
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise FormatError(
            f"{cells} is damaged or has no columns {' and '.join(CENTROIDS)} of numbers: {error}"
        ) from error
    for axis, reach_um, far in zip("xy", squares.far_um, centroids.max(), strict=True):
        if far > 0 and not 1 / MAX_RATIO < reach_um / far < MAX_RATIO:
            problem = (
                f"its transcripts reach {axis} = {reach_um:.0f}, and the cells of {cells.name} {far:.0f}: one of the "
                "files is not in um, or is of another section"
            )
            raise SchemaError(str(path), [problem])


def _to_panel(squares: Squares, matrix: Path) -> tuple[sparse.csr_matrix, tuple[str, ...], tuple[str, ...] | None]:
    """Return the counts over all genes of the panel with their ids, if the cell matrix lists the panel."""
    if not matrix.is_file():
        return squares.counts, squares.genes, None
    features = read_features(matrix)
    panel = features[features["type"] == EXPRESSION]
    if (twice := panel["name"].duplicated()).any():
        problem = f"gene {panel['name'][twice].iloc[0]} is listed twice: its transcripts cannot be told apart"
        raise SchemaError(str(matrix), [problem])
    panel = panel.sort_values("name")
    column = pd.Index(panel["name"]).get_indexer(squares.genes)
    if (column < 0).any():
        stranger = squares.genes[int(np.flatnonzero(column < 0)[0])]
        raise SchemaError(str(matrix), [f"gene {stranger} of the transcripts is not listed: is it of this section?"])
    counts = squares.counts.tocoo()
    wide = sparse.csr_matrix((counts.data, (counts.row, column[counts.col])), shape=(counts.shape[0], len(panel)))
    return wide, tuple(panel["name"]), tuple(panel["id"])


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
