"""How the command line shows the scores of a run, suite by suite."""

from pathlib import Path
from typing import TYPE_CHECKING

from hescribe.cli.output import OUTPUT, tell_spread

if TYPE_CHECKING:
    from hescribe.bench.scores import Score


def show_prediction(path: Path) -> dict[str, object]:
    """Show the main scores of predictors, and return all for programs."""
    from hescribe.bench.results import Results  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.scores import as_json  # noqa: PLC0415

    scores = Results(path).scores
    show_scores(scores)
    return {"table": as_json(scores)}


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


def show_completion(path: Path) -> dict[str, object]:
    """Show the scores of completers, one row for each share hidden and completer, and return them for programs."""
    from hescribe.bench.completion.compare import completion_lines  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.results import Results  # noqa: PLC0415
    from hescribe.bench.scores import as_json  # noqa: PLC0415

    results, rows = Results(path), []
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
    return {"table": as_json(results.scores)}


def show_spared(path: Path) -> dict[str, object]:
    """Show predictors by mean rank, and return the scores for programs."""
    from hescribe.bench.scores import as_json  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.spared_suite import SparedResults  # noqa: PLC0415

    results = SparedResults(path)
    OUTPUT.table(
        [
            {"model": x.model, "train labels": x.labels, "mean rank": x.mean_rank}
            | {m: s.value for m in (results.main, "mse_entries", "mse") if (s := x.scores.get(m))}
            for x in results.entrants
        ]
    )
    return {"table": as_json(results.scores)}
