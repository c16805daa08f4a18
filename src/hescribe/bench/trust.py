"""Trust class of each gene: whether its cross-validated score stands clear of shuffled pairs and of depth."""

from typing import Literal

import numpy as np
import pandas as pd

from hescribe.metrics.stats import MIN_DONORS

Trust = Literal["predictable", "weak", "do not use", "untested"]
NULL_QUANTILE = 0.975  # of single genes under shuffled pairs


def trust_table(rows: pd.DataFrame, model: str, null: str = "shuffled_pairs") -> pd.DataFrame:
    """Return score, ceiling and trust class of each gene.

    A gene is *predictable* if three things hold: the mean of its correlation over donors without the
    best one lies above what 97.5 % of the genes reach on shuffled pairs in a single donor (with under
    five donors, every one of them does); the mean without depth lies above what 97.5 % reach as a
    mean; and it is positive for every one of at least two donors. It is *weak* if only its plain mean
    lies above what 97.5 % reach as a mean; else *do not use*.

    The first is asked of a single donor because that is what a prediction will be read in: on shuffled
    pairs all genes follow one direction of the image, often that of depth, so that chance differs from
    donor to donor, and a mean over few of them hides it. By the limit of the mean alone, 55 % of the
    1,058 genes called predictable in eight synthetic cohorts stayed above chance in six new donors; so,
    83 % of 229 did (benchmarks/uncertainty.py).

    Parameters
    ----------
    rows
        Per-gene rows of the model and of the shuffled pairs on the same folds.
    model, null
        Names in the ``model`` column.

    Returns
    -------
    Index gene, best first; columns ``pearson``, ``ceiling``, ``lowest_donor``, ``without_best``,
    ``depth_partial``, ``n_donors``, ``trust``; ``without_best`` is NaN with one donor.
    """
    plain, partial = (_by_donor(rows, model, m) for m in ("pearson", "pearson_depth_partial"))
    limit, partial_limit = (_null_limit(rows, null, m) for m in ("pearson", "pearson_depth_partial"))
    of_gene = plain["value"].groupby("gene")
    table = pd.DataFrame(
        {
            "pearson": of_gene.mean(),
            "ceiling": plain["ceiling"].groupby("gene").mean(),
            "lowest_donor": of_gene.min(),
            "without_best": (of_gene.sum() - of_gene.max()) / (of_gene.count() - 1).where(of_gene.count() > 1),
            "depth_partial": partial["value"].groupby("gene").mean(),
            "n_donors": of_gene.count(),
        }
    )
    clear = table["pearson"] > limit
    least = table["without_best"].where(table["n_donors"] >= MIN_DONORS, table["lowest_donor"])
    lasting = (table["n_donors"] > 1) & (least > _null_limit_of_a_donor(rows, null)) & (table["lowest_donor"] > 0)
    sound = clear & lasting & (table["depth_partial"] > partial_limit)
    table["trust"] = np.select([sound, clear], ["predictable", "weak"], "do not use")
    return table.sort_values("pearson", ascending=False)


def _by_donor(rows: pd.DataFrame, model: str, metric: str) -> pd.DataFrame:
    part = rows[(rows["model"] == model) & (rows["metric"] == metric) & (rows["gene"] != "")]
    return part.groupby(["gene", "donor"])[["value", "ceiling"]].mean()


def _null_limit(rows: pd.DataFrame, null: str, metric: str) -> float:
    """Return what 97.5 % of the genes reach on shuffled pairs as a mean over donors."""
    by_gene = _null_by_donor(rows, null, metric).groupby(["seed", "gene"]).mean()
    return float(by_gene.quantile(NULL_QUANTILE)) if len(by_gene) else float("nan")


def _null_limit_of_a_donor(rows: pd.DataFrame, null: str) -> float:
    """Return what 97.5 % of the genes reach on shuffled pairs in one donor, mean of that over donors."""
    by_donor = _null_by_donor(rows, null, "pearson").groupby("donor")
    return float(by_donor.quantile(NULL_QUANTILE).mean())


def _null_by_donor(rows: pd.DataFrame, null: str, metric: str) -> pd.Series:
    part = rows[(rows["model"] == null) & (rows["metric"] == metric) & (rows["gene"] != "")]
    return part.groupby(["seed", "gene", "donor"])["value"].mean()
