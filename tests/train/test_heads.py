"""The transformer head reads every input, each piece by a map of its own, and cuts vectors of any width."""

import pytest

torch = pytest.importorskip("torch")

from hescribe.train.heads import TransformerHead  # noqa: E402


def head(n_in, n_dims=8):
    torch.manual_seed(0)
    return TransformerHead(n_in, n_dims, dropout=0.5).eval()


@pytest.mark.parametrize("n_in", [1, 5, 16, 17, 50])
def test_every_input_changes_the_embedding(n_in):
    x = torch.randn(4, n_in, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = head(n_in)(x)
    assert found.shape == (4, 8)
    found.square().sum().backward()
    assert (x.grad.abs() > 1e-9).all()


def test_pieces_have_their_places():
    """Attention alone would not know them: 16 equal pieces in another order would give the same."""
    x = torch.arange(32.0)[None] / 32
    swapped = x.unflatten(1, (16, 2))[:, [1, 0, *range(2, 16)]].flatten(1)
    network = head(32)
    assert (network(x) - network(swapped)).abs().max() > 1e-3


def test_a_vector_is_embedded_the_same_whatever_is_embedded_beside_it():
    x = torch.randn(6, 20, generator=torch.Generator().manual_seed(1))
    network = head(20)
    torch.testing.assert_close(network(x)[3:4], network(x[3:4]))


def test_an_odd_width_has_fewer_heads_of_attention():
    assert head(20, n_dims=6)(torch.zeros(2, 20)).shape == (2, 6)
