"""SpaCKLE as the published code trains and uses it: its batches, its masks, its neighbours, its zeros.

Mejia et al., MICCAI 2024, arXiv:2407.13027, package ``spared`` 2.2.1. We differ: the last weights are kept
instead of those that score best on other sections, values are not corrected for batches, and the last
spots of a table are completed too, in a smaller batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor

from hescribe import keys
from hescribe.complete._spackle_network import BatchAttentionNetwork
from hescribe.complete.base import View
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.prep.denoise import adaptive_median
from hescribe.prep.graph import nearest_spots, spot_graph

BATCH = 256
N_NEIGHBOURS = 18
SHARE = 0.3  # of all entries of a gene, those that are 0 included, that is hidden


@dataclass(frozen=True, kw_only=True)
class PublishedLessons:
    """Batches as the published code draws them.

    Parameters
    ----------
    values
        log2(1 + 1e6 * count / depth) with the missing filled by the adaptive median, shape ``(n_spots, n_genes)``.
    measured
        True where a count stands behind the value, same shape.
    near
        Row of each spot and of the spots nearest in pixels, of whatever section, shape ``(n_spots, n_tokens)``.
    share
        Probability that a measured value is set to 0, shape ``(n_genes,)``.
    n_tokens
        Tokens of a neighbourhood that are computed, chosen at random for each batch.
    """

    values: Tensor
    measured: Tensor
    near: Tensor
    share: Tensor
    n_tokens: int

    @classmethod
    def of(cls, train: Cohort, *, n_tokens: int) -> "PublishedLessons":
        """Return the lessons of a cohort; a gene seen in f of all spots is hidden with probability 0.3 / f."""
        views = [View.of(s) for s in train]
        measured = np.concatenate([v.observed for v in views])
        share = np.minimum(SHARE / np.maximum(measured.mean(axis=0), SHARE), 1)
        return cls(
            values=torch.from_numpy(np.concatenate([adaptive_median(v.values, spot_graph(v.section)) for v in views])),
            measured=torch.from_numpy(measured),
            near=torch.from_numpy(_near_in_pixels(train)),
            share=torch.from_numpy(share.astype(np.float32)),
            n_tokens=n_tokens,
        )

    def draw(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return values with some set to 0, and the values, each of shape ``(n, n_tokens, n_genes)``."""
        chosen = torch.randperm(self.near.shape[1], generator=generator)[: self.n_tokens]
        near = self.near[rows][:, chosen]
        values = self.values[near]
        hidden = self.measured[near] & (torch.rand(values.shape, generator=generator) < self.share)
        return values.masked_fill(hidden, 0.0), values


def _near_in_pixels(train: Cohort) -> np.ndarray:
    """Return each spot and the 18 nearest in pixels, as if all sections lay in one frame, in the order of rows."""
    xy = np.concatenate([_pixels(s) for s in train])
    frame = Section("train", "train", AnnData(np.zeros((len(xy), 0)), obsm={keys.SPATIAL_UM: xy}))
    n_neighbours = min(N_NEIGHBOURS, len(xy) - 1)
    near = np.sort(nearest_spots(frame, n_neighbours)[0], axis=1)
    return np.hstack([np.arange(len(xy))[:, None], near])


def _pixels(section: Section) -> np.ndarray:
    """Return the places of the spots in pixels; in um where it has no pixels."""
    return np.asarray(section.table.obsm[keys.SPATIAL]) if keys.SPATIAL in section.table.obsm else section.xy_um


@torch.inference_mode()
def complete_in_batches(network: BatchAttentionNetwork, values: np.ndarray) -> np.ndarray:
    """Return the values of every entry, shape ``(n_spots, n_genes)``; a spot sees those beside it in the table.

    Only the token of the centre is computed: the others change nothing about it.

    Parameters
    ----------
    network
        Ready to predict.
    values
        Shape ``(n_spots, n_genes)``; what is missing is 0.
    """
    batches = torch.from_numpy(values)[:, None].split(BATCH)
    return torch.cat([network(batch)[:, 0] for batch in batches]).numpy()
