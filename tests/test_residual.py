"""Add & Norm: the normalisation, and where it stands."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from minitransformer.residual import AddNorm, LayerNorm, layer_norm

B, T, D = 2, 5, 7

# By hand ---


def test_two_numbers_become_minus_one_and_one():
    x = torch.tensor([[1.0, 3.0], [-5.0, 5.0]])
    y = layer_norm(x, torch.ones(2), torch.zeros(2), eps=0.0)
    assert y.tolist() == [[-1, 1], [-1, 1]]
    y = layer_norm(
        x, torch.tensor([2.0, 3.0]), torch.tensor([10.0, 20.0]), 0.0
    )
    assert y.tolist() == [[8, 23], [8, 23]]


def test_the_variance_is_biased_and_eps_is_under_the_root():
    x = torch.tensor([1.0, 3.0, 8.0])  # mean 4, variance (9 + 1 + 16) / 3
    y = layer_norm(x, torch.ones(3), torch.zeros(3), eps=1 / 3)
    assert_close(y, torch.tensor([-3.0, -1.0, 4.0]) / 3)


# Properties ---


@settings(max_examples=25, deadline=None)
@given(
    shift=st.floats(-10, 10),
    scale=st.floats(0.1, 10),
    seed=st.integers(0, 2**32),
)
def test_each_token_has_mean_0_and_variance_1_whatever_came_in(
    shift, scale, seed
):
    x = torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))
    x = x.double()
    norm = LayerNorm(D, eps=1e-12).double()
    y = norm(scale * x + shift)
    assert_close(y.mean(-1), torch.zeros(B, T).double())
    assert_close(y.var(-1, correction=0), torch.ones(B, T).double())
    assert_close(y, norm(x))


def test_tokens_do_not_mix():
    norm = LayerNorm(D)
    x = torch.randn(B, T, D)
    changed = x.clone()
    changed[:, 2] = torch.randn(B, D)
    others = torch.arange(T) != 2
    assert torch.equal(norm(x)[:, others], norm(changed)[:, others])


def double_it(x):
    return 2 * x + 1


def test_post_norm_normalises_the_sum():
    add_norm = AddNorm(D)
    x = torch.randn(B, T, D)
    assert_close(add_norm(x, double_it), add_norm.norm(x + double_it(x)))


def test_pre_norm_normalises_what_the_sublayer_reads():
    add_norm = AddNorm(D, norm_first=True)
    nn.init.normal_(add_norm.norm.weight)
    x = torch.randn(B, T, D)
    assert_close(add_norm(x, double_it), x + double_it(add_norm.norm(x)))


@pytest.mark.parametrize("norm_first", [False, True])
def test_dropout_falls_on_the_sublayer_alone_and_in_training(norm_first):
    add_norm = AddNorm(D, dropout=0.5, norm_first=norm_first)
    add_norm.norm = nn.Identity()
    x = torch.randn(16, T, D)
    added = add_norm(x, double_it) - x
    dropped = added == 0
    assert 0.3 < dropped.float().mean() < 0.7
    expected = torch.where(dropped, 0.0, 2 * double_it(x))
    assert_close(added, expected, rtol=1e-4, atol=1e-5)
    assert_close(add_norm.eval()(x, double_it), x + double_it(x))


# Parity ---


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_agrees_with_torch(eps):
    ours, theirs = LayerNorm(D, eps), nn.LayerNorm(D, eps)
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(B, T, D, requires_grad=True)
    factor = torch.randn(B, T, D)

    def with_gradients(y, module):
        loss = (y * factor).sum()
        inputs = [x, module.weight, module.bias]
        return y, torch.autograd.grad(loss, inputs)

    expected = with_gradients(theirs(x), theirs)
    assert_close(with_gradients(ours(x), ours), expected)
    readable = layer_norm(x, ours.weight, ours.bias, eps)
    assert_close(with_gradients(readable, ours), expected)


def test_the_default_eps_is_torchs():
    x = 1e-3 * torch.randn(B, T, D)
    expected = nn.LayerNorm(D)(x)
    assert_close(LayerNorm(D)(x), expected)
    assert_close(layer_norm(x, torch.ones(D), torch.zeros(D)), expected)


# Edges ---


def test_a_constant_token_stays_finite():
    x = torch.full((1, D), 3.0, requires_grad=True)
    for norm in (LayerNorm(D), lambda x: layer_norm(x, torch.ones(D), x[0])):
        y = norm(x)
        y.sum().backward()
        assert y.isfinite().all()
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    x = torch.randn(B, T, D)
    add_norm = AddNorm(D)
    expected = add_norm(x, double_it)
    output = add_norm.to(dtype)(x.to(dtype), double_it)
    assert output.dtype == dtype
    assert_close(output.float(), expected, rtol=0, atol=0.03)
    ones, zeros = torch.ones(D, dtype=dtype), torch.zeros(D, dtype=dtype)
    assert layer_norm(x.to(dtype), ones, zeros).dtype == dtype
