"""A cohort on disk: ``cohort.toml``, ``sections/<id>.h5ad``, and images beside it or where they were."""

import hashlib
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from anndata import AnnData
from PIL import Image
from pydantic import field_validator
from scipy import sparse

from hescribe import keys
from hescribe._support import write_whole_folder
from hescribe.cards import TECHNOLOGIES, DatasetCard, SectionCard
from hescribe.data.cohort import Cohort
from hescribe.data.h5ad import read_h5ad, write_h5ad
from hescribe.data.image import ArrayImage, ImageSource, LazyImage
from hescribe.data.manifest import Box, Channel
from hescribe.data.plain import PlainImage, hash_file
from hescribe.data.section import Section
from hescribe.data.slide import SlideImage, open_image
from hescribe.data.toml_file import Record, TechnologyName, read_toml, to_toml
from hescribe.errors import DataAccessError, FormatError, InputError, SchemaError
from hescribe.progress import track

INDEX, SECTIONS, IMAGES = "cohort.toml", "sections", "images"
FORMAT = 1  # version of the folder's layout


def _is_file_name(name: str) -> str:
    if not name or name.startswith(".") or any(c in name for c in '/\\:*?"<>|') or not name.isprintable():
        raise ValueError('cannot be the name of a file: it must not start with a dot or hold / \\ : * ? " < > |')
    return name


class ImageRecord(Record):
    """Where an image is, what it was when the cohort was written, and what is painted over.

    ``path`` is absolute, or below the cohort's folder: a cohort that was moved or sent must not
    take a neighbour's file for its own.
    """

    path: str
    sha256: str
    mask_boxes_px: tuple[Box, ...] = ()
    black_background: bool = False
    fill_rgb: tuple[Channel, Channel, Channel] | None = None

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        if not Path(path).is_absolute() and ".." in Path(path).parts:
            raise ValueError("leaves the cohort's folder; an image outside of it needs its absolute path")
        return path


class SectionRecord(Record):
    """One ``[[section]]`` of the index."""

    id: str
    donor: str
    organ: str
    organism: str
    technology: TechnologyName
    pitch_um: float | None = None
    mpp: float | None = None
    mpp_source: str
    n_spots: int
    n_genes_measured: int
    dropped_spots: tuple[str, ...] = ()
    image: ImageRecord | None = None

    _id_is_a_file_name = field_validator("id")(_is_file_name)


class CohortRecord(Record):
    """The index of a cohort, ``cohort.toml``."""

    format: Literal[1]
    id: str
    title: str = ""
    organism: str = "unknown"
    organ: str = "unknown"
    technology: str = "other"
    licence: str = "unknown"
    citation: str = "unknown"
    warnings: tuple[str, ...] = ()
    synthetic: bool = False
    n_genes: int
    panel_sha256: str
    section: tuple[SectionRecord, ...]

    @property
    def card(self) -> DatasetCard:
        """The facts about the data."""
        return DatasetCard(**{f: getattr(self, f) for f in DatasetCard.__dataclass_fields__})


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that a cohort may not be written to.

    Raises
    ------
    InputError
        If it holds something else than a cohort, or a cohort that may not be replaced.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / INDEX).is_file():
        raise InputError(f"{path} exists and is no cohort; give a new folder")
    if not overwrite:
        raise InputError(f"{path} holds a cohort already; give a new folder, or replace it with --overwrite")


def write_cohort(cohort: Cohort, path: Path, *, copy_images: bool = False, overwrite: bool = False) -> None:
    """Write a cohort as a folder, all of it or nothing.

    Parameters
    ----------
    cohort
        Sections with counts; an image held in memory is written as PNG, without loss.
    path
        New or empty folder.
    copy_images
        Whether image files are copied into the folder; else the index points to where they are.
    overwrite
        Whether a cohort at ``path`` is replaced.

    Raises
    ------
    InputError
        If ``path`` is taken, or the name of a section cannot be a file name.
    DataAccessError
        If the disk is full or the folder cannot be written.
    """
    check_target(path, overwrite=overwrite)
    for section in cohort:
        try:
            _is_file_name(section.id)
        except ValueError as error:
            raise InputError(f"section name {section.id!r} {error}") from error
    with write_whole_folder(path) as tmp:
        (tmp / SECTIONS).mkdir()
        records = []
        for section in track(cohort, "writing sections"):
            image = _keep_image(section, tmp, path, copy=copy_images)
            _write_table(section.table, tmp / SECTIONS / f"{section.id}.h5ad")
            records.append(_to_record(section, image))
        index = {
            "format": FORMAT,
            **{f: getattr(cohort.card, f) for f in DatasetCard.__dataclass_fields__},
            "n_genes": len(cohort.genes),
            "panel_sha256": hash_panel(cohort.genes),
            "section": records,
        }
        (tmp / INDEX).write_text(to_toml(index), encoding="utf-8")


