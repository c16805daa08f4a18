"""``hescribe bench``: score models honestly, and report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hescribe.cli.hescape import show_hescape
from hescribe.cli.output import OUTPUT, command, plural
from hescribe.cli.scores import show_completion, show_prediction, show_scores, show_spared
from hescribe.cli.slides import show_feature_gains, show_slides, write_slide_page
from hescribe.errors import InputError

if TYPE_CHECKING:
    from hescribe.bench.runs import Task

SHOW = {
    "prediction": show_prediction,
    "completion": show_completion,
    "spared": show_spared,
    "hescape": show_hescape,
    "spade": show_slides,
}
app = typer.Typer(help="Score models on held-out donors, and report.", no_args_is_help=True)


@app.command(
    epilog="Examples: hescribe bench run --cohort C --out R   |   hescribe bench run --cohort C --out R --models knn"
)
@command
def run(
    study: Annotated[Path | None, typer.Argument(help="Study file (TOML); options override it.")] = None,
    *,
    suite: Annotated[
        str | None,
        typer.Option(
            help="prediction, completion, spared: on measured and filled labels, hescape: aligners, or spade: slides. "
            "[default: prediction]"
        ),
    ] = None,
    cohort: Annotated[
        str | None, typer.Option(help="Cohort folder; of the suite hescape several, comma-separated.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Protocol. [default: donor-v1; of completion complete-v1, of spared spared-2024, of spade slides-v1]"
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Rungs or predictors, comma-separated, of completion completers, of hescape aligners, of spade slide "
            "models: knn, or knn:k=36. [default: the whole ladder; all completers; those of SpaRED's benchmark; all "
            "aligners; linear_probe,mean_pool,abmil]"
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, comma-separated. [default: 0; of spade 0 to 4]")] = None,
    completers: Annotated[
        str | None, typer.Option(help="Of the suite spared: what fills the train labels. [default: mean,spackle]")
    ] = None,
    encoders: Annotated[
        str | None, typer.Option(help="Of the suite hescape: image encoders. [default: efficientnet_lite0]")
    ] = None,
    gene_encoders: Annotated[
        str | None, typer.Option(help="Of the suite hescape: encoders of expression. [default: pca]")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Of the suite spade: folder with the tiles of each slide in a file.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Of the suite spade: CSV with a row a slide.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the results; a killed run goes on there.")] = None,
    launch: Annotated[
        str | None,
        typer.Option(
            help="Where cells run: local (processes), ray or slurm, with options as in local:n_workers=4 or "
            "slurm:partition=gpu. [default: threads of this process]"
        ),
    ] = None,
) -> None:
    """Run models on held-out donors; without --models, the ladder of baselines and controls."""
    from hescribe.bench.runs import finish_runs  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.study import parse_list, read_study  # noqa: PLC0415
    from hescribe.bench.suite import plan_study  # noqa: PLC0415
    from hescribe.launch.base import create_launcher  # noqa: PLC0415

    resolved = read_study(
        study, suite=suite, cohort=cohort, protocol=protocol, out=out, models=parse_list(models),
        seeds=parse_list(seeds, int), completers=parse_list(completers),
        encoders=parse_list(encoders), gene_encoders=parse_list(gene_encoders), features=features, labels=labels,
    )  # fmt: skip
    if models is None:
        _refuse_files(study, resolved.models)
    launcher = create_launcher(launch) if launch else None
    path, runs = Path(resolved.out), plan_study(resolved)
    for note in dict.fromkeys(note for run in runs for note in _notes(run.task)):
        OUTPUT.say(note)
    summary = finish_runs(runs, path, study=resolved, launcher=launcher)
    facts = {"out": str(path), "n_cells": summary.n_cells, "n_cached": summary.n_cached}
    OUTPUT.result({**facts, **SHOW[resolved.suite](path)})
    OUTPUT.say(f"{summary.n_cells} cells, {summary.n_cached} of them done before; page: hescribe bench report {path}")


def _refuse_files(study: Path | None, models: tuple[str, ...]) -> None:
    """Raise ``InputError`` if a study file names a predictor in a file: it is code, which the user has to name."""
    if found := [m for m in models if m.partition(":")[0].endswith(".py")]:
        raise InputError(
            f"study {study} names {found[0]}, which is code that would be run; read it, then name it with --models"
        )


def _notes(task: "Task") -> list[str]:
    """Return what a reader must know of a task before its scores."""
    card, notes = task.card, []
    if card.n_left_out and task.suite == "prediction":
        n_all = card.n_left_out + card.n_sections
        notes.append(f"{card.n_left_out} of {n_all} sections have no image (or too few spots) and are left out")
    if card.optimistic:
        notes.append(f"protocol {card.protocol} is optimistic: {card.optimistic}")
    return notes


@app.command(epilog="Examples: hescribe bench report R   |   hescribe bench report R --json")
@command
def report(out: Annotated[Path, typer.Argument(help="Folder given to bench run --out.")]) -> None:
    """Write table, figures and one self-contained HTML page."""
    from hescribe.bench.hescape.suite import HescapeResults  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.results import Results, suite_of  # noqa: PLC0415
    from hescribe.bench.spared_suite import SparedResults  # noqa: PLC0415
    from hescribe.report.completion import write_completion_report  # noqa: PLC0415
    from hescribe.report.hescape import write_hescape_report  # noqa: PLC0415
    from hescribe.report.page import write_report  # noqa: PLC0415
    from hescribe.report.spared import write_spared_report  # noqa: PLC0415

    if suite_of(out) == "spared":
        both = SparedResults(out)
        page = write_spared_report(both)
        OUTPUT.result({"page": str(page), "n_missing": sum(r.n_missing for r in both.runs.values())}, str(page))
        return
    if suite_of(out) == "hescape":
        found = HescapeResults(out)
        page = write_hescape_report(found)
        n_missing = sum(c.results.n_missing for c in found.cohorts.values())
        OUTPUT.result({"page": str(page), "n_missing": n_missing}, str(page))
        return
    if suite_of(out) == "spade":
        write_slide_page(out)
        return
    results = Results(out)
    page = write_completion_report(results) if results.suite == "completion" else write_report(results)
    OUTPUT.result({"page": str(page), "n_missing": results.n_missing}, str(page))


@app.command(epilog="Examples: hescribe bench compare aligned frozen   |   hescribe bench compare R S --json")
@command
def compare(
    run: Annotated[Path, typer.Argument(help="Folder of a run of the suite spade.")],
    base: Annotated[Path, typer.Argument(help="Folder of a run alike but for --features.")],
) -> None:
    """Show what slides tell from other features: one run of the suite spade above another, paired."""
    show_feature_gains(run, base)


@app.command(
    epilog="Examples: hescribe bench leak --cohort C --out L   |   hescribe bench leak --cohort C --out L --model knn"
)
@command
def leak(
    *,
    cohort: Annotated[Path, typer.Option(help="Cohort folder.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the runs, the table and the figure; a killed run goes on there.")
    ],
    model: Annotated[str, typer.Option(help="Rung or predictor.")] = "color_ridge",
    protocol: Annotated[str, typer.Option(help="Honest protocol to start from.")] = "donor-v1",
    shortcuts: Annotated[str | None, typer.Option(help="Shortcuts, comma-separated. [default: all]")] = None,
) -> None:
    """Measure what each shortcut of published evaluations adds to a score."""
    from hescribe.bench.leak import measure_leaks  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.protocols import read_protocol  # noqa: PLC0415
    from hescribe.bench.study import parse_list  # noqa: PLC0415
    from hescribe.bench.task import PredictionTask  # noqa: PLC0415
    from hescribe.report.leak import write_leaks  # noqa: PLC0415

    task = PredictionTask.read(cohort, read_protocol(protocol))
    lines = measure_leaks(task, model, out, cohort=cohort, shortcuts=parse_list(shortcuts))
    table, picture = write_leaks(lines, model, out)
    OUTPUT.result({"out": str(out), "model": model, "table": [x.as_json() for x in lines], "picture": str(picture)})
    OUTPUT.table(
        [
            {
                "protocol": x.title,
                "Pearson": x.pearson,
                "change": x.gain,
                "noise": x.noise,
                "without depth": x.pearson_depth_partial,
                "R2": x.r2,
                "depth alone": x.depth_oracle,
                "shuffled": x.null,
                "ceiling": x.ceiling,
            }
            for x in lines
        ],
        f"{model} on {task.cohort.card.id}, {lines[0].n_donors} donors",
    )
    OUTPUT.say(f"table: {table}; figure: {picture}")


@app.command(epilog="Examples: hescribe bench score M C   |   hescribe bench score M C --json")
@command
def score(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    cohort: Annotated[Path, typer.Argument(help="Cohort folder; of donors that the model has not seen.")],
    *,
    protocol: Annotated[str, typer.Option(help="Protocol that fixes spots and metrics.")] = "donor-v1",
) -> None:
    """Score a fitted model on another cohort; refused on donors that it was trained on."""
    from hescribe.bench.external import score_fitted  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.model_folder import read_model  # noqa: PLC0415
    from hescribe.bench.protocols import read_protocol  # noqa: PLC0415
    from hescribe.bench.scores import as_json  # noqa: PLC0415
    from hescribe.data.folder import read_cohort  # noqa: PLC0415

    fitted = read_model(model)
    scores = score_fitted(fitted, read_cohort(cohort, with_image=True), read_protocol(protocol))
    if not fitted.info.tissue:
        OUTPUT.say("note: an older version fitted the model, which remembers no tissue: donors under other names pass")
    OUTPUT.result({"model": str(model), "cohort": str(cohort), "table": as_json(scores)})
    show_scores(scores)


@app.command(epilog="Examples: hescribe bench export R --out P   |   hescribe bench export R --out P --model knn")
@command
def export(
    results: Annotated[Path, typer.Argument(metavar="OUT", help="Folder given to bench run --out.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write: one h5ad a section; must be new.")],
    model: Annotated[
        str | None, typer.Option(help="Model of the run; the predictor of highest Pearson without it.")
    ] = None,
) -> None:
    """Write held-out predictions as h5ad files for other tools, with what was measured beside them."""
    from hescribe.bench.export import export_run  # noqa: PLC0415 - the command line starts fast

    name, sections = export_run(results, out, model)
    OUTPUT.result(
        {"out": str(out), "model": name, "sections": sections}, f"{out}: {name}, {plural(len(sections), 'section')}"
    )
