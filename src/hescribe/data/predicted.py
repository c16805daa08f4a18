"""Values of genes in a predicted table."""

import numpy as np
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe.errors import PanelError


def predicted_values(table: AnnData, genes: list[str]) -> np.ndarray:
    """Return the predicted expression of genes, shape ``(n_spots, n_genes)`` float32.

    Raises
    ------
    PanelError
        If the table lacks a gene: all that it lacks.
    """
    missing = [g for g in genes if g not in table.var_names]
    if missing:
        raise PanelError(f"the prediction has no {', '.join(missing)}")
    values = table[:, genes].layers[keys.PREDICTED]
    return np.asarray(values.todense() if sparse.issparse(values) else values, dtype=np.float32)
