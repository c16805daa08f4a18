"""A cohort on disk and a prediction of one of its sections, with names that try to be markup."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from hescribe import keys
from hescribe.data.folder import write_cohort
from hescribe.data.h5ad import write_h5ad
from hescribe.testing.cohorts import raw_colour_cohort

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="session")
def viewed_cohort(tmp_path_factory):
    """Return the folder of a cohort of three sections."""
    folder = tmp_path_factory.mktemp("viewed") / "cohort"
    write_cohort(raw_colour_cohort(3, 1), folder)
    return folder


@pytest.fixture(scope="session")
def prediction(viewed_cohort):
    """Return a prediction folder: one section, four genes, one of them named like a script."""
    section = raw_colour_cohort(3, 1)[0]
    genes = ["GENE0", "GENE1", "GENE2", EVIL]
    table = predicted_table(section, genes)
    table.obs["region"] = pd.Categorical(np.where(np.arange(table.n_obs) % 2, "tumour", "stroma"))
    table.obs[keys.OOD] = np.where(np.arange(table.n_obs) == 0, 0.99, 0.1)
    table.uns["hescribe"] |= {"source": "../cohort/sections/s0.h5ad", "mpp": 4.0, "doubts": ["the slide is blurred"]}
    folder = viewed_cohort.parent / "prediction"
    write_h5ad(table, folder / "s0.h5ad")
    return folder


def predicted_table(section, genes):
    """Return a table as predict writes it: column k of the prediction is k plus a hundredth of the spot's place."""
    n = section.n_spots
    mean = np.arange(len(genes), dtype=np.float32)[None] + np.arange(n, dtype=np.float32)[:, None] / 100
    var = pd.DataFrame(
        {"trust": ["weak", "predictable", "do not use", "untested"], "pearson": [0.2, 0.5, 0.0, np.nan]}, index=genes
    )
    layers = {keys.PREDICTED: mean, keys.LOWER: mean - 1, keys.UPPER: mean + 2}
    obsm = {keys.SPATIAL_UM: section.xy_um, keys.SPATIAL: section.xy_um / 4}
    obs = pd.DataFrame(index=section.table.obs_names)
    return AnnData(obs=obs, var=var, layers=layers, obsm=obsm, uns={"hescribe": {"section": section.id}})
