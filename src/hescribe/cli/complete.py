"""``hescribe complete``: fill in what was not counted, beside the counts."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hescribe.cli.output import OUTPUT, command, plural
from hescribe.cli.params import SetOption, parse_params
from hescribe.errors import InputError

if TYPE_CHECKING:
    from hescribe.data.cohort import Cohort
    from hescribe.data.section import Section

N_DRAWN = 3  # genes


class Maps(StrEnum):
    """Sections that are drawn."""

    FIRST = "first"
    ALL = "all"
    NONE = "none"


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(
        epilog="Examples: hescribe complete cohort --method smoother --out completed   |   "
        "hescribe complete cohort --method knn --set k=36 --genes 500 --out completed"
    )(complete)


@command
def complete(  # noqa: PLR0917 - one argument per option of the command
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="Cohort folder.")],
    method: Annotated[str, typer.Option("--method", help="Completer; see hescribe list completers.")],
    out: Annotated[Path, typer.Option("--out", help="Cohort folder to write; must be new or empty.")],
    params: SetOption = None,
    genes: Annotated[
        int, typer.Option("--genes", min=0, help="Genes of highest Moran's I, as SpaRED chooses them; 0: all.")
    ] = 128,
    maps: Annotated[
        Maps, typer.Option("--maps", help="Sections drawn in maps/: the first of each donor, all or none.")
    ] = Maps.FIRST,
    overwrite: Annotated[  # noqa: FBT002 - a flag of the command
        bool, typer.Option("--overwrite", help="Replace the cohort at --out.")
    ] = False,
) -> None:
    """Fill in the expression that stands behind missing counts, with a completer fitted on the cohort itself."""
    from hescribe.complete.base import completers  # noqa: PLC0415 - the command line starts fast
    from hescribe.complete.cohort import complete_cohort, to_best_genes  # noqa: PLC0415 - as above
    from hescribe.data.folder import check_target, read_cohort, write_cohort  # noqa: PLC0415 - as above

    check_target(out, overwrite=overwrite)
    if out.resolve() == cohort.resolve():
        raise InputError(f"{out} is the cohort to complete; what is not chosen of it would be lost, give a new folder")
    completer = completers.create(method, **parse_params(params))
    before = read_cohort(cohort)
    after = complete_cohort(completer, to_best_genes(before, genes))
    write_cohort(after, out, overwrite=overwrite)
    drawn = _draw(after, out, maps)
    facts = {
        "out": str(out), "method": method, "params": completer.get_params(),  # type: ignore[attr-defined]
        "genes": list(after.genes), "dropped_spots": _count_dropped(before, after),
        "sections": [_to_facts(s) for s in after], "maps": [str(p) for p in drawn], "note": after.card.warnings[-1],
    }  # fmt: skip
    _report(facts)


def _draw(cohort: "Cohort", out: Path, maps: Maps) -> list[Path]:
    """Write the maps and return their paths."""
    from hescribe.complete.cohort import most_patterned  # noqa: PLC0415 - the command line starts fast
    from hescribe.progress import track  # noqa: PLC0415 - as above
    from hescribe.report.completion_maps import write_completion_map  # noqa: PLC0415 - imports matplotlib

    if maps is Maps.NONE:
        return []
    firsts = {s.donor: s for s in reversed(cohort.sections)}
    wanted = [s for s in cohort if maps is Maps.ALL or s is firsts[s.donor]]
    genes = most_patterned(cohort, N_DRAWN)
    paths = [out / "maps" / f"{s.id}.png" for s in wanted]
    for section, path in zip(track(wanted, "drawing maps"), paths, strict=True):
        write_completion_map(path, section, genes)
    return paths


def _count_dropped(before: "Cohort", after: "Cohort") -> dict[str, int]:
    return {b.id: n for b, a in zip(before, after, strict=True) if (n := b.n_spots - a.n_spots)}


def _to_facts(section: "Section") -> dict[str, Any]:
    """Return what was done to a section; None where there is nothing to take a mean of."""
    import numpy as np  # noqa: PLC0415 - the command line starts fast

    from hescribe import keys  # noqa: PLC0415 - as above

    layers = section.table.layers
    observed, completed = layers[keys.OBSERVED], layers[keys.COMPLETED]
    n_filled = int((~observed).sum())
    has_sd = keys.COMPLETED_SD in layers and n_filled
    return {
        "section": section.id, "donor": section.donor, "n_spots": section.n_spots,
        "observed_share": float(observed.mean()), "filled_share": n_filled / observed.size,
        "observed_mean": float(completed[observed].mean()) if observed.any() else None,
        "filled_mean": float(completed[~observed].mean()) if n_filled else None,
        "median_sd": float(np.median(layers[keys.COMPLETED_SD][~observed])) if has_sd else None,
    }  # fmt: skip


def _report(facts: dict[str, Any]) -> None:
    rows = [_to_row(s) for s in facts["sections"]]
    OUTPUT.table(rows)
    if dropped := facts["dropped_spots"]:
        OUTPUT.say(f"left out for too few counts: {plural(sum(dropped.values()), 'spot')}")
    OUTPUT.say(f"note: {facts['note']}")
    size = f"{plural(len(facts['sections']), 'section')}, {plural(len(facts['genes']), 'gene')}"
    pictures = f"; maps: {facts['out']}/maps" if facts["maps"] else ""
    OUTPUT.result(facts, f"{facts['out']}: {size}, {facts['method']}{pictures}")


def _to_row(section: dict[str, Any]) -> dict[str, Any]:
    return {
        "section": section["section"],
        "donor": section["donor"],
        "spots": section["n_spots"],
        "observed": f"{section['observed_share']:.1%}",
        "filled": f"{section['filled_share']:.1%}",
        "mean of observed": section["observed_mean"],
        "mean of filled": section["filled_mean"],
        "median sd of filled": section["median_sd"],
    }
