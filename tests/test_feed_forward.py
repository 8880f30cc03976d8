"""The feed-forward layer: token by token, and bent in between."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from minitransformer.feed_forward import FeedForward

B, T, D, D_FF = 2, 5, 7, 11

# By hand ---


def test_two_numbers_through_three():
    layer = FeedForward(2, 3)
    layer.linear1.weight.data = torch.tensor([[1.0, 2], [3, -1], [-1, 0]])
    layer.linear1.bias.data = torch.tensor([0.0, 0, 1])
    layer.linear2.weight.data = torch.tensor([[1.0, 0, 1], [2, 5, 0]])
    layer.linear2.bias.data = torch.tensor([10.0, 20])
    # Inside (5, 1, 0) and (-1, -3, 2); after the bend (5, 1, 0), (0, 0, 2).
    x = torch.tensor([[1.0, 2.0], [-1.0, 0.0]])
    assert layer(x).tolist() == [[15, 35], [12, 20]]


# Properties ---


def test_positions_never_mix():
    layer = FeedForward(D, D_FF)
    x = torch.randn(B, T, D)
    order = torch.randperm(T)
    assert_close(layer(x[:, order]), layer(x)[:, order])
    alone = torch.stack([layer(x[:, t]) for t in range(T)], dim=1)
    assert_close(alone, layer(x))


def test_dropout_falls_inside_and_in_training():
    layer = FeedForward(D, D, dropout=0.5)
    for linear in (layer.linear1, layer.linear2):
        nn.init.eye_(linear.weight)
        nn.init.zeros_(linear.bias)
    x = torch.randn(16, T, D)
    nn.init.ones_(layer.linear2.bias)  # added after the dropout
    inner = layer(x) - 1
    dropped = inner == 0
    assert 0.65 < dropped.float().mean() < 0.85  # half of them are negative
    assert_close(inner, torch.where(dropped, 0.0, 2 * x.relu()))
    assert_close(layer.eval()(x), x.relu() + 1)


# Parity ---


def test_agrees_with_torch():
    layer = FeedForward(D, D_FF)
    theirs = nn.Sequential(nn.Linear(D, D_FF), nn.ReLU(), nn.Linear(D_FF, D))
    theirs[0].load_state_dict(layer.linear1.state_dict())
    theirs[2].load_state_dict(layer.linear2.state_dict())
    x = torch.randn(B, T, D, requires_grad=True)
    output, expected = layer(x), theirs(x)
    assert_close(output, expected)
    factor = torch.randn(B, T, D)
    gradients, wanted = (
        torch.autograd.grad((y * factor).sum(), [x, *module.parameters()])
        for y, module in ((output, layer), (expected, theirs))
    )
    assert_close(gradients, wanted)


# Edges ---


def test_one_hidden_unit_is_enough():
    layer = FeedForward(D, 1)
    assert layer(torch.randn(D)).shape == (D,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    layer = FeedForward(D, D_FF)
    x = torch.randn(B, T, D)
    expected = F.linear(layer.linear1(x).relu(), *layer.linear2.parameters())
    output = layer.to(dtype)(x.to(dtype))
    assert output.dtype == dtype
    assert_close(output.float(), expected, rtol=0, atol=0.03)


def test_its_dropout_decides_by_its_own_mode():
    layer = FeedForward(3, 11, dropout=0.5).eval()
    x = torch.randn(2, 5, 3)
    assert torch.equal(layer(x), layer(x))
    layer.dropout.train()  # as one does to sample from a trained model
    assert not torch.equal(layer(x), layer(x))
