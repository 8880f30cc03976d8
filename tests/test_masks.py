"""Masks: who may see whom, and how masks combine."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from minitransformer.attention import scaled_dot_product_attention
from minitransformer.errors import UserError
from minitransformer.masks import (
    causal_mask,
    from_additive,
    from_blocked,
    from_lengths,
    from_ones,
    padding_mask,
    to_additive,
    to_blocked,
)

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

# By hand ---


def test_position_t_sees_0_to_t():
    assert causal_mask(4).tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]


def test_padding_is_hidden_from_all_queries():
    ids = torch.tensor([[5, 0, 7], [8, 0, 0]])
    mask = padding_mask(ids)
    assert mask.shape == (2, 1, 1, 3)
    assert mask[:, 0, 0].tolist() == [
        [True, False, True],
        [True, False, False],
    ]


def test_the_padding_id_is_a_choice():
    ids = torch.tensor([[5, 0, 7]])
    assert padding_mask(ids, pad_id=7).flatten().tolist() == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("converted", "right"),
    [
        (to_blocked(causal_mask(2)), [[False, True], [False, False]]),
        (
            from_blocked(torch.tensor([[False, True], [False, False]])),
            [[True, False], [True, True]],
        ),
        (to_additive(causal_mask(2)), [[0, -math.inf], [0, 0]]),
        (
            from_additive(torch.tensor([0, -math.inf, -1e4, -1e9])),
            [True, False, False, False],
        ),
        (from_ones(torch.tensor([[1, 0], [1, 1]])), [[1, 0], [1, 1]]),
        (
            from_lengths(torch.tensor([2, 0]), 3)[:, 0, 0],
            [[True, True, False], [False] * 3],
        ),
    ],
)
def test_conversions_by_hand(converted, right):
    assert converted.tolist() == right


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_hides_a_key_in_each_dtype(dtype):
    for hidden in (-1e4, torch.finfo(dtype).min, -math.inf):
        added = torch.tensor([0.0, hidden], dtype=dtype)
        assert from_additive(added).tolist() == [True, False]


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int64, torch.float32]
)
def test_ones_of_any_dtype(dtype):
    mask = causal_mask(3)
    assert torch.equal(from_ones(mask.to(dtype)), mask)


# Properties ---


@settings(max_examples=20, deadline=None)
@given(shape=st.lists(st.integers(0, 4), max_size=3), seed=st.integers(0, 99))
def test_there_and_back_is_where_one_was(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < 0.5
    assert torch.equal(from_blocked(to_blocked(mask)), mask)
    assert torch.equal(from_ones(mask.long()), mask)
    for dtype in FLOATS:
        added = to_additive(mask, dtype)
        assert added.dtype == dtype
        assert torch.equal(from_additive(added), mask)


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(0, 9), max_size=4))
def test_lengths_hide_what_padding_hides(lengths):
    size = max(lengths, default=0)
    lengths = torch.tensor(lengths, dtype=torch.long)
    ids = (torch.arange(size) < lengths[:, None]).long()
    assert torch.equal(from_lengths(lengths), padding_mask(ids))


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_masks_combine_and_never_empty_a_row(lengths):
    size = max(lengths)
    position = torch.arange(size)
    ids = (position < torch.tensor(lengths)[:, None]).long()
    mask = padding_mask(ids) & causal_mask(size)
    assert mask.dtype == torch.bool
    assert mask.shape == (len(lengths), 1, size, size)
    assert mask.any(-1).all()
    expected = [
        [[s <= t and s < n for s in range(size)] for t in range(size)]
        for n in lengths
    ]
    assert mask[:, 0].tolist() == expected


# Parity: whoever uses a convention hides the same keys ---


@pytest.fixture
def attended():
    """Return queries, a mask that leaves each a key, and torch's module."""
    x = torch.randn(3, 5, 4)
    lengths = torch.tensor([5, 2, 3])
    return x, lengths, nn.MultiheadAttention(4, 1, batch_first=True)


def test_torch_hides_what_is_blocked(attended):
    x, lengths, attention = attended
    padding = from_lengths(lengths)
    both = (padding & causal_mask(5))[:, 0]
    options = {"key_padding_mask": to_blocked(padding[:, 0, 0])}
    for causal in (to_blocked(causal_mask(5)), to_additive(causal_mask(5))):
        if causal.is_floating_point():  # torch wants both to be alike
            options = {"key_padding_mask": to_additive(padding[:, 0, 0])}
        _, weights = attention(x, x, x, attn_mask=causal, **options)
        assert torch.equal(weights > 0, both)


def test_torch_and_we_agree_with_a_mask_of_either_kind(attended):
    x, lengths, _ = attended
    mask = from_lengths(lengths)[:, 0]
    ours, _ = scaled_dot_product_attention(x, x, x, mask)
    for each in (mask, to_additive(mask)):
        assert_close(F.scaled_dot_product_attention(x, x, x, each), ours)


def test_torch_makes_the_same_causal_mask():
    theirs = nn.Transformer.generate_square_subsequent_mask(4)
    assert torch.equal(from_additive(theirs), causal_mask(4))
    assert torch.equal(theirs, to_additive(causal_mask(4)))


# Edges ---


@pytest.mark.parametrize("convert", [to_blocked, from_blocked, to_additive])
def test_numbers_are_not_taken_for_truth(convert):
    with pytest.raises(UserError, match="from_ones"):
        convert(torch.ones(2, 2))


@pytest.mark.parametrize("bias", [-0.5, -2.0, -100.0, 3.0])
def test_a_bias_is_no_mask(bias):
    with pytest.raises(UserError, match=f"^{bias:g} neither"):
        from_additive(torch.tensor([0.0, bias, -math.inf]))


def test_what_is_no_mask_is_refused():
    with pytest.raises(UserError, match="from_additive"):
        from_ones(torch.tensor([0.0, -math.inf]))
    with pytest.raises(UserError, match=r"\(2, 1\)"):
        from_lengths(torch.tensor([[1], [2]]))
    with pytest.raises(UserError, match="4 tokens"):
        from_lengths(torch.tensor([4, 2]), size=3)


def test_a_converted_mask_stays_where_it_was():
    mask = causal_mask(3, torch.device("meta"))
    assert to_additive(mask).device.type == "meta"
    assert to_blocked(mask).device.type == "meta"


@pytest.mark.parametrize("size", [0, 1])
def test_the_smallest_masks(size):
    assert torch.equal(causal_mask(size), torch.ones(size, size).bool())


def test_a_mask_is_made_where_it_is_asked_for():
    assert causal_mask(3, torch.device("meta")).device.type == "meta"
    assert causal_mask(3).device.type == "cpu"
