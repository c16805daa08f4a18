"""What ``hescribe bench`` does and shows of slide-level tasks."""

from pathlib import Path
from typing import TYPE_CHECKING

from hescribe.cli.output import OUTPUT

if TYPE_CHECKING:
    from hescribe.bench.study import Study


def run_slide_suite(resolved: "Study", path: Path) -> None:
    """Run the slide models of a study, and show what they tell."""
    from hescribe.bench.scores import as_json  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.slides.cells import run_slides  # noqa: PLC0415
    from hescribe.bench.slides.results import SlideResults, describe  # noqa: PLC0415

    summary, results = run_slides(resolved), SlideResults(path)
    notes = [describe(t.task) for t in results.tasks.values()]
    for note in notes:
        OUTPUT.say(note)
    facts = {"out": str(path), "n_cells": summary.n_cells, "n_cached": summary.n_cached}
    OUTPUT.result({**facts, "notes": notes, "table": as_json(results.scores)})
    OUTPUT.table(
        [
            {
                "task": s.task,
                "model": s.model,
                "metric": s.metric,
                "value": s.value,
                "interval": None if s.low is None else f"[{s.low:.3f}, {s.high:.3f}]",
                "chance": s.chance,
                "donors": s.n_donors,
            }
            for s in results.scores
        ]
    )
    OUTPUT.say(f"{summary.n_cells} cells, {summary.n_cached} of them done before; page: hescribe bench report {path}")


def write_slide_page(path: Path) -> None:
    """Write the report of a run of slide-level tasks."""
    from hescribe.bench.slides.results import SlideResults  # noqa: PLC0415 - the command line starts fast
    from hescribe.report.slides import write_slide_report  # noqa: PLC0415

    results = SlideResults(path)
    page = write_slide_report(results)
    OUTPUT.result({"page": str(page), "n_missing": sum(t.results.n_missing for t in results.tasks.values())}, str(page))


def show_feature_gains(run: Path, base: Path) -> None:
    """Compare two runs of slide-level tasks that differ in their features, and show what one adds to the other."""
    from dataclasses import asdict  # noqa: PLC0415

    from hescribe.bench.slides.compare import compare_features  # noqa: PLC0415 - the command line starts fast

    gains = compare_features(run, base)
    OUTPUT.result({"run": str(run), "base": str(base), "table": [asdict(g) for g in gains]})
    OUTPUT.table(
        [
            {
                "task": g.task,
                "model": g.model,
                "metric": g.metric,
                run.name: g.value,
                base.name: g.base,
                "gain": g.gain,
                "interval": None if g.low is None else f"[{g.low:+.3f}, {g.high:+.3f}]",
                "donors": g.n_donors,
            }
            for g in gains
        ],
        f"{run} above {base}",
    )
