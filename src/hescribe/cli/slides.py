"""What ``hescribe bench`` does and shows of slide-level tasks."""

from pathlib import Path

from hescribe.cli.output import OUTPUT


def show_slides(path: Path) -> dict[str, object]:
    """Show what slide models tell, and return the scores for programs."""
    from hescribe.bench.scores import as_json  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.slides.results import SlideResults, describe  # noqa: PLC0415

    results = SlideResults(path)
    notes = [describe(t.task) for t in results.tasks.values()]
    for note in notes:
        OUTPUT.say(note)
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
    return {"notes": notes, "table": as_json(results.scores)}


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
