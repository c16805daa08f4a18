"""The recall that HESCAPE published, as reference: their data, their code, mini-batches of 64."""

from functools import cache
from importlib.resources import files

import pandas as pd


@cache
def read_published() -> pd.DataFrame:
    """Return recall at 5 by panel, in both directions: ``dataset, gene_encoder, image_encoder, i2g, g2i, doubt``.

    Gindra et al., HESCAPE, 2025, arXiv:2508.01490, table of the repository. Two cells that ran out of memory are left
    out for each encoder. No spread over the three seeds was published.

    Examples
    --------
    >>> table = read_published()
    >>> len(table), table["dataset"].nunique()
    (110, 6)
    """
    with (files("hescribe.bench.hescape") / "published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


def published_recall(dataset: str) -> pd.DataFrame:
    """Return what was published for a dataset of the catalogue, best first; no row for another.

    Examples
    --------
    >>> published_recall("hescape_human_lung_healthy_panel").iloc[0][["gene_encoder", "image_encoder"]].tolist()
    ['drvi', 'gigapath']
    """
    own = read_published()
    own = own[own["dataset"] == dataset]
    return own.assign(mean=(own["i2g"] + own["g2i"]) / 2).sort_values("mean", ascending=False).drop(columns="mean")
