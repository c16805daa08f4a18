"""scFoundation: a transformer on the values of the expressed genes, trained on 50 million human cells.

Hao et al., "Large-scale foundation model on single-cell transcriptomics", Nature Methods 2024,
doi:10.1038/s41592-024-02305-7; weights for non-commercial use from its authors, our own code. As they use it for single
cells: ln(1 + 1e4 count / total) of the expressed genes, behind them the wanted and the measured total, 10^4 and the
spot's own. HESCAPE gives the spot's own twice, scales to the median of a batch, and takes the maximum over its padding
too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from hescribe.cards import GeneEncoderCard
from hescribe.data.cohort import Cohort
from hescribe.encode._weights import fingerprint_folder
from hescribe.encode.gene.base import Coverage, check_counts, find_genes
from hescribe.errors import DataAccessError
from hescribe.params import Params

if TYPE_CHECKING:
    from torch import Tensor

    from hescribe.encode.gene._scfoundation_network import Release

PAGE = "https://github.com/biomap-research/scFoundation"
TARGET_SUM = 1e4  # counts a spot is scaled to
WANTED = 4.0  # logarithm of the total that is asked for, published default


@dataclass(kw_only=True)
class ScFoundationEncoder(Params):
    """What the encoder makes of the expressed genes of a spot.

    Parameters
    ----------
    weights
        Folder with ``models.ckpt`` and ``OS_scRNA_gene_index.19264.tsv``; they must be fetched by hand.
    branch
        Of the checkpoint: trained for embeddings of cells, for those of genes (HESCAPE's), or for depth.
    pooling
        ``"max"`` over all tokens, as HESCAPE has it; ``"all"``, four times as long: the two totals, the maximum and the
        mean of the genes.

    Examples
    --------
    >>> ScFoundationEncoder().card.n_dims
    768
    """

    name: ClassVar[str] = "scfoundation"
    weights: str = ""
    branch: Literal["cell", "gene", "rde"] = "cell"
    pooling: Literal["max", "all"] = "max"

    @property
    def card(self) -> GeneEncoderCard:
        """Facts about the encoder."""
        return GeneEncoderCard(
            name=self.name, revision=fingerprint_folder(Path(self.weights)) if self.weights else "unknown",
            n_dims=self._release().n_dims if self.weights else 768 * (4 if self.pooling == "all" else 1),
            scaling="ln(1 + 1e4 count / total) of expressed genes, and the total itself", sees_depth=True,
            licence="scFoundation model licence, for research only", gated=True,
            paper="Hao et al., 2024, doi:10.1038/s41592-024-02305-7", trained_on=("scfoundation-50m-cells",),
            n_params=100_000_000,
        )  # fmt: skip

    def missing(self) -> str:
        """Return what stands between now and a run, empty if nothing does."""
        return "" if self.weights else f"to be fetched by hand, as {PAGE} says, and given with weights="

    def fit(self, train: Cohort) -> Self:
        """Check that the encoder knows the panel; nothing is learned."""
        self.coverage(train.genes)
        return self

    def coverage(self, genes: tuple[str, ...]) -> Coverage:
        """Return which genes of a panel are in the vocabulary."""
        return find_genes(genes, self._release().vocabulary, encoder=self.name, organism="human")

    def encode(self, counts: np.ndarray, genes: tuple[str, ...]) -> np.ndarray:
        """Return the embeddings, shape ``(n_spots, n_dims)`` float32."""
        from hescribe.encode.gene._published import run  # noqa: PLC0415 - imports torch

        counts, found, release = check_counts(counts, genes), self.coverage(genes), self._release()
        by_place = np.argsort(found.places)
        return run(
            release.network, _batches(counts[:, found.columns[by_place]], found.places[by_place]), release.n_dims
        )

    def _release(self) -> "Release":
        from hescribe.encode.gene._scfoundation_network import read_release  # noqa: PLC0415 - imports torch

        if not self.weights:
            raise DataAccessError(
                f"the weights of scFoundation must be fetched by hand: see {PAGE}, then give weights="
            )
        folder = Path(self.weights)
        return read_release(folder, fingerprint_folder(folder), self.branch, self.pooling)


def _batches(counts: np.ndarray, places: np.ndarray) -> "Iterator[tuple[Tensor, Tensor, Tensor]]":
    """Yield values and places of the expressed genes, and the two totals, spots by the chunk."""
    from torch import from_numpy  # noqa: PLC0415 - heavy

    from hescribe.encode.gene._published import CHUNK, pack  # noqa: PLC0415 - imports torch

    for start in range(0, len(counts), CHUNK):
        part = counts[start : start + CHUNK]
        total = np.maximum(part.sum(axis=1, keepdims=True), 1.0)
        order = np.argsort(part <= 0, axis=1, kind="stable")  # the expressed ones first, by place
        values, genes = pack(np.log1p(part * (TARGET_SUM / total)), places, order, (part > 0).sum(axis=1))
        depth = np.hstack([np.full_like(total, WANTED), np.log10(total)])
        yield from_numpy(values.astype(np.float32)), from_numpy(genes), from_numpy(depth.astype(np.float32))
