"""Import: from a dataset's own files to a cohort folder, with everything that was left out reported."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe.cards import TECHNOLOGIES, DatasetCard, Grid, SectionCard
from hescribe.data.catalogue import find_entry, recognise
from hescribe.data.cohort import Cohort
from hescribe.data.folder import check_target, write_cohort
from hescribe.data.image import ImageSource
from hescribe.data.manifest import Manifest, ManifestSection
from hescribe.data.readers.base import MIN_OVERLAP, RawSection, readers
from hescribe.data.scale import choose_mpp, find_pitch_px, spans_grid
from hescribe.data.section import Section
from hescribe.data.slide import open_image
from hescribe.data.stated_mpp import read_stated_mpp
from hescribe.data.toml_file import read_toml
from hescribe.data.validate import check_section
from hescribe.errors import DataAccessError, InputError, PanelError, SchemaError
from hescribe.progress import track
from hescribe.units import mpp_from_pitch, reduce_mpp, to_um

IMAGE_SUFFIXES = {".svs", ".ndpi", ".mrxs", ".scn", ".tif", ".tiff", ".btf", ".jpg", ".jpeg", ".png"}
MIN_SHARED = 0.5  # of the others' genes: a section below it is on another panel, and would empty the common one


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What an import took in and what it left out.

    Parameters
    ----------
    cohort
        The cohort as written.
    path
        Its folder.
    dropped_spots
        Names of the spots left out, by section; sections that lost none are not listed.
    n_genes_measured
        Genes in each section's own table.
    n_genes_dropped
        Genes that at least one section has and another has not.
    notes
        What the user should know, one sentence each.
    """

    cohort: Cohort
    path: Path
    dropped_spots: dict[str, tuple[str, ...]]
    n_genes_measured: dict[str, int]
    n_genes_dropped: int
    notes: tuple[str, ...]

    @property
    def without_image(self) -> tuple[str, ...]:
        """Sections that have no image."""
        return tuple(s.id for s in self.cohort if s.image is None)


def import_cohort(
    source: Path,
    reader: str,
    out: Path,
    *,
    params: Mapping[str, object] | None = None,
    mpp: float | None = None,
    manifest: Path | None = None,
    card: str | None = None,
    copy_images: bool = False,
    overwrite: bool = False,
) -> ImportReport:
    """Read a dataset, bring its sections to one panel and one scale, check them and write a cohort.

    The panel is the genes that every section has, in the first section's order. A dataset of the
    catalogue is recognised by its files or named with ``card``; its manifest is used unless
    ``manifest`` replaces it.

    Parameters
    ----------
    source
        Folder or file.
    reader
        Name of the format, see ``hescribe list readers``.
    out
        Folder to write.
    params
        Parameters of the reader, for example ``{"spot_um": 100.0}``.
    mpp
        um per pixel of every image.
    manifest
        TOML file, see ``data.manifest``.
    card
        Id in the catalogue.
    copy_images
        Whether images are copied into the cohort; else they stay where they are.
    overwrite
        Whether ``out`` may be a cohort that is replaced.

    Raises
    ------
    SchemaError
        If counts, names or coordinates are wrong: all problems of all sections.
    UnitsError
        If the scale of a section is stated nowhere, or twice and differently.
    PanelError
        If the sections share too few genes.
    DataAccessError
        If a file is missing, damaged or cannot be written.
    InputError
        If the source is an image, or the reader has no such parameter.
    """
    _check_source(source)
    check_target(out, overwrite=overwrite)
    entry = find_entry(card) if card else recognise(source)
    facts = read_toml(manifest, Manifest) if manifest else entry.manifest if entry else Manifest()
    raw = readers.create(reader, **(params or {})).read(source)
    facts.check_sections([r.id for r in raw])
    sections = [_to_section(r, facts, source, mpp) for r in track(raw, "placing spots")]
    if problems := [p for s in track(sections, "checking sections") for p in check_section(s)]:
        raise SchemaError(str(source), problems)
    panel, n_dropped = choose_panel(sections)
    own_card = DatasetCard(id=out.resolve().name, technology=sections[0].card.technology.name)
    cohort = Cohort(
        tuple(s.with_table(_to_panel(s.table, panel)) for s in sections),
        entry.card if entry else raw[0].dataset or own_card,
    )
    write_cohort(cohort, out, copy_images=copy_images, overwrite=overwrite)
    return ImportReport(
        cohort=cohort,
        path=out,
        dropped_spots={s.id: names for s in sections if (names := tuple(s.table.uns[keys.DROPPED_SPOTS]))},
        n_genes_measured={r.id: len(r.genes) for r in raw},
        n_genes_dropped=n_dropped,
        notes=_collect_notes(raw, facts, cohort),
    )


