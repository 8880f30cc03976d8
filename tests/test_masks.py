"""Masks: who may see whom, and how masks combine."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer.masks import causal_mask, padding_mask

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


# Properties ---


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


# Edges ---


@pytest.mark.parametrize("size", [0, 1])
def test_the_smallest_masks(size):
    assert torch.equal(causal_mask(size), torch.ones(size, size).bool())


def test_a_mask_is_made_where_it_is_asked_for():
    assert causal_mask(3, torch.device("meta")).device.type == "meta"
    assert causal_mask(3).device.type == "cpu"
