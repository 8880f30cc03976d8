"""Dropout: the right rate, an exact expectation, and its own gradient."""

import pytest
import torch
from torch.testing import assert_close

from minitransformer.dropout import Dropout, dropout, relu_dropout
from minitransformer.errors import UserError

SHAPE = (7, 11, 1301)  # no multiple of the eight numbers a draw serves


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_rate_scale_and_expectation(p):
    x = torch.ones(SHAPE)
    y = dropout(x, p)
    dropped = (y == 0).float().mean()
    assert_close(dropped, torch.tensor(p), rtol=0, atol=0.008)
    values = y.unique()
    rounded = round(p * 256) / 256
    assert_close(values, torch.tensor([0.0, 1 / (1 - rounded)]))
    assert_close(y.mean(), torch.tensor(1.0), rtol=0, atol=0.05)


@pytest.mark.parametrize("p", [-0.5, 1.0, 1.5, float("nan")])
def test_impossible_chances_are_named(p):
    for use in (dropout, relu_dropout, lambda x, p: Dropout(p)(x)):
        with pytest.raises(UserError, match=f"dropping of {p} won't do"):
            use(torch.ones(3), p)


def test_coins_are_independent():
    y = dropout(torch.ones(800_000), 0.5).view(-1, 8) > 0
    # In a group of eight, the numbers that share a draw, 2^8 equal patterns.
    codes = (y.long() * 2 ** torch.arange(8)).sum(1)
    counts = torch.bincount(codes, minlength=256).float()
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert chi_square < 350  # mean 255, deviation 23


def test_the_gradient_passes_where_numbers_passed():
    x = torch.randn(SHAPE, requires_grad=True)
    y = dropout(x, 0.25)
    factor = torch.randn(SHAPE)
    (y * factor).sum().backward()
    assert_close(x.grad, factor * torch.where(y == 0, 0.0, 256 / 192))


def test_a_seed_decides_the_coins():
    x = torch.ones(SHAPE)
    torch.manual_seed(3)
    first = dropout(x, 0.3)
    second = dropout(x, 0.3)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x, 0.3))
    assert not torch.equal(first, second)


def test_the_module_drops_only_in_training():
    x = torch.randn(SHAPE)
    module = Dropout(0.5)
    assert not torch.equal(module(x), x)
    assert torch.equal(module.eval()(x), x)
    assert dropout(x, 0.0) is x


def test_a_chance_near_one_still_scales():
    y = dropout(torch.ones(SHAPE), 0.999)
    assert y.isfinite().all()
    assert_close(y.max(), torch.tensor(256.0))


def remembered(function, x):
    """Return what a function keeps for its backward pass."""
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each):
        result = function(x, 0.25)
    return kept, result


def test_dropout_remembers_a_byte_a_number():
    (coins,), _ = remembered(dropout, torch.randn(SHAPE, requires_grad=True))
    assert coins.shape == SHAPE
    assert coins.dtype == torch.uint8


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_relu_and_dropout_in_one(p):
    x = torch.randn(SHAPE, requires_grad=True)
    factor = torch.randn(SHAPE)
    found = []
    for function in (relu_dropout, lambda x, p: dropout(x.relu(), p)):
        torch.manual_seed(5)
        result = function(x, p)
        (grad,) = torch.autograd.grad((result * factor).sum(), x)
        found += [result, grad]
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
    assert p == 0 or 0.3 < (found[1] != 0).float().mean() < 0.45  # 3 in 8


def test_relu_and_dropout_remember_their_result_alone():
    x = torch.randn(SHAPE, requires_grad=True)
    kept, result = remembered(relu_dropout, x)
    assert [each.data_ptr() for each in kept] == [result.data_ptr()]
