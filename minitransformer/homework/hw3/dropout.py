"""Assignment 3, dropout."""

from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    numbers,
)
from minitransformer.homework.hw3.tasks import (
    a_chance,
    a_size,
    dropout,
    row,
)

COINS = "Dropout: no single link to lean on"


def _a_field() -> Tensor:
    """Draw numbers of size 1 or so, none near 0, ``(B, T, D)``."""
    size = (a_size(20, 30), a_size(30, 40), a_size(50, 60))
    return (1 + torch.rand(size)) * torch.randn(size).sign()


@dropout.test("after training, x is left as it is", 4, COINS)
def check_eval(answer: Any) -> None:
    """Call it with ``training=False``."""
    for _ in range(3):
        x, p = _a_field()[:3], a_chance(0.15, 0.4)
        found = numbers(call(answer, x, p, False), x.shape)
        if is_near(found, x):
            continue
        if ((found == 0).double().mean() - p).abs() < 0.1:
            raise Wrong(
                "it drops numbers although training is false. After training"
                " nothing is dropped."
            )
        explain(
            found,
            [
                (
                    x * (1 - p),
                    "after training the numbers are multiplied by 1 - p. That"
                    " is the other way to keep the mean; here what is left is"
                    " divided in training, and x stays as it is afterwards.",
                ),
                (
                    x / (1 - p),
                    "after training the numbers are still divided by 1 - p,"
                    " although none is missing.",
                ),
            ],
            "training is false, so the result should be x as it is.",
        )


@dropout.test("a share p is dropped", 4, COINS)
def check_share(answer: Any) -> None:
    """Count zeros among tens of thousands of numbers."""
    for _ in range(3):
        x, p = _a_field(), a_chance(0.15, 0.4)
        found = numbers(call(answer, x, p, True), x.shape)
        share = (found == 0).double().mean().item()
        if abs(share - p) < 0.02:
            continue
        if abs(share - 1 + p) < 0.02:
            raise Wrong(
                f"p and 1 - p have changed places: for p = {p} a share of"
                f" {share:.2f} is dropped. p is the chance of being dropped,"
                " not of staying."
            )
        if share in (0.0, 1.0):
            raise Wrong(
                f"for p = {p}, in training, {'all' if share else 'none'} of"
                f" {x.numel():,} numbers are dropped."
            )
        _find_common_coins(found == 0)
        raise Wrong(
            f"for p = {p}, in training, a share of {share:.2f} is dropped."
        )


def _find_common_coins(lost: Tensor) -> None:
    """Raise `Wrong` if whole rows or columns, or all sentences, agree."""
    for dim, words in (
        (2, "all features of a token are dropped together"),
        (1, "a feature is dropped at all tokens of a sentence together"),
        (0, "the same numbers are dropped in all sentences of a batch"),
    ):
        if (lost.all(dim) | ~lost.any(dim)).all():
            raise Wrong(f"{words}. Each number has a coin of its own.")


@dropout.test("what is left is divided by 1 - p", 4, COINS)
def check_rescaled(answer: Any) -> None:
    """Compare what was kept with what it was."""
    for _ in range(3):
        x, p = _a_field(), a_chance(0.15, 0.4)
        found = numbers(call(answer, x, p, True), x.shape)
        kept = found != 0
        rest, before = found[kept], x.double()[kept]
        if is_near(rest, before / (1 - p)):
            continue
        explain(
            rest,
            [
                (
                    before,
                    "what is left is not rescaled, so the mean shrinks:"
                    " divide by 1 - p.",
                ),
                (
                    before / p,
                    "what is left is divided by p. For p = 0.5 that is the"
                    f" same, but for p = {p} the mean does not stay.",
                ),
                (
                    before * (1 - p),
                    "what is left is multiplied by 1 - p, and becomes smaller"
                    " still. Divide by it.",
                ),
            ],
            f"for p = {p} the numbers that are left should be x / {1 - p:.2f}:"
            f" {row(before)} becomes {row(rest)}.",
        )


@dropout.test("p may be 0, and it may be 1", 4, COINS)
def check_ends(answer: Any) -> None:
    """Drop nothing, and everything."""
    x = _a_field()[:3]
    found = numbers(call(answer, x, 0.0, True), x.shape)
    if not is_near(found, x):
        raise Wrong("with p = 0 nothing is dropped, and x stays as it is.")
    try:
        found = numbers(call(answer, x, 1.0, True), x.shape)
    except Wrong as wrong:
        if "ZeroDivision" not in str(wrong):
            raise
        found = torch.tensor(torch.nan)
    if not found.isfinite().all():
        raise Wrong(
            "with p = 1 this divides by 1 - p, which is 0. Take this case by"
            " itself."
        )
    if (found != 0).any():
        raise Wrong("with p = 1 everything is dropped, and all is 0.")


@dropout.test("each number, each time, has a coin of its own", 4, COINS)
def check_coins(answer: Any) -> None:
    """Toss several times, and look for patterns."""
    x, p = _a_field()[:, :, :11], a_chance(0.2, 0.4)
    lost = [numbers(call(answer, x, p, True), x.shape) == 0 for _ in range(6)]
    if any(torch.equal(lost[0], again) for again in lost[1:]):
        raise Wrong(
            "two calls drop the same numbers. Toss anew in each call, and set"
            " no seed."
        )
    _find_common_coins(lost[0])
    if len({int(each.sum()) for each in lost}) == 1:
        raise Wrong(
            "each call drops exactly as many numbers. With a coin for each"
            " number, how many fall is a matter of chance too."
        )
