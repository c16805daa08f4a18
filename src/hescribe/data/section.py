"""Section: one tissue section, its table of spots, its image and where both come from."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from hescribe import keys
from hescribe.cards import SectionCard
from hescribe.data.image import ImageSource
from hescribe.errors import InputError

# What a model may see of a test section's table. Everything else, known or unknown, stays behind.
VISIBLE_OBS = (keys.ARRAY_ROW, keys.ARRAY_COL)
VISIBLE_OBSM = (keys.SPATIAL, keys.SPATIAL_UM)


@dataclass(frozen=True, slots=True)
class Section:
    """One tissue section.

    Parameters
    ----------
    id
        Unique in its cohort.
    donor
        Person or animal. Splits are made by donor, never by spot.
    table
        Spots by genes: integer counts in ``layers["counts"]``; spot centres (x, y) in pixels of
        the image in ``obsm["spatial"]`` and in um in ``obsm["spatial_um"]``; place on the capture
        array in ``obs["array_row"]`` and ``obs["array_col"]``; ``obs["depth"]`` holds each spot's
        counts over all measured genes, also those outside the panel.
    image
        The H&E image, read lazily; None if the section has none.
    card
        Technology, organ, scale and where the scale came from.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> table = AnnData(np.zeros((3, 2)), obs={"total_counts": [9, 9, 9]})
    >>> Section("s1", "donor1", table).blind().table.obs.columns.tolist()
    []
    """

    id: str
    donor: str
    table: AnnData
    image: ImageSource | None = None
    card: SectionCard = SectionCard()

    @property
    def genes(self) -> tuple[str, ...]:
        """Gene names, in panel order."""
        return tuple(self.table.var_names)

    @property
    def n_spots(self) -> int:
        """Number of spots, those that serve as context only included."""
        return int(self.table.n_obs)

    @property
    def xy_um(self) -> np.ndarray:
        """Spot centres from the image's upper left corner in um, shape ``(n_spots, 2)``."""
        if keys.SPATIAL_UM not in self.table.obsm:
            raise InputError(f"section {self.id} has no spot coordinates in um (obsm[{keys.SPATIAL_UM!r}])")
        return np.asarray(self.table.obsm[keys.SPATIAL_UM], dtype=np.float64)

    @property
    def kept(self) -> np.ndarray:
        """Boolean mask of the spots used as targets, shape ``(n_spots,)``; all if nothing says otherwise."""
        if keys.KEPT in self.table.obs:
            return self.table.obs[keys.KEPT].to_numpy(dtype=bool)
        return np.ones(self.n_spots, dtype=bool)

    @property
    def depth(self) -> np.ndarray:
        """Counts of each spot over all measured genes, shape ``(n_spots,)``."""
        if keys.DEPTH in self.table.obs:
            return self.table.obs[keys.DEPTH].to_numpy(dtype=np.float64)
        return np.asarray(self.table.layers[keys.COUNTS].sum(axis=1), dtype=np.float64).ravel()

    def layer(self, name: str) -> np.ndarray:
        """Return a layer of the kept spots as a dense array, shape ``(n_kept, n_genes)``.

        Raises
        ------
        InputError
            If the layer is absent; the message lists those there are.
        """
        if name not in self.table.layers:
            there = ", ".join(self.table.layers) or "none"
            raise InputError(f"section {self.id} has no layer {name!r}; it has {there}")
        values = self.table.layers[name][self.kept]
        return values.toarray() if sparse.issparse(values) else np.asarray(values)

    def blind(self) -> "Section":
        """Return what a model may see of a test section.

        A whitelist: gene names, spot names and coordinates, the image. Counts, depth, clusters,
        components of the expression and completed layers cannot pass, whatever they are called.
        """
        table = AnnData(
            obs=self.table.obs[[k for k in VISIBLE_OBS if k in self.table.obs]].copy(),
            var=pd.DataFrame(index=self.table.var_names.copy()),
            obsm={k: np.array(self.table.obsm[k]) for k in VISIBLE_OBSM if k in self.table.obsm},
        )
        return replace(self, table=table)

    def with_table(self, table: AnnData) -> Self:
        """Return the section with another table."""
        return replace(self, table=table)

    def with_kept(self, kept: np.ndarray) -> Self:
        """Return the section with another mask of target spots, shape ``(n_spots,)``."""
        table = self.table.copy()
        table.obs[keys.KEPT] = np.asarray(kept, dtype=bool)
        return replace(self, table=table)
