"""Tables that predict wrote, read again for other tools."""

from pathlib import Path

import numpy as np
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe.data.h5ad import read_h5ad
from hescribe.errors import FormatError, PanelError


def read_predicted(path: Path) -> AnnData:
    """Read a predicted section.

    Raises
    ------
    FormatError
        If the file is no readable h5ad, holds no predicted layer, no spots or a gene twice, or its spots lie nowhere.
    """
    table = read_h5ad(path, "is no readable h5ad")
    if keys.PREDICTED not in table.layers:
        raise FormatError(f"{path} holds no predicted layer; give a folder that hescribe predict wrote")
    if not table.n_obs:
        raise FormatError(f"{path} holds no spots; there is nothing to write")
    if not table.var_names.is_unique:
        raise FormatError(f"{path} holds gene {table.var_names[table.var_names.duplicated()][0]} twice")
    for key in (keys.SPATIAL, keys.SPATIAL_UM):
        if key not in table.obsm or not np.isfinite(table.obsm[key]).all():
            raise FormatError(f"{path} does not say where each spot lies (obsm {key!r}); predict the section again")
    return table


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
