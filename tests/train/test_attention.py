"""Attention among the tokens of a sequence, against torch's own."""

import pytest
import torch
from torch import nn

from hescribe.train.attention import SequenceLayer

N, N_DIMS, N_HEADS = 5, 8, 2


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return SequenceLayer(N_DIMS, n_heads=N_HEADS, n_inner=N_DIMS, n_feed=16, dropout=0.5).eval()


def reference(layer):
    """Return the attention of a layer as torch computes it."""
    other = nn.MultiheadAttention(N_DIMS, N_HEADS, batch_first=True).eval()
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([layer.query.weight, layer.key_value.weight]))
        other.in_proj_bias.zero_()
        other.out_proj.load_state_dict(layer.out.state_dict())
    return other


def test_a_layer_attends_as_torch_does(layer):
    tokens, asking = torch.randn(3, N, N_DIMS), torch.randn(3, 2, N_DIMS)
    z = layer.before(tokens)
    found = asking + reference(layer)(layer.before(asking), z, z)[0]
    torch.testing.assert_close(layer(tokens, asking), found + layer.feed(layer.between(found)))


def test_tokens_ask_themselves_by_default(layer):
    tokens = torch.randn(3, N, N_DIMS)
    torch.testing.assert_close(layer(tokens), layer(tokens, tokens))
    torch.testing.assert_close(layer(tokens, tokens[:, 1:2]), layer(tokens)[:, 1:2])


def test_a_hidden_token_changes_nothing(layer):
    tokens = torch.randn(1, N, N_DIMS)
    bias = torch.zeros(1, 1, 1, N)
    bias[..., -1] = -torch.inf
    other = tokens.clone()
    other[:, -1] = 100.0
    torch.testing.assert_close(layer(other, bias=bias)[:, :-1], layer(tokens, bias=bias)[:, :-1])
    assert not torch.allclose(layer(other)[:, :-1], layer(tokens)[:, :-1])


def test_dropout_is_off_in_use_and_on_in_training(layer):
    tokens = torch.randn(1, N, N_DIMS)
    torch.testing.assert_close(layer(tokens), layer(tokens), rtol=0, atol=0)
    layer.train()
    assert not torch.equal(layer(tokens), layer(tokens))
