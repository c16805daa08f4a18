"""``hescribe data check``: what is wrong with a cohort, and what else has seen its tissue."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hescribe.cli.output import OUTPUT, command, plural


def add_to(app: typer.Typer) -> None:
    """Add the command to its group."""
    app.command(
        epilog="Examples:  hescribe data check cohort --report quality.html   |   "
        "hescribe data check cohort --against other --model M --json"
    )(check)


@command
def check(
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="Cohort folder.")],
    *,
    report: Annotated[
        Path | None, typer.Option("--report", help="HTML page to write: quality of every section, with figures.")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option("--against", help="Other cohort to look for the same tissue in; repeatable.")
    ] = None,
    model: Annotated[
        list[Path] | None, typer.Option("--model", help="Model folder whose training donors to look for; repeatable.")
    ] = None,
    encoder: Annotated[
        list[str] | None, typer.Option("--encoder", help="Encoder whose training data to look for; repeatable.")
    ] = None,
) -> None:
    """Check every section of a cohort and name all problems with their place; find the same tissue twice."""
    from hescribe.data.validate import check_cohort  # noqa: PLC0415 - keeps --help fast

    leaks = []
    if model or encoder:
        from hescribe.bench.leakage import find_leaks  # noqa: PLC0415 - as above

        leaks = find_leaks(cohort, models=model or (), encoders=encoder or ())
    if report is not None:
        from hescribe.report.quality import write_quality_report  # noqa: PLC0415 - as above

        found = write_quality_report(cohort, report, against=against or (), leaks=leaks)
    else:
        found = check_cohort(cohort, against=against or ()) + leaks
    errors = [f for f in found if f.level == "error"]
    lines = [f"{f.level}: {f.text}" for f in found]
    lines.append(f"{cohort}: {plural(len(errors), 'error')}, {plural(len(found) - len(errors), 'warning')}")
    lines += [f"page: {report}"] if report else []
    OUTPUT.result(
        {
            "cohort": str(cohort),
            "ok": not errors,
            "findings": [asdict(f) for f in found],
            "report": None if report is None else str(report),
        },
        "\n".join(lines),
    )
    if errors:
        raise typer.Exit(1)
