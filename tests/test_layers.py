"""The layers: torch's own, number for number, and one step at a time."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch_layers import as_torch, assert_same_gradients, shake

from minitransformer.layers import DecoderLayer, EncoderLayer
from minitransformer.masks import causal_mask, padding_mask

B, T, S, D, H, D_FF = 2, 5, 7, 12, 3, 17
SOURCE = torch.tensor([[4, 5, 6, 7, 8, 9, 2], [4, 5, 6, 2, 0, 0, 0]])
TARGET = torch.tensor([[1, 5, 6, 0, 0], [1, 5, 6, 7, 8]])
NORMS = pytest.mark.parametrize("norm_first", [False, True])


def make(kind, norm_first=False, dropout=0.0):
    layer = kind(D, H, D_FF, dropout, norm_first).double()
    shake(layer)
    return layer


def hidden(ids, padded):
    """Return what our mask and torch's padding mask are for these ids."""
    return (padding_mask(ids), ids == 0) if padded else (None, None)


# By hand ---


def test_post_norm_as_in_the_paper():
    x, memory = torch.randn(B, T, D).double(), torch.randn(B, S, D).double()
    encoder, decoder = make(EncoderLayer), make(DecoderLayer)
    one = encoder.add_norm1.norm(x + encoder.self_attention(x, x, x))
    two = encoder.add_norm2.norm(one + encoder.feed_forward(one))
    assert_close(encoder(x), two)
    causal = causal_mask(T)
    one = decoder.add_norm1.norm(x + decoder.self_attention(x, x, x, causal))
    seen = decoder.cross_attention(one, memory, memory)
    two = decoder.add_norm2.norm(one + seen)
    three = decoder.add_norm3.norm(two + decoder.feed_forward(two))
    assert_close(decoder(x, memory), three)


# Properties ---


@NORMS
def test_an_encoder_layer_has_no_order(norm_first):
    layer = make(EncoderLayer, norm_first)
    x, order = torch.randn(B, S, D).double(), torch.randperm(S)
    assert_close(layer(x[:, order]), layer(x)[:, order])


@NORMS
def test_a_decoder_layer_ignores_the_future_and_hidden_memory(norm_first):
    layer = make(DecoderLayer, norm_first)
    x, memory = torch.randn(B, T, D).double(), torch.randn(B, S, D).double()
    mask = padding_mask(SOURCE)
    before = layer(x, memory, mask)
    x[:, 3:] = torch.randn(B, T - 3, D).double()
    memory[1, 4:] = torch.randn(3, D).double()
    after = layer(x, memory, mask)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3:], after[:, 3:]).all(-1).any()


@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
@NORMS
def test_dropout_spares_the_attention_weights_alone(kind, norm_first):
    layer = make(kind, norm_first, dropout=0.5)
    plain = make(kind, norm_first)
    plain.load_state_dict(layer.state_dict())
    x, memory = torch.randn(B, T, D).double(), torch.randn(B, S, D).double()
    inputs = (x,) if kind is EncoderLayer else (x, memory)
    assert not torch.equal(layer(*inputs), layer(*inputs))
    assert torch.equal(layer.eval()(*inputs), plain(*inputs))
    rates = [
        part.p if hasattr(part, "p") else part.dropout
        for part in layer.modules()
        if hasattr(part, "p") or isinstance(getattr(part, "dropout", 0), float)
    ]
    # The attentions, then the feed-forward and two or three AddNorms.
    heads, others = (1, 3) if kind is EncoderLayer else (2, 4)
    assert rates == [0.0] * heads + [0.5] * others


@NORMS
def test_steps_add_up_to_the_whole(norm_first):
    layer = make(DecoderLayer, norm_first)
    x, memory = torch.randn(B, T, D).double(), torch.randn(B, S, D).double()
    mask = padding_mask(SOURCE)
    state = layer.start(memory)
    assert state.past.shape == (2, B, H, 0, D // H)
    assert state.memory.shape == (2, B, H, S, D // H)
    steps = [layer.step(x[:, t : t + 1], state, mask) for t in range(T)]
    assert_close(torch.cat(steps, dim=1), layer(x, memory, mask))
    assert state.past.shape == (2, B, H, T, D // H)


def test_beginnings_of_a_translation_share_their_source():
    layer = make(DecoderLayer)
    x, memory = (
        torch.randn(B * 3, T, D).double(),
        torch.randn(B, S, D).double(),
    )
    mask = padding_mask(SOURCE)
    state = layer.start(memory)
    state.past = state.past.repeat_interleave(3, 1)
    steps = [layer.step(x[:, t : t + 1], state, mask) for t in range(T)]
    expected = layer(
        x, memory.repeat_interleave(3, 0), mask.repeat_interleave(3, 0)
    )
    assert_close(torch.cat(steps, dim=1), expected)
    assert state.memory.shape[1] == B


# Parity ---


@NORMS
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
def test_the_encoder_layer_agrees_with_torch(norm_first, padded):
    ours = make(EncoderLayer, norm_first)
    theirs, pairs = as_torch(ours, H, norm_first)
    x = torch.randn(B, S, D, dtype=torch.float64, requires_grad=True)
    mask, padding = hidden(SOURCE, padded)
    output = ours(x, mask)
    expected = theirs(x, src_key_padding_mask=padding)
    assert_close(output, expected)
    assert_same_gradients(output, expected, [*pairs, ([x], x)])


@NORMS
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
def test_the_decoder_layer_agrees_with_torch(norm_first, padded):
    ours = make(DecoderLayer, norm_first)
    theirs, pairs = as_torch(ours, H, norm_first)
    x, memory = (
        torch.randn(B, n, D, dtype=torch.float64, requires_grad=True)
        for n in (T, S)
    )
    memory_mask, memory_padding = hidden(SOURCE, padded)
    mask, padding = hidden(TARGET, padded)
    output = ours(x, memory, memory_mask, mask)
    expected = theirs(
        x,
        memory,
        tgt_mask=~causal_mask(T),
        tgt_key_padding_mask=padding,
        memory_key_padding_mask=memory_padding,
    )
    assert_close(output, expected)
    pairs += [([x], x), ([memory], memory)]
    assert_same_gradients(output, expected, pairs)


# Edges ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@NORMS
def test_half_precision(dtype, norm_first):
    encoder = EncoderLayer(D, H, D_FF, norm_first=norm_first)
    decoder = DecoderLayer(D, H, D_FF, norm_first=norm_first)
    x, y = torch.randn(B, S, D), torch.randn(B, T, D)
    mask = padding_mask(SOURCE)
    expected = decoder(y, encoder(x, mask), mask)
    stack = nn.ModuleList([encoder, decoder]).to(dtype)
    output = stack[1](y.to(dtype), stack[0](x.to(dtype), mask), mask)
    assert output.dtype == dtype
    assert_close(output.float(), expected, rtol=0, atol=0.06)
