"""A small cohort with many zeros for the tests of the preparation."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe.cards import TECHNOLOGIES, DatasetCard, SectionCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section

N_GENES = 30


def shallow_section(index, donor, *, n_side=8, n_genes=N_GENES):
    """Return a section with holes whose genes fall from 6 counts a spot to 0.1, some of them in patterns."""
    rng = np.random.default_rng(100 + index)
    places = np.argwhere(rng.random((n_side, n_side)) < 0.85)
    rate = np.geomspace(6, 0.1, n_genes) * rng.lognormal(0, 0.2, n_genes)
    pattern = np.where(np.arange(n_genes) % 3 == 0, places[:, :1] / n_side + 0.4, 1.0)
    counts = rng.poisson(rate * pattern * rng.lognormal(0, 0.2, (len(places), 1)))
    counts[0] = 0
    counts[0, 0] = 3  # the first spot has 3 counts: too few
    xy_um = (places[:, ::-1] + 0.5) * 200.0
    table = AnnData(
        obs=pd.DataFrame(
            {keys.ARRAY_ROW: places[:, 0], keys.ARRAY_COL: places[:, 1]},
            index=[f"{c}x{r}" for r, c in places],
        ),
        var=pd.DataFrame(index=[f"GENE{g:02d}" for g in range(n_genes)]),
        obsm={keys.SPATIAL_UM: xy_um, keys.SPATIAL: xy_um / 4},
        layers={keys.COUNTS: sparse.csr_matrix(counts.astype(np.float32))},
    )
    card = SectionCard(technology=TECHNOLOGIES["toy"], pitch_um=200.0, mpp=4.0, mpp_source="synthetic")
    return Section(f"s{index}", donor, table, None, card)


@pytest.fixture(scope="session")
def shallow():
    """Return five sections of three donors: D0 and D1 with two each, D2 with one."""
    sections = tuple(shallow_section(i, f"D{i // 2}") for i in range(5))
    return Cohort(sections, DatasetCard(id="shallow", synthetic=True))


@pytest.fixture(scope="session")
def lengths(tmp_path_factory):
    """Return a gene table: all genes but GENE03, the last on the mitochondrial chromosome."""
    path = tmp_path_factory.mktemp("lengths") / "genes.tsv"
    rows = [f"GENE{g:02d}\t{500 + 100 * g}\t{'chrM' if g == 1 else 'chr1'}" for g in range(N_GENES) if g != 3]
    path.write_text("gene_id\tlength_bp\tchromosome\n" + "\n".join(rows) + "\n")
    return path
