"""Nicheformer: a transformer on the order of the genes of a spot, trained on 110 million cells.

Tejada-Lapuerta, Schaar et al., "Nicheformer: a foundation model for single-cell and spatial omics", Nature Methods
2025, doi:10.1038/s41592-025-02814-z; weights under the MIT licence, our own code. As its authors use it: counts to 1e4
a spot, over the mean of the technology, expressed genes by descending value behind tokens of organism, technology and
modality. We differ from them in the mean over genes, which leaves the padding out; HESCAPE's port orders genes without
counts too and leaves the three tokens away.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from hescribe.cards import GeneEncoderCard
from hescribe.data.cohort import Cohort
from hescribe.data.untrusted import read_npy
from hescribe.encode._weights import fetch_weights, find_weights, fingerprint_folder
from hescribe.encode.gene.base import Coverage, check_counts, find_genes
from hescribe.errors import InputError
from hescribe.params import Params

if TYPE_CHECKING:
    from torch import Tensor

    from hescribe.encode.gene._nicheformer_network import Release

REPOSITORY = "theislab/Nicheformer"
FILES = ("config.json", "vocab.json", "model.safetensors")  # of the hub
ORGANISMS = {"human": 5, "mouse": 6}  # tokens, from the authors' tables
TECHNOLOGIES = {"merfish": 7, "cosmx": 8, "xenium": 9}
SPATIAL = 4


@dataclass(kw_only=True)
class NicheformerEncoder(Params):
    """The mean of the genes of a spot in the last layer.

    Parameters
    ----------
    weights
        Folder of the release: the hub's files, or ``nicheformer.ckpt`` with ``model.h5ad``. Empty: the hub's,
        downloaded at first use.
    organism
        Of the genes. Mouse genes are known by identifiers of their own where no human one stands for them.
    technology
        Of the token in front; the model was not trained on capture spots.
    technology_mean
        File of the release (``.npy``) with the mean of each gene of the vocabulary in a technology; empty: 1.

    Examples
    --------
    >>> NicheformerEncoder().card.n_dims
    512
    """

    name: ClassVar[str] = "nicheformer"
    weights: str = ""
    organism: Literal["human", "mouse"] = "human"
    technology: Literal["xenium", "cosmx", "merfish"] = "xenium"
    technology_mean: str = ""

    @property
    def card(self) -> GeneEncoderCard:
        """Facts about the encoder."""
        return GeneEncoderCard(
            name=self.name, revision=fingerprint_folder(Path(self.weights)) if self.weights else "main",
            n_dims=self._release().n_dims if self.weights else 512,
            scaling="each spot to 1e4 counts, over the technology's mean of a gene; only the order is read",
            sees_depth=False, licence="MIT", paper="Tejada-Lapuerta et al., 2025, doi:10.1038/s41592-025-02814-z",
            trained_on=("spatialcorpus-110m",), n_params=36_418_048,
        )  # fmt: skip

    def missing(self) -> str:
        """Return what stands between now and a run, empty if nothing does."""
        if self.weights or all(find_weights(REPOSITORY, names=(name,)) for name in FILES):
            return ""
        return f"to be downloaded from https://huggingface.co/{REPOSITORY} at first use"

    def fit(self, train: Cohort) -> Self:
        """Check that the encoder knows the panel; nothing is learned."""
        self.coverage(train.genes)
        return self

    def coverage(self, genes: tuple[str, ...]) -> Coverage:
        """Return which genes of a panel are in the vocabulary."""
        return find_genes(genes, self._release().vocabulary, encoder=self.name, organism=self.organism)

    def encode(self, counts: np.ndarray, genes: tuple[str, ...]) -> np.ndarray:
        """Return the embeddings, shape ``(n_spots, n_dims)`` float32; 0 of a spot without counts."""
        from hescribe.encode.gene._published import run  # noqa: PLC0415 - imports torch

        counts, found, release = check_counts(counts, genes), self.coverage(genes), self._release()
        by_token = np.argsort(found.places)  # so that ties do not depend on the panel's order
        columns, places = found.columns[by_token], found.places[by_token]
        x = counts[:, columns] / self._technology_means(len(release.vocabulary))[places]
        return run(release.network, self._batches(x, places, release.n_genes_read), release.n_dims)

    def _batches(self, x: np.ndarray, places: np.ndarray, longest: int) -> "Iterator[tuple[Tensor, Tensor]]":
        """Yield the tokens of context and of genes, spots by the chunk; the total of a spot changes no order."""
        from torch import from_numpy, tensor  # noqa: PLC0415 - heavy

        from hescribe.encode.gene._nicheformer_network import AUXILIARY  # noqa: PLC0415 - imports torch
        from hescribe.encode.gene._published import CHUNK, pack  # noqa: PLC0415 - imports torch

        context = tensor([[ORGANISMS[self.organism], TECHNOLOGIES[self.technology], SPATIAL]])
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK]
            order = np.argsort(-part, axis=1, kind="stable")
            _, sequence = pack(part, places + AUXILIARY, order, np.minimum((part > 0).sum(axis=1), longest))
            yield context.repeat(len(part), 1), from_numpy(sequence)

    def _technology_means(self, n_vocabulary: int) -> np.ndarray:
        """Return the mean of each gene of the vocabulary, 1 where it is unknown, shape ``(n_vocabulary,)``."""
        if not self.technology_mean:
            return np.ones(n_vocabulary)
        mean = read_npy(Path(self.technology_mean))
        if mean.shape != (n_vocabulary,):
            raise InputError(
                f"{self.technology_mean} has shape {mean.shape}, expected one mean for each of the {n_vocabulary} "
                "genes of the vocabulary"
            )
        mean = np.nan_to_num(mean)
        return np.where(mean > 0, mean, 1.0)

    def _release(self) -> "Release":
        from hescribe.encode.gene._nicheformer_network import read_release  # noqa: PLC0415 - imports torch

        folder = self._folder()
        return read_release(folder, fingerprint_folder(folder))

    def _folder(self) -> Path:
        if not self.weights:
            return [fetch_weights(REPOSITORY, names=(name,)) for name in FILES][-1].parent
        return Path(self.weights)
