"""Homework 1: a detector of leaks.

The functions handed to a learner's detector pass numbers on and no gradient,
as they may run in another process.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.attention import scaled_dot_product_attention
from minitransformer.homework.checking import Wrong, call
from minitransformer.homework.hw1.tasks import leaks
from minitransformer.masks import causal_mask

Function = Callable[[Tensor], Tensor]
Pairs = set[tuple[int, int]]


def mixed_by(table: Tensor) -> Function:
    """Return a function that mixes the positions by fixed weights."""

    def function(x: Tensor) -> Tensor:
        return (table @ x).detach()

    return function


def means(size: int, ahead: int) -> Tensor:
    """Return weights of means over the past and some positions ahead."""
    seen = torch.ones(size, size).tril(ahead)
    return seen / seen.sum(-1, keepdim=True)


def self_attended(x: Tensor) -> Tensor:
    """Let each position attend to itself and back."""
    mask = causal_mask(len(x))
    return scaled_dot_product_attention(x, x, x, mask)[0].detach()


def by_difference(x: Tensor) -> Tensor:
    """Take running sums as all minus the rest, which rounds."""
    later = x.flip(0).cumsum(0).flip(0) - x
    return (x.sum(0) - later).detach()


def with_leak(t: int, s: int, seen: Function) -> Function:
    """Return running means, to one of which a later input is added."""

    def function(x: Tensor) -> Tensor:
        output = means(len(x), 0) @ x.detach()
        output[t] += seen(x.detach()[s])
        return output

    return function


def ahead(size: int, by: int) -> Pairs:
    """Return the pairs of an output and a later input, at most ``by``."""
    return {
        (t, s) for t in range(size) for s in range(t + 1, size) if s - t <= by
    }


def found_in(answer: Any, function: Function, x: Tensor) -> Pairs:
    """Return what a learner's detector finds."""
    try:
        found = call(answer, function, x)
    except Wrong as wrong:
        if "grad" in str(wrong):
            raise Wrong(
                "no gradient passes through the function that you are given:"
                " change an input, and see which outputs move."
            ) from None
        raise
    if isinstance(found, Tensor):
        found = found.tolist()
    try:
        return {(int(t), int(s)) for t, s in found}
    except (TypeError, ValueError):
        raise Wrong(
            "a list of pairs (t, s) is wanted, and an empty one if nothing"
            f" leaks; this is {type(found).__name__}"
            f"{' of something else' if isinstance(found, list) else ''}."
        ) from None


def judge(
    answer: Any, function: Function, x: Tensor, right: Pairs, what: str
) -> None:
    """Compare the pairs found with those that are there.

    Args:
        answer: The learner's detector.
        function: What it is tried on.
        x: Where, ``(T, D)``.
        right: The pairs that leak.
        what: The function, in words.
    """
    found = found_in(answer, function, x)
    if found == right:
        return
    if right and found == {(s, t) for t, s in right}:
        raise Wrong(
            f"{what}: the pairs are turned round. The output's position"
            " comes first, then the input's: (t, s), with s > t."
        )
    if any(s <= t for t, s in found):
        raise Wrong(
            f"{what}: an output may depend on its own input and on earlier"
            " ones. Only s > t is a leak."
        )
    missing, extra = sorted(right - found), sorted(found - right)
    if missing:
        raise Wrong(
            f"{what}: output {missing[0][0]} changes with input"
            f" {missing[0][1]}, and the pair {missing[0]} is not found."
        )
    raise Wrong(
        f"{what}: {extra[0]} is said to leak, and output {extra[0][0]} does"
        f" not depend on input {extra[0][1]}."
    )


@leaks.test("a causal function has no leak", 4, "The detector")
def check_clean(answer: Any) -> None:
    """Running means, and attention with a causal mask."""
    for size, function, what in (
        (5, mixed_by(means(5, 0)), "running means"),
        (4, self_attended, "causal attention"),
        (1, self_attended, "a single position"),
    ):
        x = torch.randn(size, 3)
        found = found_in(answer, function, x)
        if found and found == ahead(size, size):
            raise Wrong(
                f"{what}: every later input is said to leak, and none does."
                " If you put nan or infinity in: 0 times nan is nan, so it"
                " passes a weight of 0. Put ordinary numbers in."
            )
        judge(answer, function, x, set(), what)


