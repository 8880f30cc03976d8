"""Assignment 3, stretch goals: rotary positions and RMSNorm."""

from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    must_learn,
    numbers,
)
from minitransformer.homework.hw3.inputs import (
    CLOCKS,
    NEAR,
    angles,
    in_turns,
)
from minitransformer.homework.hw3.norm import (
    normal,
    tokens,
)
from minitransformer.homework.hw3.tasks import (
    LOST,
    a_chance,
    a_size,
    hinted,
    parameters,
    rms_norm,
    rotary,
    row,
)
from minitransformer.homework.tasks import LEARNS

TURN = "A step is a rotation"
DISTANCE = "And with any matrices in between?"


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Turn neighbouring features, ``angle`` ``(T, d_k / 2)``."""
    a, b = x.double()[..., 0::2], x.double()[..., 1::2]
    cos, sin = angle.cos(), angle.sin()
    both = [a * cos - b * sin, a * sin + b * cos]
    return torch.stack(both, dim=-1).flatten(-2)


def _queries(heads: int = 0) -> Tensor:
    """Draw queries ``(T, d_k)``, or ``(B, H, T, d_k)``."""
    front = (2, heads) if heads else ()
    return torch.randn(*front, a_size(6, 12), 2 * a_size(3, 6))


@rotary.test("position 0 is not turned", 6, TURN)
def check_start(answer: Any) -> None:
    """Look at the first token of a sentence, or of each head."""
    for heads in (0, 3):
        x = _queries(heads)
        found = numbers(call(answer, x), x.shape)[..., 0, :]
        first = x[..., 0, :].double()
        if not is_near(found, first, NEAR):
            _explain_start(found, x)


def _explain_start(found: Tensor, x: Tensor) -> None:
    """Raise `Wrong` with what happened to the first token."""
    T, d_k = x.shape[-2:]
    first = x[..., 0, :].double()
    encoding = in_turns(angles(2, d_k))
    mistakes = [
        (
            first + encoding[0],
            "the encodings are added. Nothing is added here: each pair of"
            " features is turned.",
        ),
        (
            first * encoding[0],
            "features are multiplied by the encoding. To turn a pair, each of"
            " its two numbers needs both.",
        ),
    ]
    for way in (1, -1):
        later = way * angles(T + 1, d_k)[1:]
        mistakes.append(
            (
                turned(x, later)[..., 0, :],
                "the token at position 0 is turned by the angles of position"
                " 1. Positions count from 0.",
            )
        )
        if x.ndim > 2:
            by_head = way * angles(x.shape[1], d_k)
            mistakes.append(
                (
                    turned(x.transpose(1, 2), by_head)[:, 0],
                    "the heads are counted, not the positions, which are the"
                    " last dimension but one.",
                )
            )
    gap = (found - first).abs().amax(-1).flatten()
    worst = int(gap.argmax())
    explain(
        found,
        mistakes,
        "at position 0 every angle is 0, so the first token stays as it is:"
        f" {row(first.reshape(-1, d_k)[worst])} becomes"
        f" {row(found.reshape(-1, d_k)[worst])}.",
        NEAR,
    )


@rotary.test("a turn keeps lengths", 6, TURN)
def check_lengths(answer: Any) -> None:
    """Compare lengths before and after."""
    for heads in (0, 3):
        x = _queries(heads)
        found = numbers(call(answer, x), x.shape)
        if not is_near(found.norm(dim=-1), x.norm(dim=-1), NEAR):
            raise Wrong(
                f"the token at position 1 had the length"
                f" {x[..., 1, :].norm(dim=-1).flatten()[0]:.3f}, and has"
                f" {found[..., 1, :].norm(dim=-1).flatten()[0]:.3f}. A"
                " rotation keeps lengths: is a minus missing?"
            )


@rotary.test("scores depend on the distance alone", 6, DISTANCE)
def check_distance(answer: Any) -> None:
    """Place one query and one key everywhere, and compare scores."""
    for _ in range(2):
        T, d_k = a_size(8, 12), 2 * a_size(3, 6)
        q, k = torch.randn(2, 1, d_k)
        queries = numbers(call(answer, q.repeat(T, 1)), (T, d_k))
        keys = numbers(call(answer, k.repeat(T, 1)), (T, d_k))
        scores = queries @ keys.T
        if scores.std() < 1e-3 * scores.abs().max():
            raise Wrong(
                "a query and a key have the same score wherever they stand:"
                " all tokens are turned alike, or not at all. The positions"
                " are the last dimension but one."
            )
        lines = [scores.diagonal(n) for n in range(1 - T, T)]
        if any(
            not is_near(line, line[:1].expand_as(line), 1e-2) for line in lines
        ):
            raise Wrong(
                "the same query and key, at the same distance, have different"
                f" scores: {scores[1, 0]:.3f} at positions 1 and 0, and"
                f" {scores[4, 3]:.3f} at 4 and 3. Turn by an angle that is a"
                " number times the position."
            )


@rotary.test("each pair has the speed of its hand", 6, CLOCKS)
def check_speeds(answer: Any) -> None:
    """Compare everything; either sense of rotation will do."""
    for heads in (0, 3):
        x = _queries(heads)
        found = numbers(call(answer, x), x.shape)
        T, d_k = x.shape[-2:]
        if any(
            is_near(found, turned(x, way * angles(T, d_k)), NEAR)
            for way in (1, -1)
        ):
            continue
        half = d_k // 2
        order = torch.arange(d_k).view(2, half).T.flatten()
        back = order.argsort()
        place = torch.arange(T)[:, None]
        mistakes = []
        for way in (1, -1):
            fast = turned(x, way * angles(T, d_k, -2.0))
            if is_near(found[..., :3, 2:4], fast[..., :3, 2:4], NEAR):
                raise Wrong(
                    "the pairs turn faster and faster: the speed is 1 divided"
                    " by the power of 10,000."
                )
            mistakes += [
                (
                    turned(x[..., order], way * angles(T, d_k))[..., back],
                    "feature i is turned together with feature i + d_k / 2."
                    " Other programs do that; here neighbours form a pair.",
                ),
                (
                    turned(x, way * angles(T, d_k, 1.0)),
                    "the exponent is i / d_k, and should be 2i / d_k, if i"
                    " counts the pairs.",
                ),
                (
                    turned(x, way * angles(T, d_k, 4.0)),
                    "the exponent has the factor 2 twice.",
                ),
                (
                    turned(x, way * place * torch.ones(half)),
                    "all pairs turn equally fast.",
                ),
            ]
        explain(
            found,
            mistakes,
            f"for x of {tuple(x.shape)} the numbers differ. Pair i, features"
            " 2i and 2i + 1, turns by 10000^(-2i / d_k) a position.",
            NEAR,
        )


IGNORES = "What it ignores"


def _by_power(x: Tensor, eps: float) -> Tensor:
    """Divide by the root of each token's mean square."""
    x = x.double()
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


