"""The attention of TransMIL: what landmarks approximate, and that the class token stands apart."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hescribe.errors import InputError  # noqa: E402
from hescribe.slide._nystrom import GridPosition, NystromAttention, pseudo_inverse, segment_means  # noqa: E402
from hescribe.slide.toy import toy_bags  # noqa: E402
from hescribe.slide.transmil import TransMIL  # noqa: E402


def attend(n_tokens, n_landmarks, *, repeat=1):
    torch.manual_seed(0)
    layer = NystromAttention(16, n_heads=2, n_landmarks=n_landmarks).eval()
    torch.manual_seed(1)
    tokens = torch.randn(n_tokens // repeat, 16).repeat_interleave(repeat, dim=0)
    with torch.inference_mode():
        return layer(tokens)


def test_landmarks_that_are_the_tokens_give_exact_attention():
    """Tokens in runs of four alike: the means of the runs lose nothing."""
    exact, exact_first = attend(48, 48, repeat=4)
    landmarks, first = attend(48, 12, repeat=4)
    torch.testing.assert_close(landmarks, exact, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(first, exact_first, atol=2e-3, rtol=5e-2)


def test_exact_attention_is_that_of_torch():
    torch.manual_seed(0)
    layer = NystromAttention(16, n_heads=2, n_landmarks=100)
    torch.nn.init.zeros_(layer.near.weight)
    tokens = torch.randn(7, 16)
    q, k, v = (x.reshape(7, 2, 8).transpose(0, 1) for x in layer.query_key_value(layer.before(tokens)).chunk(3, dim=-1))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(7, 16)
    torch.testing.assert_close(layer(tokens)[0], tokens + layer.out(expected))


def test_the_iteration_ends_at_the_inverse():
    torch.manual_seed(0)
    a = torch.softmax(3 * torch.eye(6) + torch.randn(2, 6, 6), dim=-1)
    torch.testing.assert_close(pseudo_inverse(a) @ a, torch.eye(6).expand(2, 6, 6), atol=2e-2, rtol=0)


def test_runs_of_unequal_length_keep_every_token():
    x = torch.arange(7.0)[None, :, None]
    np.testing.assert_allclose(segment_means(x, 3).flatten(), [1.0, 3.5, 5.5])


def test_a_tile_is_mixed_with_its_neighbours_on_the_square_and_the_token_is_not():
    """Nine tiles and a bright one in the middle: with kernels of ones each tile sees it once a kernel that reaches."""
    layer = GridPosition(1)
    for convolution in layer.convolutions:
        torch.nn.init.ones_(convolution.weight)
        torch.nn.init.zeros_(convolution.bias)
    tokens = torch.zeros(10, 1)
    tokens[5] = 1.0  # the class token and tiles 0 to 8; the middle is tile 4
    out = layer(tokens).flatten().tolist()
    assert out[0] == 0
    assert out[1:5] + out[6:] == [3.0] * 8
    assert out[5] == 4.0


def test_it_learns_large_bags_through_landmarks():
    toy = toy_bags(0, n_bags=40, n_tiles=(20, 30), n_dims=6, share=0.5, distance=8.0)
    model = TransMIL(n_hidden=16, n_heads=2, n_landmarks=8, epochs=6, lr=5e-3, batch_size=4)
    told = model.fit(toy.bags[:30], toy.target.take(np.arange(30))).predict(toy.bags[30:])
    assert (told.argmax(axis=1) == toy.target.codes[30:]).mean() > 0.7
    assert model.attention(toy.bags[0]).sum() == pytest.approx(1, abs=1e-5)


def test_heads_that_do_not_share_the_units_are_told():
    toy = toy_bags(0, n_bags=4, n_dims=2)
    with pytest.raises(InputError, match=r"multiple of n_heads \(3\), not 16"):
        TransMIL(n_hidden=16, n_heads=3).fit(toy.bags, toy.target)
