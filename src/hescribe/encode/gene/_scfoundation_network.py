"""The encoder of scFoundation, and its weights in the published layout."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from hescribe.encode.gene._published import count_layers, find_file, load_part, read_checkpoint, take
from hescribe.errors import FormatError

WEIGHTS, GENES = "models.ckpt", "OS_scRNA_gene_index.19264.tsv"
NAME = "gene_name"  # column of that table
LEFT_OUT = ("decoder.", "decoder_embed.", "norm.", "to_final.")  # of the training
SLOPE = 0.1  # of a leaky unit, published
Pooling = Literal["max", "all"]


class ValueEmbedding(nn.Module):
    """A value as a soft choice among learned bins.

    Parameters
    ----------
    n_bins, n_dims
        Bins, and the length of their vectors.
    alpha
        Weight of the first layer beside the second.
    """

    def __init__(self, n_bins: int, n_dims: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.mlp, self.mlp2 = nn.Linear(1, n_bins), nn.Linear(n_bins, n_bins)
        self.emb, self.emb_mask, self.emb_pad = (
            nn.Embedding(n_bins, n_dims),
            nn.Embedding(1, n_dims),
            nn.Embedding(1, n_dims),
        )

    def forward(self, values: Tensor) -> Tensor:
        """Return the vectors of values, shape ``(*values.shape, n_dims)``."""
        x = functional.leaky_relu(self.mlp(values[..., None]), SLOPE)
        found: Tensor = torch.softmax(self.alpha * x + self.mlp2(x), dim=-1) @ self.emb.weight
        return found


class Layers(nn.Module):
    """Attention layers and a norm, under the published names."""

    def __init__(self, n_dims: int, n_layers: int, n_heads: int, n_hidden: int) -> None:
        super().__init__()
        one = [nn.TransformerEncoderLayer(n_dims, n_heads, n_hidden, batch_first=True) for _ in range(n_layers)]
        self.transformer_encoder, self.norm = nn.ModuleList(one), nn.LayerNorm(n_dims)

    def forward(self, x: Tensor, is_padding: Tensor) -> Tensor:
        """Return what the tokens have become, shape of ``x``."""
        for layer in self.transformer_encoder:
            x = layer(x, src_key_padding_mask=is_padding)
        found: Tensor = self.norm(x)
        return found


class ScFoundationNetwork(nn.Module):
    """Genes with their values, and two tokens of depth, to one vector a spot.

    Parameters
    ----------
    n_genes, n_dims, n_hidden, n_layers, n_heads, n_bins, alpha
        Sizes, and the weight in ``ValueEmbedding``.
    pooling
        ``"max"`` over all tokens; ``"all"``: the two tokens of depth, the maximum and the mean of the genes.
    """

    def __init__(
        self, *, n_genes: int, n_dims: int, n_hidden: int, n_layers: int, n_heads: int, n_bins: int, alpha: float,
        pooling: Pooling,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_genes, self.pooling = n_genes, pooling
        self.token_emb = ValueEmbedding(n_bins, n_dims, alpha)
        self.pos_emb = nn.Embedding(n_genes + 3, n_dims)  # two tokens of depth and one of padding
        self.encoder = Layers(n_dims, n_layers, n_heads, n_hidden)

    def forward(self, values: Tensor, genes: Tensor, depth: Tensor) -> Tensor:
        """Return the embedding of spots, shape ``(n, n_dims)`` or ``(n, 4 * n_dims)``.

        Parameters
        ----------
        values
            ln(1 + 1e4 count / total) of the expressed genes, shape ``(n, longest)``.
        genes
            Their place in the vocabulary, filled up with -1, same shape.
        depth
            Logarithms to base 10 of the wanted and of the measured total, shape ``(n, 2)``.
        """
        n, longest = values.shape
        at_end = torch.arange(self.n_genes, self.n_genes + 2, device=genes.device).expand(n, -1)
        places = torch.cat([genes.masked_fill(genes < 0, self.n_genes + 2), at_end], dim=1)
        is_padding = torch.cat([genes < 0, torch.zeros_like(at_end, dtype=torch.bool)], dim=1)
        x = self.token_emb(torch.cat([values, depth], dim=1)) + self.pos_emb(places)
        x = self.encoder(x, is_padding).masked_fill(is_padding[:, :, None], -torch.inf)
        if self.pooling == "max":
            return x.amax(dim=1)
        if not longest:  # no spot of the batch has a count
            none = x.new_zeros((n, x.shape[2]))
            return torch.cat([x[:, -1], x[:, -2], none, none], dim=1)
        has_genes, of_genes = (genes >= 0).any(dim=1, keepdim=True), x[:, :longest]
        n_genes = (genes >= 0).sum(dim=1, keepdim=True).clamp(min=1)
        mean = of_genes.masked_fill(is_padding[:, :longest, None], 0.0).sum(dim=1) / n_genes
        highest = of_genes.amax(dim=1).masked_fill(~has_genes, 0.0)
        return torch.cat([x[:, -1], x[:, -2], highest, mean], dim=1)


@dataclass(frozen=True)
class Release:
    """Published weights with the genes they are for.

    Parameters
    ----------
    network
        In evaluation mode.
    vocabulary
        Symbols of genes, in the order of the weights.
    """

    network: ScFoundationNetwork
    vocabulary: tuple[str, ...]

    @property
    def n_dims(self) -> int:
        """Length of an embedding."""
        return self.network.pos_emb.embedding_dim * (4 if self.network.pooling == "all" else 1)


@lru_cache(maxsize=1)
def read_release(folder: Path, stamp: str, branch: str, pooling: Pooling) -> Release:
    """Return one branch of a release.

    Parameters
    ----------
    folder
        With ``models.ckpt`` and ``OS_scRNA_gene_index.19264.tsv``.
    stamp
        Tells one version of it from another.
    branch, pooling
        See ``ScFoundationEncoder``.

    Raises
    ------
    DataAccessError
        If a file is missing.
    FormatError
        If a file is damaged, or the weights are not those of this network.
    """
    del stamp
    path = find_file(folder, (WEIGHTS,), "weights of scFoundation")
    vocabulary = _read_genes(find_file(folder, (GENES,), "order of genes"))
    one = take(read_checkpoint(path), branch, path)
    state = {name.partition("model.")[2]: value for name, value in take(one, "state_dict", path).items()}
    facts = _read_facts(take(one, "config", path), path)
    n_genes = len(take(state, "pos_emb.weight", path)) - 3
    if n_genes != len(vocabulary):
        raise FormatError(f"{folder}: the weights are for {n_genes} genes and {GENES} lists {len(vocabulary)}")
    sizes: dict[str, Any] = {
        "n_genes": n_genes, "n_dims": state["pos_emb.weight"].shape[1],
        "n_hidden": len(take(state, "encoder.transformer_encoder.0.linear1.weight", path)),
        "n_layers": count_layers(state, "encoder.transformer_encoder."), "n_heads": facts["heads"],
        "n_bins": len(take(state, "token_emb.mlp.weight", path)), "alpha": facts["bin_alpha"], "pooling": pooling,
    }  # fmt: skip
    return Release(load_part(lambda: ScFoundationNetwork(**sizes), state, LEFT_OUT, path), vocabulary)


def _read_facts(config: dict[str, Any], where: Path) -> dict[str, Any]:
    """Return what the weights do not say: the number of heads, and the weight in ``ValueEmbedding``."""
    of_model = take(take(config, "model_config", where), take(config, "model", where), where)
    encoder = take(of_model, "encoder", where)
    if encoder.get("module_type", "transformer") != "transformer":
        raise FormatError(f"{where}: the encoder is a {encoder['module_type']}, expected a transformer")
    return {"heads": int(take(encoder, "heads", where)), "bin_alpha": float(take(of_model, "bin_alpha", where))}


def _read_genes(path: Path) -> tuple[str, ...]:
    try:
        table = pd.read_csv(path, sep="\t", keep_default_na=False)
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} is no table of genes: {error}") from error
    if NAME not in table:
        raise FormatError(f"{path} has no column {NAME!r}; it has {', '.join(map(str, table.columns))}")
    return tuple(np.asarray(table[NAME], dtype=str).tolist())
