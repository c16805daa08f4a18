"""Trust class of each gene: whether its cross-validated score stands clear of shuffled pairs and of depth."""

from typing import Literal

import numpy as np
import pandas as pd

Trust = Literal["predictable", "weak", "do not use", "untested"]
NULL_QUANTILE = 0.975  # of single genes under shuffled pairs


def trust_table(rows: pd.DataFrame, model: str, null: str = "shuffled_pairs") -> pd.DataFrame:
    """Return score, ceiling and trust class of each gene.

    A gene is *predictable* if its correlation, plain and without depth, lies above what 97.5 % of
    the genes reach on shuffled pairs, and is positive for every one of at least two donors;
    *weak* if only the plain one does; else *do not use*.

    Parameters
    ----------
    rows
        Per-gene rows of the model and of the shuffled pairs on the same folds.
    model, null
        Names in the ``model`` column.

    Returns
    -------
    Index gene, best first; columns ``pearson``, ``ceiling``, ``lowest_donor``, ``depth_partial``,
    ``n_donors``, ``trust``.
    """
    plain, partial = (_by_donor(rows, model, m) for m in ("pearson", "pearson_depth_partial"))
    limit, partial_limit = (_null_limit(rows, null, m) for m in ("pearson", "pearson_depth_partial"))
    table = pd.DataFrame(
        {
            "pearson": plain["value"].groupby("gene").mean(),
            "ceiling": plain["ceiling"].groupby("gene").mean(),
            "lowest_donor": plain["value"].groupby("gene").min(),
            "depth_partial": partial["value"].groupby("gene").mean(),
            "n_donors": plain["value"].groupby("gene").count(),
        }
    )
    clear = table["pearson"] > limit
    sound = clear & (table["depth_partial"] > partial_limit) & (table["lowest_donor"] > 0) & (table["n_donors"] > 1)
    table["trust"] = np.select([sound, clear], ["predictable", "weak"], "do not use")
    return table.sort_values("pearson", ascending=False)


def _by_donor(rows: pd.DataFrame, model: str, metric: str) -> pd.DataFrame:
    part = rows[(rows["model"] == model) & (rows["metric"] == metric) & (rows["gene"] != "")]
    return part.groupby(["gene", "donor"])[["value", "ceiling"]].mean()


def _null_limit(rows: pd.DataFrame, null: str, metric: str) -> float:
    part = rows[(rows["model"] == null) & (rows["metric"] == metric) & (rows["gene"] != "")]
    by_gene = part.groupby(["seed", "gene", "donor"])["value"].mean().groupby(["seed", "gene"]).mean()
    return float(by_gene.quantile(NULL_QUANTILE)) if len(by_gene) else float("nan")
