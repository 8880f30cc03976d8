"""Recording: every map, and not one number of the model changed."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from minitransformer.attention import (
    MultiHeadAttention,
    scaled_dot_product_attention,
)
from minitransformer.masks import causal_mask, padding_mask
from minitransformer.recording import recorded_attention

B, H, S, T = 2, 3, 7, 5
SOURCE = torch.tensor([[5, 8, 4, 2, 0, 0, 0], [9, 22, 7, 6, 5, 11, 2]])
TARGET = torch.tensor([[1, 6, 28, 9, 7], [1, 4, 12, 13, 8]])
NAMES = [
    "encoder.0.self_attention",
    "encoder.1.self_attention",
    "decoder.0.self_attention",
    "decoder.0.cross_attention",
    "decoder.1.self_attention",
    "decoder.1.cross_attention",
]


def watchers(model):
    """Name the layers that somebody watches."""
    return [
        name
        for name, module in model.named_modules()
        if "attend" in vars(module)
    ]


# By hand ---


def test_the_weights_are_those_of_the_formula():
    attention = MultiHeadAttention(12, H)
    query, key = torch.randn(B, T, 12), torch.randn(B, S, 12)
    mask = padding_mask(SOURCE)
    with recorded_attention(nn.ModuleDict({"mine": attention})) as maps:
        attention(query, key, key, mask)
    q = attention.split_heads(attention.w_q(query))
    k = attention.split_heads(attention.w_k(key))
    _, weights = scaled_dot_product_attention(q, k, k, mask)
    assert list(maps) == ["mine"]
    assert_close(maps["mine"], weights)


# Properties ---


def test_every_layer_is_recorded_by_name(make_model):
    model = make_model()
    with recorded_attention(model) as maps:
        assert maps == {}
        model(SOURCE, TARGET)
    assert list(maps) == NAMES
    for name, weights in maps.items():
        rows = S if name.startswith("encoder") else T
        columns = T if name.startswith("decoder") and "self" in name else S
        assert weights.shape == (B, H, rows, columns)
        assert_close(weights.sum(-1), torch.ones(B, H, rows))
        assert not weights.requires_grad
    hidden = SOURCE == 0
    for name in (NAMES[1], NAMES[5]):
        assert (maps[name].transpose(1, 3)[hidden] == 0).all()
    assert (maps[NAMES[4]][..., ~causal_mask(T)] == 0).all()
    assert (maps[NAMES[4]][..., causal_mask(T)] > 0).all()


@pytest.mark.parametrize("length", [T, 67], ids=["readable", "fused"])
def test_watching_changes_no_number(make_model, length):
    model = make_model(dropout=0.3, max_len=67).train()
    source = torch.randint(4, 23, (B, length))
    torch.manual_seed(5)
    expected = model(source, source)
    torch.manual_seed(5)
    with recorded_attention(model) as maps:
        output = model(source, source)
    assert torch.equal(output, expected)
    output.sum().backward()
    assert model.encoder[0].self_attention.w_q.weight.grad is not None
    model.eval()
    with recorded_attention(model) as undropped:
        model(source, source)
    # Before dropout: the rows sum to one, in training too.
    for found in (maps, undropped):
        assert_close(found[NAMES[0]].sum(-1), torch.ones(B, H, length))


def test_the_last_call_is_kept(make_model):
    model = make_model()
    with torch.no_grad(), recorded_attention(model) as maps:
        model(SOURCE, TARGET)
        before = maps[NAMES[5]]
        model(SOURCE[:1], TARGET[:1, :3])
    assert maps[NAMES[5]].shape == (1, H, 3, S)
    assert_close(maps[NAMES[5]], before[:1, :, :3])


def test_steps_are_recorded_too(make_model):
    model = make_model()
    with torch.no_grad(), recorded_attention(model) as whole:
        model(SOURCE, TARGET)
    with torch.no_grad(), recorded_attention(model) as maps:
        state = model.start(SOURCE)
        for t in range(T):
            model.step(TARGET[:, t], state)
            for name in NAMES[2:]:
                columns = t + 1 if "self" in name else S
                expected = whole[name][:, :, t : t + 1, :columns]
                assert_close(maps[name], expected)


def test_recordings_may_be_nested(make_model):
    model = make_model()
    with recorded_attention(model) as outer:
        model(SOURCE, TARGET)
        first = outer[NAMES[5]]
        with recorded_attention(model.decoder) as inner:
            model(SOURCE.flip(0), TARGET.flip(0))
        assert list(inner) == [n.partition(".")[2] for n in NAMES[2:]]
        assert torch.equal(inner["1.cross_attention"], outer[NAMES[5]])
        assert_close(outer[NAMES[5]], first.flip(0))
        seen = inner["1.cross_attention"]
        model(SOURCE, TARGET)
        assert inner["1.cross_attention"] is seen  # its block is over
        assert torch.equal(outer[NAMES[5]], first)
        assert watchers(model) == NAMES
    assert watchers(model) == []


def test_an_error_in_the_block_leaves_no_watcher(make_model):
    model = make_model()
    with pytest.raises(ZeroDivisionError), recorded_attention(model):
        raise ZeroDivisionError
    assert watchers(model) == []
    expected = model(SOURCE, TARGET)
    with recorded_attention(model) as maps:
        pass
    assert torch.equal(model(SOURCE, TARGET), expected)
    assert maps == {}


def test_an_attend_of_your_own_is_used_and_put_back(make_model):
    model = make_model()
    attention = model.decoder[0].self_attention
    calls = []

    def mine(q, k, v, mask, causal):
        calls.append(causal)
        return torch.zeros_like(q)

    attention.attend = mine
    expected = model(SOURCE, TARGET)
    with recorded_attention(model) as maps:
        assert torch.equal(model(SOURCE, TARGET), expected)
    assert attention.attend is mine
    assert calls == [True, True]
    assert "decoder.0.self_attention" in maps
    assert watchers(model) == ["decoder.0.self_attention"]


# Edges ---


def test_a_query_without_keys_is_a_row_of_zeros(make_model):
    with recorded_attention(model := make_model()) as maps:
        model(0 * SOURCE, TARGET)
    assert (maps[NAMES[0]] == 0).all()
    assert (maps[NAMES[3]] == 0).all()


def test_a_model_without_attention_has_no_maps():
    with recorded_attention(nn.Linear(2, 3)) as maps:
        pass
    assert maps == {}


def test_a_single_layer_has_the_empty_name():
    attention, x = MultiHeadAttention(4, 2), torch.randn(B, T, 4)
    with recorded_attention(attention) as maps:
        attention(x, x, x)
    assert list(maps) == [""]
