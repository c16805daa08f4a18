"""Checks of sections and cohort folders: every problem at once, each with its place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import sparse

from hescribe import keys
from hescribe.data.duplicates import Pair, Print, find_pairs, take_print
from hescribe.data.folder import CohortRecord, SectionRecord, hash_panel, read_index, read_section
from hescribe.data.plain import hash_file
from hescribe.data.section import Section
from hescribe.data.spot_hash import MIN_GENES, hash_spots
from hescribe.errors import HescribeError, InputError
from hescribe.progress import track
from hescribe.units import check_mpp, to_um


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Parameters
    ----------
    level
        An error makes the data unusable, a warning limits what it can say.
    text
        One sentence with the place.
    sections
        Those of the cohort that it is about; empty if it is about the whole.
    kind
        ``duplicate``: the same tissue under two names; ``leak``: a model was trained on it; else ``state``.
    """

    level: Literal["error", "warning"]
    text: str
    sections: tuple[str, ...] = ()
    kind: Literal["state", "duplicate", "leak"] = "state"


def check_cohort(
    path: Path, *, against: Sequence[Path] = (), visit: Callable[[Section], None] | None = None
) -> list[Finding]:
    """Return everything that is wrong with a cohort folder; empty if nothing is.

    Parameters
    ----------
    path
        Cohort folder.
    against
        Other cohorts, in which the same tissue is looked for.
    visit
        Called with every section whose table is sound, while its image is decoded; without an image that is damaged.

    Raises
    ------
    DataAccessError, SchemaError
        If there is no index or it cannot be read: then nothing else can be checked.
    InputError
        If a cohort is to be compared with itself.
    """
    record = read_index(path)
    for other in against:
        if other.resolve() == path.resolve():
            raise InputError(f"{other} is the cohort itself, whose sections are compared with each other anyway")
        read_index(other)
    found: list[Finding] = []
    panels: dict[str, tuple[str, ...]] = {}
    prints: list[Print] = []
    for entry in track(record.section, "checking sections"):
        try:
            section = read_section(entry, path)
        except HescribeError as error:
            found.append(Finding("error", str(error), (entry.id,)))
            continue
        panels[entry.id] = section.genes
        problems, unreadable = check_section(section), _check_image(section)
        if not problems:
            sound = replace(section, image=None) if unreadable else section
            prints.append(take_print(sound, record.id))
            if visit is not None:
                visit(sound)
        problems += unreadable + _check_unchanged(entry, path)
        found += [Finding("error", p, (entry.id,)) for p in problems]
    found += _check_whole(record, panels) + [_tell_pair(p) for p in find_pairs(prints)]
    for other in against:
        found += _check_against(path, other, prints)
    return found


def _check_unchanged(entry: SectionRecord, path: Path) -> list[str]:
    image = entry.image
    if image and hash_file(path / image.path) != image.sha256:
        return [f"section {entry.id}: image {path / image.path} changed since the import"]
    return []


def _check_whole(record: CohortRecord, panels: dict[str, tuple[str, ...]]) -> list[Finding]:
    """Return what is wrong with the sections taken together."""
    found = []
    if odd := [i for i, genes in panels.items() if hash_panel(genes) != record.panel_sha256]:
        text = f"{len(odd)} sections are not on the panel of the cohort: {', '.join(odd)}"
        found.append(Finding("error", text, tuple(odd)))
    if len({s.donor for s in record.section}) == 1:
        text = f"all sections are of donor {record.section[0].donor}: no donor can be held out"
        found.append(Finding("warning", text))
    if imageless := [s.id for s in record.section if s.image is None]:
        found.append(Finding("warning", f"{len(imageless)} of {len(record.section)} sections have no image"))
    return found


def _tell_pair(pair: Pair) -> Finding:
    """Return two sections of one tissue as a finding: a leak if they pass for different donors."""
    one, other = pair.one, pair.other
    both = (one.section, other.section)
    if one.donor == other.donor:
        text = f"{' and '.join(both)} of donor {one.donor} are the same tissue ({pair.evidence}): it counts twice"
        return Finding("warning", f"sections {text}", both, "duplicate")
    text = (
        f"sections {one.section} (donor {one.donor}) and {other.section} (donor {other.donor}) are the same tissue "
        f"({pair.evidence}): a model would be tested on what it was trained on; drop one, or give both one donor"
    )
    return Finding("error", text, both, "duplicate")


def _check_against(path: Path, other: Path, prints: list[Print]) -> list[Finding]:
    """Return the sections that another cohort holds too."""
    mine, theirs = {r.id: r for r in read_index(path).section}, read_index(other)
    genes = frozenset(read_section(theirs.section[0], other).genes)
    if prints:
        genes &= frozenset(read_section(mine[prints[0].section], path).genes)
    ours = [replace(p, spots=hash_spots(read_section(mine[p.section], path), genes)) for p in prints]
    strangers = []
    for record in track(theirs.section, f"comparing with {other}"):
        section = read_section(record, other)
        if check_section(section) or not genes <= set(section.genes):
            raise InputError(f"{other} has errors of its own; see hescribe data check {other}")
        strangers.append(take_print(section, theirs.id, genes))
    found = []
    if len(genes) < MIN_GENES:
        text = f"{path} and {other} share {len(genes)} gene names: only images and ids could be compared"
        found.append(Finding("warning", text))
    for pair in find_pairs(ours, strangers):
        one, twin = pair.one, pair.other
        text = (
            f"section {one.section} (donor {one.donor}) is the same tissue as {twin.section} (donor {twin.donor}) of "
            f"{other} ({pair.evidence}): do not train on one cohort and test on the other"
        )
        found.append(Finding("error", text, (one.section,), "duplicate"))
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
        if odd := [n for n in names if "\0" in n]:
            problems.append(f"{what} {odd[0]!r} has a null character in its name")
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
    if values.dtype.kind not in "if":
        return [f"its counts are of the type {values.dtype}, which are no counts"]
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