def read_cohort(path: Path, *, with_image: bool = False) -> Cohort:
    """Read a cohort folder; images are opened, not decoded.

    Parameters
    ----------
    path
        Cohort folder.
    with_image
        Read only the sections that have an image. At least one must.

    Raises
    ------
    DataAccessError
        If the folder, a section or an image is missing.
    SchemaError
        If the index breaks its format: all problems.
    FormatError
        If a section's file is damaged or is not the one the index describes.
    """
    path = Path(path)
    record = read_index(path)
    wanted = [r for r in record.section if r.image is not None or not with_image]
    if not wanted:
        raise InputError(f"no section of cohort {record.id} has an image; prediction needs one")
    sections = tuple(read_section(r, path) for r in track(wanted, "reading sections"))
    cohort = Cohort(sections, record.card)
    if hash_panel(cohort.genes) != record.panel_sha256:
        raise FormatError(f"{path / INDEX} describes another panel than its sections have; import the cohort again")
    return cohort


def read_index(path: Path) -> CohortRecord:
    """Read ``cohort.toml`` alone; raises as ``read_cohort`` does."""
    if not (path / INDEX).is_file():
        raise DataAccessError(f"{path} is no cohort: it has no {INDEX}; make one with hescribe data import")
    record = read_toml(path / INDEX, CohortRecord)
    if not record.section:
        raise SchemaError(str(path / INDEX), ["section: the cohort has none"])
    return record


def read_section(record: SectionRecord, path: Path) -> Section:
    """Read one section of the cohort at ``path``; raises as ``read_cohort`` does."""
    file = path / SECTIONS / f"{record.id}.h5ad"
    if not file.is_file():
        raise DataAccessError(f"section {record.id} is missing: {file} does not exist")
    table = read_h5ad(file)
    if table.n_obs != record.n_spots or keys.COUNTS not in table.layers:
        raise FormatError(
            f"{file} has {table.n_obs} spots and the layers {list(table.layers)}; {INDEX} describes {record.n_spots} "
            f"spots with the layer {keys.COUNTS!r}"
        )
    table.uns[keys.DROPPED_SPOTS], table.uns[keys.N_GENES_MEASURED] = (
        list(record.dropped_spots),
        record.n_genes_measured,
    )
    card = SectionCard(
        technology=TECHNOLOGIES[record.technology],
        organ=record.organ,
        organism=record.organism,
        pitch_um=record.pitch_um,
        mpp=record.mpp,
        mpp_source=record.mpp_source,
    )
    return Section(record.id, record.donor, table, _open_image(record, path), card)


def find_section(file: Path) -> Section:
    """Read the section of a cohort that is kept in ``<cohort>/sections/<id>.h5ad``.

    Raises
    ------
    InputError
        If the file is not a section of a cohort; else as ``read_cohort`` does.
    """
    path = file.resolve().parent.parent
    if file.resolve().parent.name != SECTIONS or not (path / INDEX).is_file():
        raise InputError(f"{file} is no section of a cohort; bring it in with hescribe data import --reader h5ad")
    record = next((r for r in read_index(path).section if r.id == file.stem), None)
    if record is None:
        raise InputError(f"{path / INDEX} names no section {file.stem!r}")
    return read_section(record, path)


