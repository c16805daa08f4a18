"""Write a table as h5ad so that a full disk is an error like any other."""

from pathlib import Path

import h5py
from anndata import AnnData
from anndata.io import write_elem

from hescribe._support import write_whole


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
    """
    table.strings_to_categoricals()
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        write_elem(file, "/", table)
        file.flush()
        content = file.id.get_file_image()
    with write_whole(path) as tmp:
        tmp.write_bytes(content)