def _check_source(source: Path) -> None:
    if not source.exists():
        raise DataAccessError(f"{source} does not exist")
    if source.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(
            f"{source} is an image without expression, and a cohort needs counts; hescribe predict takes it as it is"
        )


def choose_panel(sections: list[Section]) -> tuple[list[str], int]:
    """Return the genes that all sections have, in the first one's order, and how many others there are.

    Raises
    ------
    PanelError
        If a section shares under half of the genes of the others, or fewer than 2 genes are common.
    """
    every = pd.Index(np.concatenate([s.table.var_names.to_numpy() for s in sections])).unique()
    has = np.stack([every.isin(s.table.var_names) for s in sections])  # (n_sections, n_genes)
    common = has.astype(np.float32) @ has.T.astype(np.float32)  # genes of both, pair by pair
    share = common / has.sum(axis=1)  # of the genes of the section in the column
    for i, section in enumerate(sections):
        others = np.delete(share[i], i)
        if len(others) and np.median(others) < MIN_SHARED:
            raise PanelError(
                f"section {section.id} has {np.median(others):.0%} of the genes of the others (at least "
                f"{MIN_SHARED:.0%} are needed); import it apart, or give all sections the same kind of gene names"
            )
    in_all = set(every[has.all(axis=0)])
    panel = [g for g in sections[0].genes if g in in_all]
    if len(panel) < 2:
        raise PanelError(f"the sections have {len(panel)} common genes; a panel needs at least 2")
    return panel, len(every) - len(panel)


def _collect_notes(raw: list[RawSection], manifest: Manifest, cohort: Cohort) -> tuple[str, ...]:
    notes = [f"{r.id}: {note}" for r in raw for note in r.notes]
    if manifest.pitch_note and any(s.card.mpp_source == "manifest pitch" for s in cohort):
        notes.append(manifest.pitch_note)
    if unknown := [r.id for r in raw if not (manifest.donor_of(r.id) or r.donor)]:
        notes.append(
            f"the donor of {len(unknown)} of {len(raw)} sections is not recorded ({', '.join(unknown[:3])}): each "
            "counts as a donor of its own, and scores are too good if it is not; declare the donors in a manifest"
        )
    return tuple(notes)


def _to_panel(table: AnnData, panel: list[str]) -> AnnData:
    if list(table.var_names) == panel:
        return table
    columns = table.var_names.get_indexer(panel)
    counts = sparse.csr_matrix(table.layers[keys.COUNTS][:, columns])
    layers = {keys.COUNTS: counts}
    return AnnData(
        obs=table.obs, var=table.var.iloc[columns], layers=layers, obsm=dict(table.obsm), uns=dict(table.uns)
    )


def _to_section(raw: RawSection, manifest: Manifest, source: Path, mpp: float | None) -> Section:
    """Return a reader's section with its scale, its image and every gene of its own table."""
    facts = manifest.of(raw.id)
    technology = TECHNOLOGIES[manifest.technology or raw.technology]
    own_pitch_um = raw.pitch_um or technology.pitch_um
    pitch_um = facts.pitch_um or manifest.pitch_um or own_pitch_um
    card = SectionCard(
        technology=technology,
        organ=facts.organ or manifest.organ or raw.organ or "unknown",
        organism=manifest.organism or raw.organism or "unknown",
        pitch_um=pitch_um,
    )
    image = source / facts.image if facts.image else raw.image
    if image and not raw.aligned:
        problem = f"section {raw.id} is aligned to no image: {facts.image} cannot be its image"
        raise SchemaError(str(raw.where), [problem])
    scale = facts.coordinate_scale if facts.image else raw.coordinate_scale if image else 1.0
    xy_px = _check_places(raw) * scale
    stated = {"image": read_stated_mpp(image) if isinstance(image, Path) else None, "--mpp": mpp, "manifest": facts.mpp}
    stated |= {who: reduce_mpp(value, 1 / scale) for who, value in raw.mpp.items()}
    needed = not any(stated.values())
    if pitch_um and (pitch_px := _measure_pitch(raw, xy_px, technology.grid, needed=needed)):
        stated["spot pitch" if pitch_um == own_pitch_um else "manifest pitch"] = mpp_from_pitch(pitch_um, pitch_px)
    mpp, origin = choose_mpp(stated, f"section {raw.id}")
    section = Section(
        id=raw.id,
        donor=manifest.donor_of(raw.id) or raw.donor or raw.id,
        table=_to_table(raw, xy_px, mpp),
        image=_open(image, mpp, facts) if image else None,
        card=replace(card, mpp=mpp, mpp_source=origin),
    )
    return _leave_out_edge(section) if technology.unit == "pseudo-spot" else section


