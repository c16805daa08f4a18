"""SpaRED's preparation against its description (F1 to P9) written out densely, one table, one loop at a time."""

import importlib.util
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import normalize

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.prep.graph import spot_graph
from hescribe.prep.spared import SparedPreparation
from hescribe.prep.spared_layers import DELTAS_OF

TRAIN = ("s0", "s1", "s2")
N_GENES, SHARE = 6, 0.6


@pytest.fixture(scope="module")
def cohort():
    """Return the shallow cohort of the tests of the preparation."""
    path = Path(__file__).parents[1] / "prep" / "conftest.py"
    spec = importlib.util.spec_from_file_location("prep_fixtures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Cohort(tuple(module.shallow_section(i, f"D{i // 2}") for i in range(5)))


def filled(x, step):
    """Return P4 of one section: the first median over 1 to 4 hops that is not 0, else that of the non-zero values."""
    out = x.copy()
    for i, g in np.argwhere(x == 0):
        near = np.arange(len(x)) == i
        for _ in range(4):
            near = near | step[near].any(axis=0)
            if (median := np.median(x[near, g])) != 0:
                break
        seen = x[x[:, g] != 0, g]
        out[i, g] = median or (np.median(seen) if len(seen) else 0.0)
    return out


def by_description(cohort, combat):
    """Return the chosen genes in order, and the layers by name, with all sections seen."""
    genes = np.array(cohort.genes)
    counts = [s.layer(keys.COUNTS).astype(float) for s in cohort]
    valid = [(c.sum(axis=1) > 10) & (c.sum(axis=1) < 1e6) for c in counts]
    steps = [(spot_graph(s) != 0).toarray() for s in cohort]
    counts = [c[v] for c, v in zip(counts, valid, strict=True)]
    steps = [a[v][:, v] for a, v in zip(steps, valid, strict=True)]
    facts = pd.DataFrame(
        {
            "low": np.min([(c > 0).mean(axis=0) for c in counts], axis=0),
            "all": (np.vstack(counts) > 0).mean(axis=0),
            "total": np.vstack(counts).sum(axis=0),
        },
        index=genes,
    )
    facts = facts[(facts["total"] > 10) & (facts["total"] < 1e6)].sort_values("low", ascending=False, kind="stable")
    crossing = np.flatnonzero(facts["all"].expanding().mean() >= SHARE)[-1]
    passed = facts.index[: crossing + 1]
    at = [cohort.genes.index(g) for g in passed]
    some = [c[:, at].sum(axis=1) > 0 for c in counts]
    counts = [c[k][:, at] for c, k in zip(counts, some, strict=True)]
    steps = [a[k][:, k] for a, k in zip(steps, some, strict=True)]
    tpm = [1e6 * c / c.sum(axis=1, keepdims=True) for c in counts]
    log1p = [np.log2(1 + t) for t in tpm]
    d_log1p = [filled(x, a) for x, a in zip(log1p, steps, strict=True)]
    moran = np.nanmean([moran_of(x, a) for x, a in zip(d_log1p, steps, strict=True)], axis=0)
    best = np.argsort(-moran, kind="stable")[:N_GENES]
    batch = np.repeat([s.donor for s in cohort], [len(c) for c in counts])
    train = np.repeat([s.id in TRAIN for s in cohort], [len(c) for c in counts])
    layers = {keys.LOG1P: np.vstack(log1p)[:, best], keys.D_LOG1P: np.vstack(d_log1p)[:, best]}
    layers |= {keys.C_LOG1P: combat(layers[keys.LOG1P], batch), keys.C_D_LOG1P: combat(layers[keys.D_LOG1P], batch)}
    layers |= {DELTAS_OF[k]: x - x[train].mean(axis=0) for k, x in layers.items()}
    layers |= {keys.TPM: np.vstack(tpm)[:, best], keys.MASK: np.vstack(tpm)[:, best] != 0}
    return tuple(passed[best]), layers


def moran_of(x, step):
    w = normalize(step.astype(float), "l1")
    z = x - x.mean(axis=0)
    return len(x) / w.sum() * np.einsum("ig,ij,jg->g", z, w, z) / (z**2).sum(axis=0)


def test_all_layers_are_those_of_the_description(cohort, scanpy, quietly):
    def combat(x, batch):
        obs = pd.DataFrame({"batch": pd.Categorical(batch)}, index=[str(i) for i in range(len(batch))])
        return quietly(scanpy.pp.combat, anndata.AnnData(x.copy(), obs=obs), "batch", inplace=False)

    genes, layers = by_description(cohort, combat)
    preparation = SparedPreparation(fitted_on="all", lengths="none", min_measured=SHARE, n_genes=N_GENES)
    ours = preparation.fit(cohort, train=TRAIN).transform(cohort)
    assert ours.genes == genes
    for name, expected in layers.items():
        values = np.concatenate([s.layer(name) for s in ours])
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-4, err_msg=name)