@leaks.test("every leak is found, and nothing else", 4, "The detector")
def check_found(answer: Any) -> None:
    """Many leaks and single ones; outputs of another width."""
    for size in (6, 3):
        x = torch.randn(size, 4)
        places = torch.randperm(size)[:2].sort().values.tolist()
        pair = (places[0], places[1])
        narrow = torch.randn(4, 7)
        for function, right, what in (
            (
                mixed_by(means(size, 1)),
                ahead(size, 1),
                "means that reach one position too far",
            ),
            (
                mixed_by(means(size, size)),
                ahead(size, size),
                "means over all positions",
            ),
            (
                with_leak(*pair, lambda row: row),
                {pair},
                "running means with one leak",
            ),
            (
                lambda x, n=narrow: (means(len(x), 2) @ x @ n).detach(),
                ahead(size, 2),
                "means that reach two positions too far, made wider",
            ),
        ):
            judge(answer, function, x, right, what)


@leaks.test(
    "rounding is no leak", 4, "Floating point does not forget so neatly"
)
def check_rounding(answer: Any) -> None:
    """Running sums taken as all minus the rest."""
    x = torch.randn(9, 5)
    found = found_in(answer, by_difference, x)
    if found:
        t, s = min(found)
        raise Wrong(
            f"running sums, taken as all minus the rest: ({t}, {s}) is said"
            " to leak, but what moves there is the rounding, below 0.00001."
            " Count a change only above 0.0001."
        )


@leaks.test("a leak may hide", 4, "Exercises")
def check_hidden(answer: Any) -> None:
    """Leaks that a careless change of the input does not show."""
    size, width = 6, 32
    signs = torch.ones(width)
    signs[1::2] = -1
    last = F.one_hot(torch.tensor(width - 1), width)
    hidden: tuple[tuple[Function, str], ...] = (
        (
            lambda row: row[-1] * last,
            "the last number of an output changes with the last number of a"
            " later input. Change the whole input, compare the whole output.",
        ),
        (
            lambda row: row[0] * signs,
            "an output's numbers change, half of them up and half of them"
            " down, so that their sum stays. Compare them one by one.",
        ),
        (
            lambda row: row - row.mean(),
            "the leak does not notice when the same number is added to a"
            " whole input. Put fresh random numbers in its place.",
        ),
        (
            lambda row: F.normalize(row, dim=0),
            "the leak does not notice when an input is multiplied by a"
            " number. Put fresh random numbers in its place.",
        ),
        (
            torch.sign,
            "the leak looks at signs alone, so a small step changes nothing."
            " Put fresh random numbers in the input's place.",
        ),
        (
            lambda row: 0.0003 * row,
            "an output changes by about 0.001. Count every change above"
            " 0.0001.",
        ),
    )
    for seen, words in hidden:
        places = torch.randperm(size)[:2].sort().values.tolist()
        pair = (places[0], places[1])
        x = torch.randn(size, width)
        function = with_leak(*pair, seen)
        if pair not in found_in(answer, function, x):
            raise Wrong(f"a leak is overlooked: {words}")
        judge(answer, function, x, {pair}, "running means with one leak")
    for number, name in ((0.0, "zeros"), (1.0, "ones")):
        x = torch.randn(size, width)
        x[size - 1] = number  # as padding may be
        pair = (int(torch.randint(size - 1, ())), size - 1)
        function = with_leak(*pair, lambda row: row)
        if pair not in found_in(answer, function, x):
            raise Wrong(
                f"a leak is overlooked: an input of x is a row of {name}, and"
                f" {name} in its place change nothing. Put fresh random"
                " numbers in."
            )
        judge(answer, function, x, {pair}, "running means with one leak")
