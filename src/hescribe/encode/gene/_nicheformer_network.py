"""The transformer of Nicheformer, and its weights and vocabulary in either published layout."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hescribe.data.untrusted import open_h5
from hescribe.encode.gene._published import count_layers, find_file, load_part, read_checkpoint, take
from hescribe.errors import FormatError

AUXILIARY = 30  # the first tokens are no genes
N_HEADS = 16  # published; the weights do not say
HUB, LIGHTNING = "model.safetensors", "nicheformer.ckpt"
LEFT_OUT = ("encoder_layer.", "classifier_head.", "pooler_head.", "cls_head.")  # parts of the training


class NicheformerNetwork(nn.Module):
    """Tokens to one vector a spot: the mean of its genes in the last layer.

    Parameters
    ----------
    n_tokens, n_dims, n_hidden, n_layers, n_heads, n_places
        Sizes; ``n_places`` is the longest sequence.
    """

    def __init__(
        self, *, n_tokens: int, n_dims: int, n_hidden: int, n_layers: int, n_heads: int, n_places: int
    ) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(n_tokens, n_dims, padding_idx=1)
        self.positional_embedding = nn.Embedding(n_places, n_dims)
        layer = nn.TransformerEncoderLayer(n_dims, n_heads, n_hidden, batch_first=True, layer_norm_eps=1e-12)
        self.encoder = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)

    def forward(self, context: Tensor, genes: Tensor) -> Tensor:
        """Return the embedding of spots, shape ``(n, n_dims)``; 0 of a spot without genes.

        Parameters
        ----------
        context
            Tokens of organism, technology and modality, shape ``(n, 3)``.
        genes
            Tokens of the expressed genes, highest first, filled up with -1, shape ``(n, longest)``.
        """
        is_gene = genes >= 0
        tokens = torch.cat([context, genes.clamp(min=1)], dim=1)
        is_padding = torch.cat([torch.zeros_like(context, dtype=torch.bool), ~is_gene], dim=1)
        x = self.embeddings(tokens) + self.positional_embedding.weight[: tokens.shape[1]]
        x = self.encoder(x, src_key_padding_mask=is_padding)[:, context.shape[1] :]
        total = torch.where(is_gene[:, :, None], x, 0.0).sum(dim=1)
        return total / is_gene.sum(dim=1, keepdim=True).clamp(min=1)


@dataclass(frozen=True)
class Release:
    """Published weights with what is needed to use them.

    Parameters
    ----------
    network
        In evaluation mode.
    vocabulary
        Identifiers of genes; the token of the first is ``AUXILIARY``.
    """

    network: NicheformerNetwork
    vocabulary: tuple[str, ...]

    @property
    def n_dims(self) -> int:
        """Length of an embedding."""
        return self.network.embeddings.embedding_dim

    @property
    def n_genes_read(self) -> int:
        """Genes of a spot that are read at most."""
        return self.network.positional_embedding.num_embeddings - 3


@lru_cache(maxsize=1)
def read_release(folder: Path, stamp: str) -> Release:
    """Return a release in the layout of the hub or of the authors' archive.

    Parameters
    ----------
    folder
        With ``model.safetensors``, ``config.json`` and ``vocab.json``, or ``nicheformer.ckpt`` and ``model.h5ad``.
    stamp
        Tells one version of it from another.

    Raises
    ------
    DataAccessError
        If a file is missing.
    FormatError
        If a file is damaged, or the weights are not those of this network.
    """
    del stamp
    path = find_file(folder, (HUB, LIGHTNING), "weights of Nicheformer")
    content = read_checkpoint(path)
    if path.name == HUB:
        state = {name.removeprefix("nicheformer."): value for name, value in content.items()}
        facts = _read_json(find_file(folder, ("config.json",), "configuration"))
        vocabulary = _read_vocabulary(find_file(folder, ("vocab.json",), "vocabulary"))
    else:
        state, facts = take(content, "state_dict", path), content.get("hyper_parameters") or {}
        vocabulary = _read_genes(find_file(folder, ("model.h5ad",), "gene order"))
    network = _load(state, int(facts.get("nheads", N_HEADS)), path)
    n_tokens = len(vocabulary) + AUXILIARY
    if n_tokens > network.embeddings.num_embeddings:
        raise FormatError(
            f"{folder}: the vocabulary needs {n_tokens} tokens and the weights have "
            f"{network.embeddings.num_embeddings}; they are of different releases"
        )
    return Release(network, vocabulary)


def _load(state: dict[str, Tensor], n_heads: int, where: Path) -> NicheformerNetwork:
    places, tokens = take(state, "positional_embedding.weight", where), take(state, "embeddings.weight", where)
    hidden = take(state, "encoder.layers.0.linear1.weight", where)
    sizes = {
        "n_tokens": len(tokens), "n_dims": tokens.shape[1], "n_hidden": len(hidden), "n_places": len(places),
        "n_layers": count_layers(state, "encoder.layers."), "n_heads": n_heads,
    }  # fmt: skip
    state = {name: value for name, value in state.items() if name != "pos"}  # the numbers 0, 1, 2 ...
    return load_part(lambda: NicheformerNetwork(**sizes), state, LEFT_OUT, where)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} is no JSON file: {error}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path} holds a {type(found).__name__}, expected names with values")
    return found


def _read_vocabulary(path: Path) -> tuple[str, ...]:
    genes = {token: name for name, token in _read_json(path).items() if isinstance(token, int) and token >= AUXILIARY}
    if sorted(genes) != list(range(AUXILIARY, AUXILIARY + len(genes))):
        raise FormatError(
            f"{path}: the tokens of genes do not count up from {AUXILIARY}; it is no vocabulary of Nicheformer"
        )
    return tuple(genes[token] for token in sorted(genes))


def _read_genes(path: Path) -> tuple[str, ...]:
    """Return the names of the columns of an h5ad file; its matrix stays on disk."""
    with open_h5(path, "is no h5ad file with gene names") as file:
        var = file["var"]
        names = var[var.attrs["_index"]][:]
    return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)