def _leave_out_edge(section: Section) -> Section:
    """Return a section without the pseudo-spots beyond its image: the platform often sees more than the scanner.

    Over 10 % beyond it is no edge but a wrong alignment, which the check of the section refuses.
    """
    if section.image is None:
        return section
    inside = ((section.xy_um >= 0) & (section.xy_um <= section.image.size_um)).all(axis=1)
    if inside.all() or inside.mean() < MIN_OVERLAP:
        return section
    table = section.table[inside].copy()
    table.uns[keys.DROPPED_SPOTS] = [*table.uns[keys.DROPPED_SPOTS], *section.table.obs_names[~inside]]
    return section.with_table(table)


def _measure_pitch(raw: RawSection, xy_px: np.ndarray, grid: Grid | None, *, needed: bool) -> float | None:
    """Return the pitch of the spots in pixels, None without a grid; spots in one line are refused if it is needed."""
    if grid is None or raw.array_xy is None or not (needed or spans_grid(raw.array_xy)):
        return None
    return find_pitch_px(xy_px, raw.array_xy, grid, f"section {raw.id}")


def _open(image: Path | Callable[[float], ImageSource], mpp: float, facts: ManifestSection) -> ImageSource:
    if not isinstance(image, Path):
        if facts.mask_boxes_px or facts.black_background:
            raise InputError(f"section {facts.id}: masks are for image files; name one in the import manifest")
        return image(mpp)
    return open_image(
        image,
        mpp,
        mask_boxes_px=facts.mask_boxes_px,
        black_background=facts.black_background,
        fill_rgb=facts.fill_rgb,
    )


def _check_places(raw: RawSection) -> np.ndarray:
    """Return the pixel coordinates of the spots, or say that there are none."""
    if not raw.spots:
        raise SchemaError(str(raw.where), [f"section {raw.id} is empty: it has no spots"])
    if raw.xy_px is None:
        raise SchemaError(str(raw.where), [f"section {raw.id} has no spot coordinates in pixels"])
    wrong = ~np.isfinite(raw.xy_px).all(axis=1)
    if wrong.any():
        first = raw.spots[int(np.flatnonzero(wrong)[0])]
        raise SchemaError(str(raw.where), [f"{wrong.sum()} spots have no coordinates; the first is {first}"])
    return raw.xy_px


def _to_table(raw: RawSection, xy_px: np.ndarray, mpp: float) -> AnnData:
    obs = pd.DataFrame(index=pd.Index(raw.spots, dtype=str))
    if raw.array_xy is not None:
        obs[keys.ARRAY_COL], obs[keys.ARRAY_ROW] = raw.array_xy[:, 0], raw.array_xy[:, 1]
    depth = raw.counts.sum(axis=1) if raw.depth is None else raw.depth
    obs[keys.DEPTH] = np.asarray(depth, dtype=np.float64).ravel()
    if raw.regions is not None:
        obs[keys.REGION] = pd.Categorical(raw.regions)
    var = pd.DataFrame(index=pd.Index(raw.genes, dtype=str))
    if raw.gene_ids is not None:
        var[keys.GENE_ID] = list(raw.gene_ids)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(Variable|Observation) names are not unique")  # check_section says which
        return AnnData(
            obs=obs,
            var=var,
            layers={keys.COUNTS: sparse.csr_matrix(raw.counts)},
            obsm={keys.SPATIAL: xy_px, keys.SPATIAL_UM: np.asarray(to_um(xy_px, mpp))},
            uns={keys.DROPPED_SPOTS: list(raw.dropped_spots), keys.N_GENES_MEASURED: len(raw.genes)},
        )
