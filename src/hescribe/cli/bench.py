"""``hescribe bench``: score models honestly, and report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hescribe.cli.hescape import run_hescape
from hescribe.cli.output import OUTPUT, command, plural, tell_spread
from hescribe.cli.slides import run_slide_suite, show_feature_gains, write_slide_page

if TYPE_CHECKING:
    from hescribe.bench.results import Results
    from hescribe.bench.runner import RunSummary
    from hescribe.bench.scores import Score
    from hescribe.bench.study import Study
    from hescribe.cards import TaskCard

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
) -> None:
    """Run models on held-out donors; without --models, the ladder of baselines and controls."""
    from hescribe.bench.results import Results  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.scores import as_json  # noqa: PLC0415
    from hescribe.bench.study import parse_list, read_study  # noqa: PLC0415

    resolved = read_study(
        study, suite=suite, cohort=cohort, protocol=protocol, out=out, models=parse_list(models),
        seeds=parse_list(seeds, int), completers=parse_list(completers),
        encoders=parse_list(encoders), gene_encoders=parse_list(gene_encoders), features=features, labels=labels,
    )  # fmt: skip
    path = Path(resolved.out)
    own = {"spared": _run_spared, "hescape": run_hescape, "spade": run_slide_suite}
    if resolved.suite in own:
        own[resolved.suite](resolved, path)
        return
    summary = _run_completers(resolved, path) if resolved.suite == "completion" else _run_predictors(resolved, path)
    results = Results(path)
    OUTPUT.result(
        {"out": str(path), "n_cells": summary.n_cells, "n_cached": summary.n_cached, "table": as_json(results.scores)}
    )
    if resolved.suite == "completion":
        show_completion(results)
    else:
        show_scores(results.scores)
    OUTPUT.say(f"{summary.n_cells} cells, {summary.n_cached} of them done before; page: hescribe bench report {path}")


def _run_predictors(resolved: "Study", path: Path) -> "RunSummary":
    from hescribe.bench.protocols import read_protocol  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.runner import run_study  # noqa: PLC0415
    from hescribe.bench.spared_task import read_task  # noqa: PLC0415

    task = read_task(Path(resolved.cohort), read_protocol(resolved.protocol))
    card = task.card
    if card.n_left_out:
        n_all = card.n_left_out + card.n_sections
        OUTPUT.say(f"{card.n_left_out} of {n_all} sections have no image (or too few spots) and are left out")
    _warn_optimistic(card)
    return run_study(task, resolved.models, path, seeds=resolved.seeds, study=resolved)


def _run_completers(resolved: "Study", path: Path) -> "RunSummary":
    from hescribe.bench.completion.cells import run_completion  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.completion.protocol import read_completion_protocol  # noqa: PLC0415
    from hescribe.bench.completion.task import CompletionTask  # noqa: PLC0415
    from hescribe.data.folder import read_cohort  # noqa: PLC0415

    protocol = read_completion_protocol(resolved.protocol)
    task = CompletionTask(read_cohort(Path(resolved.cohort)), protocol)
    _warn_optimistic(task.card)
    return run_completion(task, resolved.models, path, seeds=resolved.seeds, study=resolved)


def _run_spared(resolved: "Study", path: Path) -> None:
    from hescribe.bench.protocols import read_protocol  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.scores import as_json  # noqa: PLC0415
    from hescribe.bench.spared_suite import SparedResults, run_spared  # noqa: PLC0415

    if optimistic := read_protocol(resolved.protocol).optimistic:
        OUTPUT.say(f"protocol {resolved.protocol} is optimistic: {optimistic}")
    summary = run_spared(resolved)
    results = SparedResults(path)
    facts = {"out": str(path), "n_cells": summary.n_cells, "n_cached": summary.n_cached}
    OUTPUT.result({**facts, "table": as_json(results.scores)})
    main = results.main
    OUTPUT.table(
        [
            {"model": x.model, "train labels": x.labels, "mean rank": x.mean_rank}
            | {m: s.value for m in (main, "mse_entries", "mse") if (s := x.scores.get(m))}
            for x in results.entrants
        ]
    )
    OUTPUT.say(f"{summary.n_cells} cells, {summary.n_cached} of them done before; page: hescribe bench report {path}")


def _warn_optimistic(card: "TaskCard") -> None:
    if card.optimistic:
        OUTPUT.say(f"protocol {card.protocol} is optimistic: {card.optimistic}")


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


def show_scores(scores: "list[Score]") -> None:
    """Print the main scores as a table."""
    by_model: dict[str, dict[str, object]] = {}
    for s in scores:
        row = by_model.setdefault(s.model, {"model": s.model})
        if s.metric == "pearson":
            interval = None if s.low is None else f"[{s.low:.3f}, {s.high:.3f}]"
            donors = "  ".join(f"{d} {v:.3f}" for d, v in s.by_donor.items()) if len(s.by_donor) < 5 else None
            row |= {"Pearson": s.value, "of": s.ceiling, "interval / by donor": interval or donors}
        elif s.metric == "pearson_depth_partial":
            row["without depth"] = s.value
        elif s.metric == "mse":
            row |= {"MSE": s.value, "note": s.control.replace("uses_truth", "sees the truth")}
        elif s.metric == "share_filled" and s.value:
            OUTPUT.say(f"{s.model}: {s.value:.1%} of the values were not predicted and are the train mean")
    OUTPUT.table(list(by_model.values()))


def show_completion(results: "Results") -> None:
    """Print the scores of completers as a table: one row for each share hidden and completer."""
    from hescribe.bench.completion.compare import completion_lines  # noqa: PLC0415 - the command line starts fast

    rows = []
    for line in completion_lines(results):
        score, behind = line.scores["mse"], line.behind
        rows.append(
            {
                "hidden": f"{line.share:.0%}",
                "completer": line.model,
                "MSE": line.mse,
                "interval / by donor": tell_spread(score.low, score.high, score.by_donor),
                "above best": None if behind is None else behind.value,
                "paired interval": None if behind is None else tell_spread(behind.low, behind.high, {}),
                "MAE": line.scores["mae"].value,
                "Pearson": line.scores["pearson_hidden"].value,
                "in 90 %": line.scores["coverage_90"].value if "coverage_90" in line.scores else None,
                "noise floor": line.floor,
            }
        )
    OUTPUT.table(rows)
