"""The probes are zero for our model, and find every leak we plant."""

import math

import pytest
import torch
from torch import nn

from minitransformer.attention import MultiHeadAttention, SelfAttention
from minitransformer.errors import UserError
from minitransformer.masks import causal_mask
from minitransformer.probes import (
    batch_order_gap,
    decoder_future_leak,
    future_leak,
    padding_gap,
    permutation_gap,
)

B, T, D = 2, 5, 12
ROUNDING = 1e-5


@pytest.fixture
def x():
    return torch.randn(B, T, D)


@pytest.fixture
def batch():
    """Source and decoder input of three pairs, all of different lengths."""
    source = torch.tensor(
        [[5, 8, 4, 2, 0, 0, 0], [9, 22, 7, 6, 5, 11, 2], [13, 14, 2] + 4 * [0]]
    )
    target = torch.tensor(
        [[1, 6, 28, 9, 0], [1, 4, 0, 0, 0], [1, 12, 13, 8, 7]]
    )
    return source, target


# By hand ---


def test_future_leak_is_the_largest_derivative():
    def mixed(x):
        y = 2 * x
        y[:, 1] = x[:, 1] - 3 * x[:, 3] + 0.5 * x[:, 2]
        return y

    assert future_leak(mixed, torch.randn(1, 5, 2)) == 3.0


def test_the_past_is_no_leak():
    assert future_leak(lambda x: x.cumsum(1), torch.randn(B, T, 3)) == 0.0


def test_permutation_gap_of_positions():
    def numbered(x):
        return x + torch.arange(4.0)[:, None]

    # The rotation brings position 3 to 0: its number changes by 3.
    assert permutation_gap(numbered, torch.zeros(1, 4, 2)) == 3.0


# A correct model ---


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_a_correct_model_passes_every_probe(
    make_model, batch, norm_first, positions
):
    model = make_model(norm_first=norm_first, positions=positions)
    assert decoder_future_leak(model, *batch) == 0.0
    assert padding_gap(model, *batch) < ROUNDING
    assert batch_order_gap(model, *batch) < ROUNDING


def test_a_shared_vocabulary_is_probed_too(make_model, batch):
    model = make_model(source_vocab_size=29, target_vocab_size=None)
    assert decoder_future_leak(model, *batch) == 0.0


def test_causal_attention_does_not_leak(x):
    attention = MultiHeadAttention(D, num_heads=3)
    assert future_leak(lambda x: attention(x, x, x, causal=True), x) == 0.0


def test_attention_is_permutation_equivariant(x):
    assert permutation_gap(SelfAttention(D, 7), x) < ROUNDING


def test_probing_leaves_the_model_as_it_was(make_model, batch):
    model = make_model(dropout=0.5).train()
    model.encoder[0].eval()
    before = [module.training for module in model.modules()]
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    assert decoder_future_leak(model, *batch) == 0.0
    assert padding_gap(model, *batch) < ROUNDING
    assert [module.training for module in model.modules()] == before
    assert not model.target_embedding._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name])


# Planted faults ---


def test_open_attention_leaks(x):
    attention = MultiHeadAttention(D, num_heads=3)
    assert future_leak(lambda x: attention(x, x, x), x) > 1e-3


@pytest.mark.parametrize("layer", [0, 1])
def test_a_decoder_without_causal_mask_leaks(make_model, batch, layer):
    model = make_model()
    attention = model.decoder[layer].self_attention
    attend = attention.attend
    attention.attend = lambda q, k, v, mask, causal: attend(
        q, k, v, mask, False
    )
    assert decoder_future_leak(model, *batch) > 1e-3


def test_a_mask_one_key_too_wide_leaks(x):
    attention = SelfAttention(D, 7)
    mask = causal_mask(T + 1)[1:, :T]
    assert future_leak(lambda x: attention(x, mask), x) > 1e-3


def test_a_norm_over_time_leaks(x):
    assert future_leak(lambda x: x - x.mean(1, keepdim=True), x) > 1e-3


def test_ignored_source_padding_is_found(make_model, batch, monkeypatch):
    monkeypatch.setattr(
        "minitransformer.model.padding_mask",
        lambda ids, pad_id: torch.ones_like(ids).bool()[:, None, None, :],
    )
    assert padding_gap(make_model(), *batch) > 1e-3


def test_batch_statistics_are_found(make_model, batch):
    model = make_model()
    model.encoder_norm.register_forward_hook(
        lambda module, inputs, output: output.cumsum(0)
    )
    assert batch_order_gap(model, *batch) > 1e-3


def test_positions_break_permutation(x):
    def numbered(x):
        return x + torch.arange(float(T))[:, None]

    assert permutation_gap(numbered, x) > 0.5


def test_neither_rotation_nor_swap_alone_is_enough(x):
    def rotation_only(x):  # a circular convolution
        return x + x.roll(1, dims=1)

    def swap_only(x):
        return torch.cat([x[:, :2], x[:, 2:].cumsum(1)], dim=1)

    assert permutation_gap(rotation_only, x) > 1e-3
    assert permutation_gap(swap_only, x) > 1e-3


def test_nan_is_no_pass(make_model, batch):
    model = make_model()
    nn.init.constant_(model.output.weight, float("nan"))
    assert padding_gap(model, *batch) == float("inf")
    assert batch_order_gap(model, *batch) == float("inf")
    assert math.isnan(decoder_future_leak(model, *batch))


# Edges ---


def test_probes_refuse_what_would_test_nothing(make_model, batch, x):
    source, target = batch
    model = make_model()
    with pytest.raises(UserError, match="padded"):
        padding_gap(model, source[1:2], target[2:])
    with pytest.raises(UserError, match="two or more"):
        batch_order_gap(model, source[:1], target[:1])
    with pytest.raises(UserError, match="two or more"):
        permutation_gap(torch.exp, x[:, :1])
    with pytest.raises(UserError, match=r"\(2, 5, 12\) into \(2, 4, 12\)"):
        future_leak(lambda x: x[:, 1:], x)
    with pytest.raises(UserError, match="no gradient"):
        future_leak(lambda x: x.detach(), x)


def test_one_position_has_no_future():
    assert future_leak(torch.exp, torch.randn(B, 1, 3)) == 0.0


def test_it_works_inside_no_grad(x):
    with torch.no_grad():
        assert future_leak(lambda x: x.flip(1), x) == 1.0
