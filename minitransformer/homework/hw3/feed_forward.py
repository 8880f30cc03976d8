"""Assignment 3, the feed-forward net."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    must_learn,
    numbers,
)
from minitransformer.homework.hw3.tasks import (
    a_size,
    feed_forward,
    parameters,
)
from minitransformer.homework.tasks import LEARNS

UNITS = "By hand: two units"


def _a_net(answer: Any) -> tuple[Any, int, int]:
    """Make the learner's net, with sizes ``D`` and ``d_ff``."""
    D, d_ff = a_size(3, 5), a_size(11, 17)
    return call(answer, D, d_ff), D, d_ff


@feed_forward.test("two linear layers, there and back", 8, "In the library")
def check_linears(answer: Any) -> None:
    """Call a fresh net, and look at what it keeps."""
    for _ in range(2):
        net, D, d_ff = _a_net(answer)
        x = torch.randn(2, 6, D)
        numbers(call(net, x), x.shape)
        sizes = {
            "linear1.weight": (d_ff, D),
            "linear1.bias": (d_ff,),
            "linear2.weight": (D, d_ff),
            "linear2.bias": (D,),
        }
        parameters(net, sizes)


@feed_forward.test("the same twice, in training too", 8, "In the library")
def check_no_dropout(answer: Any) -> None:
    """Call a net that is in training mode two times."""
    net, D, _ = _a_net(answer)
    call(net.train)
    x = torch.randn(4, 20, D)
    once = numbers(call(net, x), x.shape)
    if not is_near(numbers(call(net, x), x.shape), once):
        raise Wrong(
            "in training mode two calls with the same x differ: there is"
            " dropout inside the net. Ours stands outside, in Add & Norm."
        )


@feed_forward.test("each token by itself", 8, "With loops, and with matrices")
def check_positions(answer: Any) -> None:
    """Change one token, and look at the others; move them all."""
    for _ in range(2):
        net, D, _ = _a_net(answer)
        call(net.eval)
        x = torch.randn(2, 6, D)
        other = x.clone()
        b, t = a_size(0, 1), a_size(1, 4)
        other[b, t] += 3
        before = numbers(call(net, x), x.shape)
        moved = (numbers(call(net, other), x.shape) - before).abs().amax(-1)
        moved[b, t] = 0
        if moved[1 - b].max() > 1e-5:
            raise Wrong(
                "a token of one sentence was changed, and outputs of the other"
                " sentence changed. Positions do not meet in this net."
            )
        if moved.max() > 1e-5:
            raise Wrong(
                f"token {t} was changed, and the output at position"
                f" {int(moved[b].argmax())} changed. Positions do not meet in"
                " this net."
            )
        turned = numbers(call(net, x.flip(1)), x.shape).flip(1)
        if not is_near(turned, before):
            raise Wrong(
                "the same token gets another output at another position. One"
                " net serves all positions, with the same weights."
            )


@feed_forward.test("a ReLU stands between the layers", 8, UNITS)
def check_relu(answer: Any) -> None:
    """Load random weights, and compare everything."""
    for front in ((2, 6), (5,), (2, 3, 4)):
        net, D, d_ff = _a_net(answer)
        x = torch.randn(*front, D)
        w1, b1 = torch.randn(d_ff, D), torch.randn(d_ff)
        w2, b2 = torch.randn(D, d_ff), torch.randn(D)
        names = "linear1.weight", "linear1.bias", "linear2.weight"
        call(
            net.load_state_dict,
            dict(zip((*names, "linear2.bias"), (w1, b1, w2, b2), strict=True)),
        )
        call(net.eval)
        found = numbers(call(net, x), x.shape)
        inner = F.linear(x, w1, b1)
        right = F.linear(inner.relu(), w2, b2)
        if not is_near(found, right, 1e-3):
            _explain_relu(found, x, inner, (w1, b1, w2, b2))


def _explain_relu(
    found: Tensor, x: Tensor, inner: Tensor, weights: tuple[Tensor, ...]
) -> None:
    """Raise `Wrong` with what stands between the layers, or where."""
    w1, b1, w2, b2 = weights

    def second(units: Tensor) -> Tensor:
        return F.linear(units, w2, b2)

    other = (
        "a {} stands between the layers; the paper and this task take ReLU."
    )
    explain(
        found,
        [
            (
                second(inner),
                "nothing bends: two linear layers without a ReLU between them"
                " are one matrix.",
            ),
            (
                second(inner).relu(),
                "the ReLU comes after the second layer. Between the two"
                " nothing bends, and no output is below 0.",
            ),
            (
                second(inner.relu()).relu(),
                "there is a second ReLU, on the output: the net could add to"
                " a token, and never take away.",
            ),
            (
                second(F.linear(x.relu(), w1, b1)),
                "the ReLU comes before the first layer. It bends the units,"
                " which the first layer makes.",
            ),
            (x + second(inner.relu()), "x is added. That is Add & Norm's."),
            (second((-inner).relu()), "the ReLU keeps what is below 0."),
            (second(inner.abs()), other.format("absolute value")),
            (second(F.gelu(inner)), other.format("GELU")),
            (second(F.gelu(inner, approximate="tanh")), other.format("GELU")),
            (second(F.silu(inner)), other.format("SiLU")),
            (second(F.leaky_relu(inner)), other.format("leaky ReLU")),
            (second(inner.tanh()), other.format("tanh")),
            (second(inner.sigmoid()), other.format("sigmoid")),
            (second(inner.softmax(-1)), other.format("softmax")),
        ],
        f"for x of {tuple(x.shape)} the numbers differ from relu(x W1 + b1) W2"
        " + b2, with the weights that were loaded into your layers.",
        1e-3,
    )


@feed_forward.test(*LEARNS)
def check_gradient(answer: Any) -> None:
    """Look where the gradient of its output ends."""
    net, D, _ = _a_net(answer)
    must_learn(net, torch.randn(2, 6, D))
