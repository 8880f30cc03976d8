"""Counts against formulas, for both ways to attend."""

import pytest
import torch
from torch import nn

from minitransformer.attention import (
    MultiHeadAttention,
    scaled_dot_product_attention,
)
from minitransformer.counting import count_parameters, matmul_flops


def test_shared_and_frozen_numbers_count_as_they_are_learnt():
    first, second = nn.Linear(3, 5), nn.Linear(3, 5)
    second.weight = first.weight
    both = nn.ModuleList([first, second])
    assert count_parameters(both) == 3 * 5 + 5 + 5
    first.bias.requires_grad_(False)
    assert count_parameters(both) == 3 * 5 + 5


def test_attention_by_the_formula():
    query, key = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 11, 7)
    value = torch.randn(2, 3, 11, 13)
    scores, mixing = 2 * 6 * 5 * 11 * 7, 2 * 6 * 5 * 11 * 13
    count = matmul_flops(scaled_dot_product_attention, query, key, value)
    assert count == scores + mixing


@pytest.mark.parametrize("length", [5, 80])  # by hand, and fused
def test_both_ways_to_attend_count_as_the_formula_says(length):
    attention = MultiHeadAttention(12, 3).eval()
    x = torch.randn(2, length, 12)
    projections, products = 4 * 2 * length * 12 * 12, 2 * 2 * length**2 * 12
    count = matmul_flops(attention, x, x, x)
    assert count == 2 * (projections + products)


def test_no_gradient_is_kept():
    seen = []
    layer = nn.Linear(3, 5)
    matmul_flops(lambda x: seen.append(layer(x)), torch.ones(2, 3))
    assert not seen[0].requires_grad
