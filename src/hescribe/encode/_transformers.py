"""Vision transformers of the hub: built by timm from a card, with the pooling their makers published."""

import re
from typing import Any

import timm
import torch
from torch import nn

from hescribe.encode._weights import load_strictly
from hescribe.errors import FormatError

Weights = dict[str, torch.Tensor]


class TokenAndMean(nn.Module):
    """The class token beside the mean of the patch tokens; registers are left out."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk, self.n_prefix = trunk, trunk.num_prefix_tokens

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(n, 2 * width)``."""
        tokens = self.trunk.forward_features(x)
        return torch.cat([tokens[:, 0], tokens[:, self.n_prefix :].mean(1)], dim=1)


class Pooler(nn.Module):
    """One learned query that attends to all tokens, as CONCH's contrastive head does."""

    def __init__(self, width: int = 512, n_heads: int = 8, trunk_width: int = 768) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, width))
        self.attn = nn.MultiheadAttention(width, n_heads, kdim=trunk_width, vdim=trunk_width, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(trunk_width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return ``(n, width)``."""
        tokens = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        found: torch.Tensor = self.attn(query, tokens, tokens, need_weights=False)[0]
        return found[:, 0]


class Conch(nn.Module):
    """CONCH's image tower up to the projection into the text space."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk, self.attn_pool_contrast, self.ln_contrast = trunk, Pooler(), nn.LayerNorm(512)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(n, 512)``."""
        found: torch.Tensor = self.ln_contrast(self.attn_pool_contrast(self.trunk.forward_features(x)))
        return found


def build(facts: dict[str, Any], weights: Weights, *, where: str) -> nn.Module:
    """Return the network of a card with its weights.

    Parameters
    ----------
    facts
        The card's ``[network]`` table: ``architecture`` and ``arguments`` for timm, ``pooling`` (``token``,
        ``token and mean`` or ``conch``), and ``layout`` if the weights are named otherwise than in timm.
    weights
        By name.
    where
        Their file, for messages.

    Raises
    ------
    FormatError
        If the weights do not fit the network exactly, or the pooling is unknown.
    """
    module = empty(facts)
    if facts["pooling"] == "conch":
        parts = ("visual.trunk.", "visual.attn_pool_contrast.", "visual.ln_contrast.")
        weights = {k.removeprefix("visual."): v for k, v in weights.items() if k.startswith(parts)}
        return load_strictly(module, weights, where)
    if facts.get("layout") == "transformers":
        weights = from_transformers(weights)
    load_strictly(module.trunk if isinstance(module, TokenAndMean) else module, weights, where)
    return module.eval()


def empty(facts: dict[str, Any]) -> nn.Module:
    """Return the network of a card with arbitrary weights."""
    arguments = dict(facts.get("arguments", {}))
    if "mlp_layer" in arguments:
        arguments["mlp_layer"] = getattr(timm.layers, arguments["mlp_layer"])
    trunk = timm.create_model(facts["architecture"], num_classes=0, **arguments)
    wrappers = {"token": nn.Module, "token and mean": TokenAndMean, "conch": Conch}
    if facts["pooling"] not in wrappers:
        raise FormatError(f"pooling {facts['pooling']!r} of an encoder card is unknown; known: {', '.join(wrappers)}")
    return trunk if facts["pooling"] == "token" else wrappers[facts["pooling"]](trunk)


def from_transformers(weights: Weights) -> Weights:
    """Return the weights of a ``ViTModel`` of the transformers library under timm's names."""
    names = (
        (r"^vit\.", ""),
        (r"^embeddings\.cls_token", "cls_token"),
        (r"^embeddings\.position_embeddings", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (r"^layernorm\.", "norm."),
        (r"^encoder\.layer\.", "blocks."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
    )
    found: Weights = {}
    for name, value in weights.items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901 - each rule works on what the last one left
        if not name.startswith("pooler."):  # an untrained head that some files carry
            found[name] = value
    for query in [name for name in found if ".attention.attention.query." in name]:
        parts = [found.pop(query.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
        found[query.replace(".attention.attention.query.", ".attn.qkv.")] = torch.cat(parts)
    return found
