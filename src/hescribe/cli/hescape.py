"""``hescribe bench run --suite hescape``: aligners on cohorts, judged by retrieval."""

from pathlib import Path
from typing import TYPE_CHECKING

from hescribe.cli.output import OUTPUT, tell_spread

if TYPE_CHECKING:
    from hescribe.bench.hescape.suite import CohortResults
    from hescribe.bench.study import Study


def run_hescape(study: "Study", path: Path) -> None:
    """Run the suite, and show one table a cohort."""
    from hescribe.bench.hescape import suite  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.hescape.protocol import read_retrieval_protocol  # noqa: PLC0415
    from hescribe.bench.scores import as_json  # noqa: PLC0415

    if optimistic := read_retrieval_protocol(study.protocol).optimistic:
        OUTPUT.say(f"protocol {study.protocol} is optimistic: {optimistic}")
    summary = suite.run_hescape(study)
    found = suite.HescapeResults(path).cohorts
    facts = {"out": str(path), "n_cells": summary.n_cells, "n_cached": summary.n_cached}
    OUTPUT.result({**facts, "table": as_json([s for c in found.values() for s in c.results.scores])})
    for name, of in found.items():
        OUTPUT.table(_to_rows(of), title=f"\n{name}")
    OUTPUT.say(f"{summary.n_cells} cells, {summary.n_cached} of them done before; page: hescribe bench report {path}")


def _to_rows(of: "CohortResults") -> list[dict[str, object]]:
    metric = of.main[0]
    return [
        {
            "model": x.model,
            metric.replace("_", " "): x.main.value,
            "interval / by donor": tell_spread(x.main.low, x.main.high, x.main.by_donor),
            "without depth": x.without_depth and x.without_depth.value,
            "ahead of ridge": x.ahead and x.ahead.value,
            "paired": x.ahead and tell_spread(x.ahead.low, x.ahead.high, x.ahead.by_donor),
            "note": "control" if x.control else None,
        }
        for x in of.lines
    ]
