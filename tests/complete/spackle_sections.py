"""Sections on a square array, of counts that a test gives."""

import numpy as np
import pandas as pd
from anndata import AnnData

from hescribe import keys
from hescribe.cards import TECHNOLOGIES, SectionCard
from hescribe.data.section import Section

CARD = SectionCard(technology=TECHNOLOGIES["toy"], pitch_um=200.0)
DEPTH = 10_000  # of every spot


def section_of(counts, name="s", donor="D", *, place=None, depth=DEPTH):
    """A section on a square array, whose spots have the same depth."""
    n = len(counts)
    side = int(np.ceil(np.sqrt(n)))
    row, col = np.divmod(np.arange(n), side) if place is None else place
    table = AnnData(
        obs=pd.DataFrame(
            {keys.ARRAY_ROW: row, keys.ARRAY_COL: col, keys.DEPTH: np.full(n, float(depth))},
            index=np.arange(n).astype(str),
        ),
        var=pd.DataFrame(index=[f"G{g}" for g in range(counts.shape[1])]),
        obsm={keys.SPATIAL_UM: np.column_stack([col, row]) * 200.0},
        layers={keys.COUNTS: np.asarray(counts, dtype=np.float32)},
    )
    return Section(name, donor, table, None, CARD)
