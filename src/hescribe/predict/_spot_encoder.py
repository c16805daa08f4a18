"""The published spot encoder of mclSTExp, where the spots of a batch are one sequence.

Min et al., "Multimodal contrastive learning for spatial gene expression prediction using histology images",
Briefings in Bioinformatics 2024, bbae551.
"""

import numpy as np
import torch
from torch import Tensor, nn

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.prep.counts import TARGET_SUM
from hescribe.train.attention import SequenceLayer
from hescribe.train.contrastive import ProjectionHead

N_HEADS, HEAD_DIMS, N_BLOCKS = 8, 64, 2


class BatchSpotEncoder(nn.Module):
    """The published encoder: the spots of a batch are one sequence, whatever sections they come from.

    A token is as wide as the panel. To the values of a spot are added a row of a table for its x and one for its y,
    which all sections share. So an embedding depends on which spots lie beside it in the batch.

    Parameters
    ----------
    n_genes, n_dims
        Genes of a spot, and width of its embedding.
    n_x, n_y
        Rows of the tables. The published ones have 65,536, of which a spot array reaches some dozens.

    Examples
    --------
    >>> network = BatchSpotEncoder(785, 256, n_x=1, n_y=1)
    >>> sum(p.numel() for p in network.blocks.parameters())
    5691250
    """

    def __init__(self, n_genes: int, n_dims: int, *, n_x: int, n_y: int) -> None:
        super().__init__()
        self.x, self.y = nn.Embedding(n_x, n_genes), nn.Embedding(n_y, n_genes)  # drawn from N(0, 1)
        self.blocks = nn.ModuleList(
            SequenceLayer(n_genes, n_heads=N_HEADS, n_inner=N_HEADS * HEAD_DIMS, n_feed=n_genes)
            for _ in range(N_BLOCKS)
        )
        self.head = ProjectionHead(n_genes, n_dims)

    def forward(self, values: Tensor, place: Tensor) -> Tensor:
        """Return embeddings, shape ``(n, n_dims)``.

        Parameters
        ----------
        values
            Shape ``(n, n_genes)``.
        place
            Rows of the tables, int64, shape ``(n, 2)``.
        """
        tokens = (values + self.x(place[:, 0]) + self.y(place[:, 1]))[None]
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[0])


def published_spots(train: Cohort) -> tuple[Tensor, Tensor]:
    """Return what the published encoder reads of the kept spots of a cohort.

    Returns
    -------
    log10(1 + 1e4 * count / the spot's counts over the panel), shape ``(n_spots, n_genes)``; and the rows of the tables,
    shape ``(n_spots, 2)``: x and y of the array, without an array the pixel, numbered from 0 in the order of those
    that occur. The other rows of the published tables are never read: a place is only read of train spots.
    """
    counts = train.stack(keys.COUNTS).astype(np.float64)
    values = np.log10(1 + TARGET_SUM * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    place = np.concatenate([_published_place(s)[s.kept] for s in train])
    number = [np.unique(axis, return_inverse=True)[1] for axis in place.T]
    return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(np.stack(number, axis=1).astype(np.int64))


def _published_place(section: Section) -> np.ndarray:
    obs = section.table.obs
    if keys.ARRAY_ROW in obs:
        return obs[[keys.ARRAY_COL, keys.ARRAY_ROW]].to_numpy(dtype=np.int64)
    return np.asarray(section.table.obsm[keys.SPATIAL]).astype(np.int64)
