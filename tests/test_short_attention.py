"""Short attention: the formula's output, and its gradient by hand."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from minitransformer.attention import scaled_dot_product_attention
from minitransformer.masks import causal_mask, padding_mask
from minitransformer.short_attention import scaled_bmm, short_attention

B, H, T, S, D_K, D_V = 2, 3, 5, 7, 11, 13
IDS = torch.tensor([[4, 5, 6, 7, 8, 9, 4], [5, 6, 7, 0, 0, 0, 0]])
MASKS = {
    "none": None,
    "padding": padding_mask(IDS),
    "queries and keys": causal_mask(S)[-T:],
    "each head": torch.arange(H * S).view(H, 1, S) % 3 != 1,
}


def draw(*shape, heads=(B, H)):
    """Draw queries, keys and values that want a gradient."""
    shapes = shape or ((T, D_K), (S, D_K), (S, D_V))
    return [
        torch.randn(*heads, *last, dtype=torch.float64, requires_grad=True)
        for last in shapes
    ]


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_is_the_formula(mask):
    inputs = draw()
    output = short_attention(*inputs, mask)
    expected, _ = scaled_dot_product_attention(*inputs, mask)
    assert_close(output, expected)
    upstream = torch.randn_like(output)
    assert_close(
        torch.autograd.grad(output, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
    )


def test_by_hand():
    q = torch.tensor([[2.0]])
    k, v = torch.tensor([[[0.0], [1.0]], [[3.0], [5.0]]])
    q.requires_grad_()
    output = short_attention(q, k, v)
    second = 1 / (1 + math.exp(-2))  # softmax([0, 2])
    assert_close(output, torch.tensor([[3 + 2 * second]]))
    output.backward()
    # The second weight grows by w (1 - w) for each unit of the query.
    assert_close(q.grad, torch.tensor([[2 * second * (1 - second)]]))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_gradient_by_finite_differences(mask):
    assert gradcheck(lambda *inputs: short_attention(*inputs, mask), draw())


@pytest.mark.parametrize("heads", [(), (H,), (B, H, 2)])
def test_any_number_of_leading_dimensions(heads):
    inputs = draw(heads=heads)
    output = short_attention(*inputs)
    assert output.shape == (*heads, T, D_V)
    assert_close(output, scaled_dot_product_attention(*inputs)[0])
    output.sum().backward()
    assert [x.grad.shape for x in inputs] == [x.shape for x in inputs]


def test_heads_need_not_be_contiguous():
    tokens = torch.randn(B, T, 3, H, D_K, requires_grad=True)
    q, k, v = tokens.transpose(1, 3).unbind(2)  # (B, H, T, D_K) each
    expected, _ = scaled_dot_product_attention(q, k, v)
    output = short_attention(q, k, v)
    assert_close(output, expected)
    upstream = torch.randn(B, T, H, D_K).transpose(1, 2)
    assert_close(
        torch.autograd.grad(output, tokens, upstream),
        torch.autograd.grad(expected, tokens, upstream),
    )


def test_a_second_derivative_is_refused():
    inputs = draw()
    (gradient,) = torch.autograd.grad(
        short_attention(*inputs).square().sum(),
        inputs[:1],
        create_graph=True,
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_autocast_changes_no_dtype_inside():
    inputs = [
        x.detach().bfloat16().requires_grad_() for x in draw()
    ]  # as autocast's projections return them
    with torch.autocast("cpu", torch.bfloat16):
        output = short_attention(*inputs, MASKS["padding"])
    assert output.dtype == torch.bfloat16
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = short_attention(*exact, MASKS["padding"])
    close = {"rtol": 0.05, "atol": 0.05, "check_dtype": False}
    assert_close(output, expected, **close)
    output.sum().backward()
    expected.sum().backward()
    for ours, theirs in zip(inputs, exact, strict=True):
        assert_close(ours.grad, theirs.grad, **close)


def test_no_keys_give_zeros():
    output = short_attention(*draw((T, D_K), (0, D_K), (0, D_V)))
    assert torch.equal(output, torch.zeros_like(output))


def test_scaled_bmm_reads_nothing_but_its_factors():
    a, b = torch.randn(3, 5, 7), torch.randn(3, 7, 2)
    assert_close(scaled_bmm(a, b, 0.25), 0.25 * (a @ b))
