"""Which model is better, and by how much: differences between two models, donor by donor."""

import pandas as pd

from hescribe.errors import InputError
from hescribe.metrics.stats import DonorMean, donor_mean


def compare(rows: pd.DataFrame, one: str, other: str, *, metric: str) -> DonorMean:
    """Return the score of one model less that of another, section by section, then by donor.

    Seeds of a model are averaged within a section first. From five donors on the interval is a bootstrap over
    the differences of the donors, which is narrower than those of the two scores where donors differ more than
    models do.

    Parameters
    ----------
    rows
        Of one task, from ``Results.rows``.
    one, other
        Models, by the names they were run under.
    metric
        Name of the metric.

    Raises
    ------
    InputError
        If the rows are of several tasks, or the two share no section with a score.

    Examples
    --------
    >>> rows = pd.DataFrame({"task": "t", "model": ["a", "b", "a", "b"], "metric": "mse", "gene": "",
    ...     "donor": ["A", "A", "B", "B"], "section": ["1", "1", "2", "2"], "value": [1.0, 2.0, 3.0, 7.0]})
    >>> compare(rows, "a", "b", metric="mse").by_donor
    {'A': -1.0, 'B': -4.0}
    """
    rows = rows[(rows["metric"] == metric) & (rows["gene"] == "")]
    if len(tasks := rows["task"].unique()) > 1:
        raise InputError(f"rows of {len(tasks)} tasks cannot be compared as one; choose one task")
    means = rows.groupby(["model", "donor", "section"])["value"].mean()
    models = means.index.get_level_values("model")
    if not {one, other} <= set(models):
        missing = one if one not in set(models) else other
        raise InputError(f"the rows hold no {metric} of {missing!r}; they have {', '.join(sorted(set(models)))}")
    difference = (means[one] - means[other]).dropna()
    if difference.empty:
        raise InputError(f"{one} and {other} have no section in common that both have a {metric} on")
    return donor_mean([(str(donor), value) for (donor, _), value in difference.items()])


def try_compare(rows: pd.DataFrame, one: str, other: str, *, metric: str) -> DonorMean | None:
    """Return the difference of two models; None if they share no section, as in a run that was stopped."""
    try:
        return compare(rows, one, other, metric=metric)
    except InputError:
        return None
