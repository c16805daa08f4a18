"""Read and write tables as h5ad so that a damaged file or a full disk is an error like any other."""

import warnings
from pathlib import Path

import anndata
import h5py
from anndata import AnnData
from anndata.io import write_elem
from scipy import sparse

from hescribe._support import write_whole
from hescribe.data.untrusted import check_sparse, open_h5
from hescribe.errors import InputError


def read_h5ad(path: Path, what: str = "is damaged") -> AnnData:
    """Read a table.

    Parameters
    ----------
    path
        The file.
    what
        Said of one that cannot be read.

    Raises
    ------
    FormatError
        If it is damaged or no h5ad.
    """
    with open_h5(path, what), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(Variable|Observation) names are not unique")  # the checks say which
        table = anndata.read_h5ad(path)
        for matrix in (table.X, *table.layers.values(), *table.obsm.values()):
            if sparse.issparse(matrix):
                check_sparse(matrix)
    return table


def write_h5ad(table: AnnData, path: Path) -> None:
    """Write a table, whole or not at all.

    HDF5 writes to memory and the bytes go to disk at once: on a full disk it fails in whatever
    it closes last, and was seen to take the process down.

    Parameters
    ----------
    table
        Its text columns become categories, as anndata's own writing makes them.
    path
        File that is made or replaced.

    Raises
    ------
    DataAccessError
        If it cannot be written.
    InputError
        If it holds a text that HDF5 cannot hold.
    """
    table.strings_to_categoricals()
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        try:
            write_elem(file, "/", table)
        except ValueError as error:  # a null character
            raise InputError(f"{path.name} cannot hold a text of the table: {error}") from error
        file.flush()
        content = file.id.get_file_image()
    with write_whole(path) as tmp:
        tmp.write_bytes(content)
