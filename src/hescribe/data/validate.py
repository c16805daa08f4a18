"""Checks of sections and cohort folders: every problem at once, each with its place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.data.folder import hash_panel, read_index, read_section
from hescribe.data.plain import hash_file
from hescribe.data.section import Section
from hescribe.errors import HescribeError
from hescribe.progress import track
from hescribe.units import check_mpp, to_um


@dataclass(frozen=True)
class Finding:
    """One result of a check: an error makes the data unusable, a warning limits what it can say."""

    level: Literal["error", "warning"]
    text: str


def check_cohort(path: Path) -> list[Finding]:
    """Return everything that is wrong with a cohort folder; empty if nothing is.

    Raises
    ------
    DataAccessError, SchemaError
        If there is no index or it cannot be read: then nothing else can be checked.
    """
    record = read_index(path)
    found: list[Finding] = []
    panels: dict[str, tuple[str, ...]] = {}
    for entry in track(record.section, "checking sections"):
        try:
            section = read_section(entry, path)
        except HescribeError as error:
            found.append(Finding("error", str(error)))
            continue
        found += [Finding("error", problem) for problem in check_section(section) + _check_image(section)]
        panels[entry.id] = section.genes
        image = entry.image
        if image and hash_file(path / image.path) != image.sha256:
            found.append(Finding("error", f"section {entry.id}: image {path / image.path} changed since the import"))
    if odd := [i for i, genes in panels.items() if hash_panel(genes) != record.panel_sha256]:
        found.append(Finding("error", f"{len(odd)} sections are not on the panel of the cohort: {', '.join(odd)}"))
    if len({s.donor for s in record.section}) == 1:
        found.append(
            Finding("warning", f"all sections are of donor {record.section[0].donor}: no donor can be held out")
        )
    if imageless := [s.id for s in record.section if s.image is None]:
        found.append(Finding("warning", f"{len(imageless)} of {len(record.section)} sections have no image"))
    return found


def check_section(section: Section) -> list[str]:
    """Return what is wrong with a section, one sentence a problem with its place; empty if nothing is.

    Examples
    --------
    >>> from anndata import AnnData
    >>> check_section(Section("s1", "d1", AnnData(np.ones((2, 3)))))
    ["section s1 has no layer 'counts'", "section s1 has no spot coordinates (obsm['spatial'])"]
    """
    problems = _check_names(section) + _check_counts(section) + _check_depth(section) + _check_coordinates(section)
    try:
        for mpp in {section.card.mpp, section.image.mpp if section.image else None} - {None}:
            check_mpp(mpp, "its scale")
    except HescribeError as error:
        problems.append(str(error))
    return [p if p.startswith(f"section {section.id} ") else f"section {section.id}: {p}" for p in problems]


def _check_image(section: Section) -> list[str]:
    """Return what goes wrong when the image is decoded."""
    try:
        if section.image is not None:
            section.image.read(0.0, 0.0, (section.image.mpp, section.image.mpp), section.image.mpp)
    except HescribeError as error:
        return [f"section {section.id}: {error}"]
    return []


def _check_names(section: Section) -> list[str]:
    where, problems = f"section {section.id}", []
    for what, names in (("gene", section.table.var_names), ("spot", section.table.obs_names)):
        twice = names[names.duplicated()].unique()
        if len(twice):
            problems.append(f"{len(twice)} {what}s are named twice: {', '.join(map(str, twice[:5]))}")
    if section.n_spots == 0:
        problems.append(f"{where} is empty: it has no spots")
    if len(section.genes) < 2:
        problems.append(f"{where} has {len(section.genes)} genes; a panel needs at least 2")
    return problems


def _check_counts(section: Section) -> list[str]:
    if keys.COUNTS not in section.table.layers:
        return [f"section {section.id} has no layer {keys.COUNTS!r}"]
    counts = sparse.csr_matrix(section.table.layers[keys.COUNTS])
    values = counts.data
    if values.dtype.kind in "bu":
        return []
    wrong = (
        ("not finite", ~np.isfinite(values)),
        ("negative", values < 0),
        ("not an integer", np.isfinite(values) & (values % 1 != 0)),
    )
    problems = []
    for what, mask in wrong:
        if mask.any():
            first = int(np.flatnonzero(mask)[0])
            spot = section.table.obs_names[int(np.searchsorted(counts.indptr, first, side="right")) - 1]
            gene = section.table.var_names[counts.indices[first]]
            problems.append(
                f"{np.count_nonzero(mask)} counts are {what}; the first is {values[first]:g} "
                f"of gene {gene} in spot {spot}"
            )
    return problems


def _check_depth(section: Section) -> list[str]:
    if keys.DEPTH not in section.table.obs:
        return []
    wrong = ~(np.isfinite(section.depth) & (section.depth >= 0))
    if not wrong.any():
        return []
    first = int(np.flatnonzero(wrong)[0])
    spot, depth = section.table.obs_names[first], section.depth[first]
    return [f"{wrong.sum()} spots have a depth that is no number of counts; the first is {spot} with {depth:g}"]


def _check_coordinates(section: Section) -> list[str]:
    table = section.table
    if keys.SPATIAL not in table.obsm:
        return [f"section {section.id} has no spot coordinates (obsm[{keys.SPATIAL!r}])"]
    xy_px = np.asarray(table.obsm[keys.SPATIAL], dtype=np.float64)
    if xy_px.ndim != 2 or xy_px.shape[1] != 2:
        return [f"obsm[{keys.SPATIAL!r}] has the shape {xy_px.shape}; it must hold x and y of each spot"]
    problems = []
    missing = ~np.isfinite(xy_px).all(axis=1)
    if missing.any():
        problems.append(f"{missing.sum()} spots have no coordinates; the first is {table.obs_names[missing][0]}")
    if section.image is None:
        return problems
    if keys.SPATIAL_UM not in table.obsm:
        return [*problems, f"section {section.id} has no spot coordinates in um (obsm[{keys.SPATIAL_UM!r}])"]
    width, height = section.image.size_um
    x, y = section.xy_um.T
    outside = ~((x >= 0) & (y >= 0) & (x <= width) & (y <= height)) & ~missing
    if outside.any():
        i = int(np.flatnonzero(outside)[0])
        problems.append(
            f"{outside.sum()} spots are outside the image of {width:.0f} x {height:.0f} um; the first is "
            f"{table.obs_names[i]} at ({x[i]:.0f}, {y[i]:.0f}) um"
        )
    elif not np.allclose(to_um(xy_px, section.image.mpp), section.xy_um, rtol=1e-3, atol=1.0, equal_nan=True):
        problems.append(
            f"its coordinates in pixels and in um do not fit {section.image.mpp:g} um per pixel; import it again"
        )
    return problems
