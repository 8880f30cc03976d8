"""The loss: by hand, as torch has it, and lean equal to plain."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from minitransformer import loss as module
from minitransformer.loss import output_loss, smoothed_cross_entropy

N, D, V = 23, 5, 11


@pytest.fixture
def parts():
    hidden = torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(V, D, dtype=torch.float64, requires_grad=True)
    return hidden, weight, torch.randint(0, V, (N,))


# By hand ---


def test_two_words_and_a_smoothing_of_a_fifth():
    logits = torch.tensor([[math.log(3.0), 0.0]])  # chances 3/4 and 1/4
    plain = smoothed_cross_entropy(logits, torch.tensor([0]))
    assert_close(plain, -torch.tensor(0.75).log())
    smooth = smoothed_cross_entropy(logits, torch.tensor([0]), 0.2)
    by_hand = -0.9 * math.log(0.75) - 0.1 * math.log(0.25)
    assert_close(smooth, torch.tensor(by_hand))


def test_a_uniform_model_pays_log_v_a_label():
    labels = torch.tensor([3, 0, 6])
    for smoothing in (0.0, 0.1):
        cost = smoothed_cross_entropy(torch.ones(3, V), labels, smoothing)
        assert_close(cost, torch.tensor(3 * math.log(V)))


# Parity ---


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.35])
def test_agrees_with_torch(parts, smoothing):
    hidden, weight, labels = parts
    logits = hidden @ weight.T
    assert_close(
        smoothed_cross_entropy(logits, labels, smoothing),
        F.cross_entropy(
            logits, labels, label_smoothing=smoothing, reduction="sum"
        ),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.35])
@pytest.mark.parametrize("chunk", [1, 7, 23, 100])
def test_lean_equals_plain_forward_and_gradient(
    parts, smoothing, chunk, monkeypatch
):
    monkeypatch.setattr(module, "CHUNK", chunk)
    hidden, weight, labels = parts
    plain = smoothed_cross_entropy(hidden @ weight.T, labels, smoothing)
    lean = output_loss(hidden, weight, labels, smoothing)
    assert_close(lean, plain)
    # Weighted, so that a gradient that ignores what follows is caught.
    wanted = torch.autograd.grad(3.7 * plain, (hidden, weight))
    assert_close(torch.autograd.grad(3.7 * lean, (hidden, weight)), wanted)


def test_without_gradients_it_is_the_plain_loss(parts):
    hidden, weight, labels = parts
    with torch.no_grad():
        assert_close(
            output_loss(hidden, weight, labels, 0.1).double(),
            smoothed_cross_entropy(hidden @ weight.T, labels, 0.1),
            rtol=1e-6,
            atol=1e-5,
        )


# Edges ---


def test_without_gradients_the_logits_come_in_chunks(parts, monkeypatch):
    hidden, weight, labels = parts
    seen = []

    def spy(logits, *arguments):
        seen.append(len(logits))
        return smoothed_cross_entropy(logits, *arguments)

    monkeypatch.setattr(module, "CHUNK", 9)
    monkeypatch.setattr(module, "smoothed_cross_entropy", spy)
    with torch.no_grad():
        output_loss(hidden, weight, labels)
        assert output_loss(hidden[:0], weight, labels[:0]) == 0
    assert seen == [9, 9, 5]


def test_certain_and_impossible_labels_stay_finite():
    hidden = torch.tensor([[300.0], [-300.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    cost = output_loss(hidden, weight, torch.tensor([0, 0]))
    cost.backward()
    assert_close(cost.detach(), torch.tensor(600.0))
    assert hidden.grad.isfinite().all()
    assert weight.grad.isfinite().all()


def test_autocast_computes_in_bfloat16_and_returns_single_gradients(parts):
    hidden, weight, labels = (
        part.detach().float() if part.is_floating_point() else part
        for part in parts
    )
    hidden.requires_grad_()
    weight.requires_grad_()
    exact = output_loss(hidden, weight, labels, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        rough = output_loss(hidden, weight, labels, 0.1)
    assert rough.dtype == torch.float32
    assert float(rough.detach()) != float(exact.detach())
    assert_close(rough, exact, rtol=0.02, atol=0)
    grads = torch.autograd.grad(rough, (hidden, weight))
    assert [grad.dtype for grad in grads] == [torch.float32] * 2
    for grad, wanted in zip(
        grads, torch.autograd.grad(exact, (hidden, weight)), strict=True
    ):
        assert 0 < (grad - wanted).norm() / wanted.norm() < 0.03
