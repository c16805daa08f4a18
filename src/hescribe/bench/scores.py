"""From rows to a table: sections, then donors, then the mean, beside chance, ceiling and null."""

from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from hescribe.metrics.stats import DonorMean, donor_mean

Average = Literal["donor", "section"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One line of the results table.

    Parameters
    ----------
    value
        Mean over donors; None where nothing is defined.
    low, high
        Bootstrap interval over donors; None with fewer than five.
    by_donor
        Mean of each donor.
    chance, chance_sd
        Mean and spread of the shuffled pairs under this metric where they were run; else the
        metric's own chance and None.
    ceiling
        Mean noise ceiling, None where it is not known.
    """

    task: str
    protocol: str
    model: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n_donors: int
    n_defined: int
    n_undefined: int
    chance: float | None
    chance_sd: float | None
    ceiling: float | None
    by_donor: dict[str, float]
    control: str
    seconds: float


def score_table(rows: pd.DataFrame, *, average: Average = "donor") -> list[Score]:
    """Return one score for each task, protocol, model and metric, in the order of the rows.

    Several seeds of a model are averaged within a section first.

    Parameters
    ----------
    rows
        Of finished cells.
    average
        What the mean is over, by the rows' protocol. Over sections there is no interval: those of
        one donor are no independent draws.
    """
    means = rows[rows["gene"] == ""]
    null = {
        key: _null(group, average)
        for key, group in means[means["model"] == "shuffled_pairs"].groupby(["task", "metric"])
    }
    order = ["task", "protocol", "model", "metric"]
    return [_score(key, group, null.get((key[0], key[3])), average) for key, group in means.groupby(order, sort=False)]


def as_json(scores: list[Score]) -> list[dict[str, object]]:
    """Return the table as ``bench run --json`` prints it."""
    return [asdict(s) for s in scores]


def _score(
    key: tuple[str, str, str, str], rows: pd.DataFrame, null: tuple[float, float | None] | None, average: Average
) -> Score:
    sections = rows.groupby(["donor", "section"])[["value", "ceiling"]].mean()
    mean, ceiling = _mean(sections["value"], average), _mean(sections["ceiling"], average)
    first_seed = rows[rows["seed"] == rows["seed"].iloc[0]]
    chance, chance_sd = null or (float(rows["chance"].iloc[0]), None)
    return Score(
        task=key[0], protocol=key[1], model=key[2], metric=key[3], value=_number(mean.value), low=mean.low,
        high=mean.high, n_donors=len(mean.by_donor), n_defined=int(first_seed["n_defined"].sum()),
        n_undefined=int(first_seed["n_undefined"].sum()), chance=_number(chance), chance_sd=_number(chance_sd),
        ceiling=_number(ceiling.value), by_donor=mean.by_donor, control=str(rows["control"].iloc[0]),
        seconds=float(rows.groupby(["fold", "seed"])["seconds"].first().sum()),
    )  # fmt: skip


def _mean(sections: pd.Series, average: Average) -> DonorMean:
    """Return the mean of what is defined, from values by donor and section."""
    mean = donor_mean([(d, v) for (d, _), v in sections.items()])
    return mean if average == "donor" else replace(mean, value=float(sections.mean()), low=None, high=None)


def _null(rows: pd.DataFrame, average: Average) -> tuple[float, float | None]:
    """Return mean and sd over shuffles of the mean over donors; a shuffle without any defined score is left out."""
    values = []
    for _, one in rows.groupby("seed"):
        values.append(_mean(one.groupby(["donor", "section"])["value"].mean(), average).value)
    values = [v for v in values if np.isfinite(v)]
    mean = float(np.mean(values)) if values else float("nan")
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
