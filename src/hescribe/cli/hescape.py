"""``hescribe bench run --suite hescape``: aligners on cohorts, judged by retrieval."""

from pathlib import Path
from typing import TYPE_CHECKING

from hescribe.cli.output import OUTPUT, tell_spread

if TYPE_CHECKING:
    from hescribe.bench.hescape.suite import CohortResults


def show_hescape(path: Path) -> dict[str, object]:
    """Show one table a cohort, and return the scores for programs."""
    from hescribe.bench.hescape.suite import HescapeResults  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench.scores import as_json  # noqa: PLC0415

    found = HescapeResults(path).cohorts
    for name, of in found.items():
        OUTPUT.table(_to_rows(of), title=f"\n{name}")
    return {"table": as_json([s for c in found.values() for s in c.results.scores])}


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