@rms_norm.test("one parameter, a scale of ones", 7, IGNORES)
def check_weight(answer: Any) -> None:
    """Call a fresh norm, and look at what it keeps."""
    x = tokens()
    D = x.shape[-1]
    module = call(answer, D)
    numbers(hinted(LOST, module, x), x.shape)
    found = parameters(module, {"weight": (D,)})
    if not is_near(found["weight"], torch.ones(D)):
        raise Wrong("before any training the scale, weight, is 1.")


@rms_norm.test("every token has mean square 1", 7, IGNORES)
def check_power(answer: Any) -> None:
    """Compare a fresh norm with what it should give."""
    for _ in range(2):
        x = tokens()
        found = numbers(call(call(answer, x.shape[-1]), x), x.shape)
        if is_near(found, _by_power(x, 1e-5), 1e-3):
            continue
        square = x.double().square()
        explain(
            found,
            [
                (
                    normal(x, 1e-5),
                    "the mean is subtracted: this is layer norm. RMSNorm"
                    " leaves it out.",
                ),
                (
                    x / square.mean(-1, keepdim=True),
                    "this divides by the mean square: the root is missing.",
                ),
                (
                    x / square.sum(-1, keepdim=True).sqrt(),
                    "the squares are added up, and should be averaged.",
                ),
                (
                    x / x.double().std(-1, correction=0, keepdim=True),
                    "this divides by the deviation from the mean. Take the"
                    " squares of x itself.",
                ),
                (
                    x / square.mean(1, keepdim=True).sqrt(),
                    "the squares are averaged over the positions. Each token"
                    " has its own mean square, over its features.",
                ),
            ],
            "the mean square of the first token's features is"
            f" {found[0, 0].square().mean():.3f}, and should be 1.",
            1e-3,
        )


@rms_norm.test("eps below the root, and a scale for each feature", 7, IGNORES)
def check_scaled(answer: Any) -> None:
    """Try a large eps, random weights, and other numbers of dimensions."""
    for front in ((2, 5), (), (2, 3, 4)):
        eps, D = a_chance(0.1, 0.4), a_size(7, 12)
        x, g = 0.4 * torch.randn(*front, D), torch.randn(D)
        module = call(answer, D, eps)
        call(module.load_state_dict, {"weight": g})
        found = numbers(call(module, x), x.shape)
        right = _by_power(x, eps)
        if is_near(found, g * right, 1e-3):
            continue
        root = x.double().square().mean(-1, keepdim=True).sqrt()
        explain(
            found,
            [
                (right, "the weight is not used."),
                (
                    g * x / (root + eps),
                    "eps is added outside the root. It belongs to the mean"
                    " square.",
                ),
                (
                    g * _by_power(x, 1e-5),
                    "eps is a fixed 1e-5, or there is none. Keep the one that"
                    " __init__ is given.",
                ),
            ],
            f"for x of {tuple(x.shape)} and eps = {eps} the numbers differ"
            " from weight * x / root(mean square + eps).",
            1e-3,
        )


@rms_norm.test(*LEARNS)
def check_gradient(answer: Any) -> None:
    """Look where the gradient of its output ends."""
    x = tokens()
    must_learn(call(answer, x.shape[-1]), x)
