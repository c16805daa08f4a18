"""What a reader gives: the sections as the files hold them, before scale, panel and checks."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from scipy import sparse

from hescribe.cards import DatasetCard
from hescribe.data.image import ImageSource
from hescribe.errors import SchemaError
from hescribe.registry import Registry

MIN_OVERLAP = 0.9  # of the spots of either file: below it, the two files hardly belong together


@dataclass(frozen=True, kw_only=True)
class RawSection:
    """One section as a format holds it.

    Parameters
    ----------
    id
        Name of the section.
    where
        File of the counts, for messages.
    counts
        Shape ``(n_spots, n_genes)``, over all genes of the section's own table.
    genes, spots
        Names of the columns and rows of ``counts``.
    xy_px
        Spot centres (x, y) in pixels, shape ``(n_spots, 2)``; None if the format has none.
    array_xy
        Column and row on the capture array, shape ``(n_spots, 2)``; None if the platform has no array.
    technology
        Name in ``cards.TECHNOLOGIES``.
    donor, organ, organism
        None if the files do not say.
    pitch_um
        Distance of neighbouring spot centres, where the reader or the files choose it.
    mpp
        um per pixel of ``xy_px`` by who states it; empty if nothing in the files does.
    aligned
        False if ``xy_px`` are pixels of no image: the section can have none.
    image
        File of the section's image; or, for one inside another file, what makes it once its um per
        pixel are known; None if there is none.
    coordinate_scale
        Pixels of ``image`` per pixel of ``xy_px``.
    depth
        Counts of each spot over all measured genes, shape ``(n_spots,)``, where the table holds a part
        of them; None: the sum of ``counts``.
    regions
        Pathologist's label of each spot, shape ``(n_spots,)``; None if there are none.
    gene_ids
        Stable identifier of each gene; None if the names are all there is.
    dropped_spots
        Names of the spots left out because only one of the files has them.
    dataset
        Card of the cohort that was converted to this file; None for all others.
    notes
        What the user should know about how the files were read, one sentence each.
    """

    id: str
    where: Path
    counts: sparse.csr_matrix
    genes: tuple[str, ...]
    spots: tuple[str, ...]
    xy_px: np.ndarray | None
    array_xy: np.ndarray | None = None
    technology: str = "other"
    donor: str | None = None
    organ: str | None = None
    organism: str | None = None
    pitch_um: float | None = None
    mpp: Mapping[str, float] = field(default_factory=dict)
    aligned: bool = True
    image: Path | Callable[[float], ImageSource] | None = None
    coordinate_scale: float = 1.0
    depth: np.ndarray | None = None
    regions: np.ndarray | None = None
    gene_ids: tuple[str, ...] | None = None
    dropped_spots: tuple[str, ...] = ()
    dataset: DatasetCard | None = None
    notes: tuple[str, ...] = ()


class Reader(Protocol):
    """Reads one format."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def read(self, source: Path) -> list[RawSection]:
        """Return the sections of a folder or file, in the order of their names.

        Raises
        ------
        DataAccessError
            If a file is missing, unreadable or damaged.
        SchemaError
            If its content breaks the format.
        """
        ...


def match_spots(counted: Collection[str], placed: Collection[str], where: Path) -> set[str]:
    """Return the spots that both the count table and the spot file have.

    Raises
    ------
    SchemaError
        If they are under 90 % of either file.
    """
    both = set(counted) & set(placed)
    if len(both) < MIN_OVERLAP * max(len(counted), len(placed)):
        problem = (
            f"only {len(both)} spots are in both the count table ({len(counted)}) and the spot file ({len(placed)}); "
            f"at least {MIN_OVERLAP:.0%} must be: do both files belong to this section?"
        )
        raise SchemaError(str(where), [problem])
    return both


def find_samples(source: Path, is_sample: Callable[[Path], bool]) -> list[Path]:
    """Return the folders of 10x software below ``source``: itself, its ``outs``, or those of its subfolders."""
    folders = [source, source / "outs"]
    if source.is_dir():
        folders += sorted(p for child in source.iterdir() for p in (child, child / "outs"))
    return [f for f in dict.fromkeys(folders) if is_sample(f)]  # outs is a subfolder as well


def name_sample(folder: Path) -> str:
    """Return the name of a sample from its folder; ``outs`` takes that of the folder it lies in."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "outs" else folder.name


readers: Registry[Reader] = Registry(
    "reader",
    "hescribe.data.readers",
    besides=("count_table", "h5ad_parts", "he_alignment", "matrix_market", "tenx_matrix", "transcripts"),
)