def data_hash(section: Section) -> str:
    """Return a sha256 that changes whenever the section's data does: counts, names, places, array or image."""
    table, digest = section.table, hashlib.sha256()
    digest.update(f"{section.card.technology} {section.card.pitch_um}".encode())
    for names in (table.var_names, table.obs_names):
        digest.update("\0".join(names).encode())
    counts = sparse.csr_matrix(table.layers[keys.COUNTS])
    if not counts.has_sorted_indices:
        counts = counts.sorted_indices()
    arrays = [np.asarray(counts.data, dtype=np.float32)]
    arrays += [np.asarray(places, dtype=np.int32) for places in (counts.indices, counts.indptr)]
    arrays += [np.asarray(table.obsm[k], dtype=np.float64) for k in (keys.SPATIAL, keys.SPATIAL_UM) if k in table.obsm]
    for array in (*arrays, section.depth):
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    digest.update((section.image.fingerprint if section.image else "no image").encode())
    return digest.hexdigest()


def hash_panel(genes: tuple[str, ...]) -> str:
    """Return a sha256 of the gene names in their order."""
    return hashlib.sha256("\n".join(genes).encode()).hexdigest()


def _write_table(table: AnnData, path: Path) -> None:
    """Write what a section's file holds, and nothing else that a caller may have added."""
    obs = [k for k in (keys.ARRAY_ROW, keys.ARRAY_COL, keys.DEPTH, keys.KEPT, keys.REGION) if k in table.obs]
    lean = AnnData(
        obs=table.obs[obs],
        var=table.var[[k for k in (keys.GENE_ID, *keys.PREPARED_VAR) if k in table.var]],
        layers={k: table.layers[k] for k in table.layers},
        obsm={k: np.asarray(table.obsm[k]) for k in (keys.SPATIAL, keys.SPATIAL_UM) if k in table.obsm},
    )
    lean.layers[keys.COUNTS] = sparse.csr_matrix(table.layers[keys.COUNTS]).astype(np.int32)
    write_h5ad(lean, path)  # lzf would save a fifth of the space for twice the time


def _keep_image(section: Section, tmp: Path, path: Path, *, copy: bool) -> dict[str, Any] | None:
    """Return the record of a section's image, and write or copy the image if it is to lie in the cohort."""
    image = section.image
    if image is None:
        return None
    if isinstance(image, ArrayImage | LazyImage):
        (tmp / IMAGES).mkdir(exist_ok=True)
        inside = tmp / IMAGES / f"{section.id}.png"
        Image.fromarray(image.pixels).save(inside, compress_level=1)
        return {"path": f"{IMAGES}/{inside.name}", "sha256": hash_file(inside)}
    if not isinstance(image, PlainImage | SlideImage):
        raise InputError(f"section {section.id}: an image of type {type(image).__name__} cannot be written")
    file = image.path.resolve()
    record: dict[str, Any] = {"path": str(file), "sha256": hash_file(file)}
    if copy or file.is_relative_to(path.resolve()):
        (tmp / IMAGES).mkdir(exist_ok=True)
        record["path"] = f"{IMAGES}/{section.id}{file.suffix}"
        shutil.copyfile(file, tmp / record["path"])
    if isinstance(image, PlainImage) and image.is_masked:
        record["mask_boxes_px"] = image.mask_boxes_px
        record["black_background"] = image.black_background
        record["fill_rgb"] = image.fill_rgb
    return record


def _to_record(section: Section, image: dict[str, Any] | None) -> dict[str, Any]:
    card, table = section.card, section.table
    return {
        "id": section.id,
        "donor": section.donor,
        "organ": card.organ,
        "organism": card.organism,
        "technology": card.technology.name,
        "pitch_um": card.pitch_um,
        "mpp": section.image.mpp if section.image else card.mpp,
        "mpp_source": card.mpp_source,
        "n_spots": section.n_spots,
        "n_genes_measured": int(table.uns.get(keys.N_GENES_MEASURED, table.n_vars)),
        "dropped_spots": list(table.uns.get(keys.DROPPED_SPOTS, ())),
        "image": image,
    }


def _open_image(record: SectionRecord, path: Path) -> ImageSource | None:
    image = record.image
    if image is None:
        return None
    file = path / image.path
    if not file.is_file():
        raise DataAccessError(
            f"the image of section {record.id} is missing: {file} does not exist; put it back, or import again"
        )
    paint = {} if image.fill_rgb is None else {"fill_rgb": image.fill_rgb}
    return open_image(
        file, record.mpp, mask_boxes_px=image.mask_boxes_px, black_background=image.black_background, **paint
    )
