"""``hescribe analyse``: what predictions are good for, beside what was measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hescribe.cli.output import OUTPUT, command
from hescribe.errors import InputError

if TYPE_CHECKING:
    from hescribe.analysis.overview import PredictedSection

N_SHOWN = 10  # genes printed


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(
        epilog="Examples: hescribe analyse results --out A   |   hescribe analyse predicted --cohort cohort --out A"
    )(analyse)


@command
def analyse(
    predicted: Annotated[
        Path, typer.Argument(metavar="PREDICTED", help="Folder of a benchmark run, or what hescribe predict wrote.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write: a page, its figures, and tables as CSV.")],
    cohort: Annotated[
        Path | None, typer.Option(help="Cohort that was predicted; a benchmark run knows its own.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model of the run; the predictor of highest Pearson without it.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Image encoder that domains are compared with.")] = "efficientnet_lite0",
    gene_sets: Annotated[
        Path | None, typer.Option(help="TOML file of gene sets, instead of the published ones.")
    ] = None,
) -> None:
    """Ask predictions for significant genes, gene sets, co-expression and spatial domains."""
    from hescribe.analysis.gene_sets import read_gene_sets  # noqa: PLC0415 - the command line starts fast
    from hescribe.analysis.overview import analyse as analyse_sections  # noqa: PLC0415 - as above
    from hescribe.report.analysis import verdict, write_analysis  # noqa: PLC0415 - as above

    sets = None if gene_sets is None else read_gene_sets(gene_sets)
    name, sections, notes = _read(predicted, cohort, model)
    found = analyse_sections(sections, encoder=encoder, sets=sets, notes=notes)
    page = write_analysis(found, out, model=name, encoder=encoder)
    for note in found.notes:
        OUTPUT.say(f"note: {note}")
    columns = ["r", "n_effective", "n_spots", "q", "q_without_depth"]
    shown = found.genes[columns].head(N_SHOWN).astype(object).where(found.genes[columns].notna(), None)
    OUTPUT.table(shown.reset_index().to_dict("records"))
    text = "\n".join([*verdict(found), f"page: {page}"])
    OUTPUT.result({"out": str(out), "model": name, "page": str(page), **found.as_json()}, text)


def _read(predicted: Path, cohort: Path | None, model: str | None) -> "tuple[str, list[PredictedSection], list[str]]":
    from hescribe.bench.predicted import read_predicted, read_run  # noqa: PLC0415 - the command line starts fast

    if (predicted / "run.json").is_file():
        if cohort is not None:
            raise InputError("--cohort is for what hescribe predict wrote; a benchmark run knows its own cohort")
        return (*read_run(predicted, model), [])
    if model is not None:
        raise InputError(f"--model is for a benchmark run, and {predicted} holds none")
    if cohort is None:
        raise InputError(f"{predicted} is no benchmark run; say with --cohort which cohort was predicted")
    return read_predicted(predicted, cohort)
