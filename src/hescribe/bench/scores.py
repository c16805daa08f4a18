"""From rows to a table: sections, then donors, then the mean, beside chance, ceiling and null."""

from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from hescribe.metrics.stats import DonorMean, donor_mean

Average = Literal["donor", "section"]
ORDER = ["task", "protocol", "model", "metric"]  # what names a score


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
    facts = _facts(means)
    sections = means.groupby([*ORDER, "donor", "section"])[["value", "ceiling", "chance"]].mean()
    by_score = dict(iter(sections.groupby(level=ORDER)))
    return [
        _score(key, by_score[key].droplevel(ORDER), null.get((key[0], key[3])), average, facts.loc[key])
        for key in facts.index
    ]


def as_json(scores: list[Score]) -> list[dict[str, object]]:
    """Return the table as ``bench run --json`` prints it."""
    return [asdict(s) for s in scores]


def _facts(means: pd.DataFrame) -> pd.DataFrame:
    """Return what is no mean over sections of every score, in the order of the rows.

    Columns ``control, n_defined, n_undefined, seconds``: spots and genes are counted in the first seed alone, the
    seconds of every fold and seed once.
    """
    by_score = means.groupby(ORDER, sort=False)
    of_first_seed = means[means["seed"] == by_score["seed"].transform("first")]
    counts = of_first_seed.groupby(ORDER)[["n_defined", "n_undefined"]].sum()
    runs = means.drop_duplicates([*ORDER, "fold", "seed"])
    return by_score[["control"]].first().join(counts).join(runs.groupby(ORDER)["seconds"].sum())


def _score(
    key: tuple[str, str, str, str],
    sections: pd.DataFrame,
    null: tuple[float, float | None] | None,
    average: Average,
    facts: pd.Series,
) -> Score:
    mean, ceiling = _mean(sections["value"], average), _mean(sections["ceiling"], average)
    chance, chance_sd = null or (_mean(sections["chance"], average).value, None)
    return Score(
        task=key[0], protocol=key[1], model=key[2], metric=key[3], value=_number(mean.value), low=mean.low,
        high=mean.high, n_donors=len(mean.by_donor), n_defined=int(facts["n_defined"]),
        n_undefined=int(facts["n_undefined"]), chance=_number(chance), chance_sd=_number(chance_sd),
        ceiling=_number(ceiling.value), by_donor=mean.by_donor, control=str(facts["control"]),
        seconds=float(facts["seconds"]),
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
