"""Assignment 2, third part: the maps of the heads, and what heads cost."""

from typing import Any

import torch
from torch import nn

from minitransformer.homework.checking import (
    call,
    explain,
    is_near,
    numbers,
)
from minitransformer.homework.hw2 import slips
from minitransformer.homework.hw2.judges import INTERLEAVED
from minitransformer.homework.hw2.tasks import attention_maps, count_parameters
from minitransformer.homework.hw2.tools import run, shaped

HEADS = (5, "With matrices: all heads at once")
COST = (5, "What heads cost")


# B, T, S, H, d_k, D: the first two as wide as their heads together.
MAPS = ((2, 4, 6, 3, 5, 15), (3, 5, 3, 2, 4, 8), (1, 6, 7, 5, 2, 9))


@attention_maps.test("there is one map for every head", *HEADS)
def check_map_shape(answer: Any) -> None:
    """Ask for maps of several sizes and look at the shape."""
    for B, T, S, H, d_k, D in MAPS[:2]:
        state = slips.random_state(D, H, d_k)
        query, key = torch.randn(B, T, D), torch.randn(B, S, D)
        found = numbers(call(answer, query, key, state, H))
        shaped(
            found,
            (B, H, T, S),
            [
                (
                    (B, T, S),
                    "the heads are averaged or made one: each has a map of"
                    " its own.",
                ),
                (
                    (B, H, S, T),
                    "queries and keys have changed places: a row for every"
                    " query, a column for every key.",
                ),
                (
                    (B, H, T, d_k),
                    "these are the outputs of the heads; the weights are"
                    " wanted, from before they meet the values.",
                ),
                (
                    (B, T, D),
                    "this is the output; the weights of every head are"
                    " wanted.",
                ),
            ],
        )


@attention_maps.test("the maps are those of the module", *HEADS)
def check_maps(answer: Any) -> None:
    """Compare with scores made from the same weights."""
    for B, T, S, H, d_k, D in MAPS:
        state = slips.random_state(D, H, d_k)
        query, key = torch.randn(B, T, D), torch.randn(B, S, D)
        hint = f"here w_q.weight is {(H * d_k, D)}, {H} heads of {d_k}"
        found = numbers(run(answer, query, key, state, H, hint=hint))
        scores = slips.head_scores(state, query, key, H)
        if is_near(found, scores.softmax(-1), 1e-3):
            continue

        mistakes = [
            (scores, "these are the scores; the softmax is missing."),
            (
                scores.softmax(-2),
                "the softmax runs over the queries: every row, not every"
                " column, adds up to one.",
            ),
            (
                scores.softmax(1),
                "the softmax runs over the heads; it belongs to the keys.",
            ),
            (
                (scores * d_k**0.5).softmax(-1),
                "the divisor, the root of d_k, is missing.",
            ),
            (
                (scores * (d_k / D) ** 0.5).softmax(-1),
                "the scores are divided by the root of the model's width, not"
                " of one head's.",
            ),
            *(
                (
                    slips.head_scores(
                        slips.without_bias(state, layers), query, key, H
                    ).softmax(-1),
                    "the biases of w_q and w_k are forgotten.",
                )
                for layers in (("w_q", "w_k"), ("w_q",))
            ),
            (
                slips.head_scores(
                    state, query, key, H, slips.interleaved
                ).softmax(-1),
                INTERLEAVED,
            ),
            (
                slips.head_scores(state, query, key, H, slips.cut).softmax(-1),
                "the split is a reshape alone: a head then holds pieces of"
                " few tokens.",
            ),
        ]
        if H * d_k == D:  # otherwise it raises an error
            for layers in (("w_q", "w_k"), ("w_q",), ("w_k",)):
                other = slips.turned(state, layers)
                words = (
                    f"the weights of {' and '.join(layers)} are transposed: a"
                    " state holds them as nn.Linear does, (out, in), so x"
                    " meets their transpose."
                )
                turned = slips.head_scores(other, query, key, H)
                mistakes.append((turned.softmax(-1), words))
        explain(
            found,
            mistakes,
            "the shape is right and the numbers are not. Only w_q and w_k"
            " make the weights.",
            1e-3,
        )


@attention_maps.test(
    "a mask hides keys from the maps", 4, "With matrices: all rows at once"
)
def check_masked_maps(answer: Any) -> None:
    """Hide keys, for all heads and for each."""
    B, T, S, H, d_k, D = MAPS[0]
    state = slips.random_state(D, H, d_k)
    query, key = torch.randn(B, T, D), torch.randn(B, S, D)
    scores = slips.head_scores(state, query, key, H)
    for shape in ((T, S), (B, 1, 1, S), (B, H, T, S)):
        mask = torch.rand(shape) < 0.6
        mask[..., 0], mask[..., 1] = True, False
        hint = f"a mask of shape {shape} fits {(B, H, T, S)} as it is"
        found = numbers(run(answer, query, key, state, H, mask, hint=hint))
        right = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        if is_near(found, right, 1e-3):
            continue
        explain(
            found,
            [
                (scores.softmax(-1), "the mask has no effect."),
                (
                    scores.masked_fill(mask, -torch.inf).softmax(-1),
                    "the mask is turned round: True means may attend.",
                ),
                (
                    scores.softmax(-1) * mask,
                    "the mask comes after the softmax, so the rows no longer"
                    " add up to one.",
                ),
            ],
            f"without a mask it is right, with one of {shape} it is not.",
            1e-3,
        )


# Counting ---


def total(sides: list[tuple[int, int]], bias: bool) -> int:
    """Count what layers with these (in, out) hold."""
    layers = nn.ModuleList(nn.Linear(*side, bias) for side in sides)
    return sum(p.numel() for p in layers.parameters())


def judge_count(
    answer: Any,
    d_model: int,
    num_heads: int,
    mistakes: list[tuple[int, str]],
    **options: Any,
) -> None:
    """Hold one count against layers that are really built."""
    found = numbers(call(answer, d_model, num_heads, **options), ())
    d_k = options.get("d_k") or d_model // num_heads
    d_v = options.get("d_v") or d_k
    keys, values = num_heads * d_k, num_heads * d_v
    bias = options.get("bias", True)
    sides = [(d_model, keys)] * 2 + [(d_model, values), (values, d_model)]
    right = total(sides, bias)
    if found == right:
        return
    given = "".join(f", {name}={value}" for name, value in options.items())
    lead = f"for ({d_model}, {num_heads}{given})"
    explain(
        found,
        [(number, f"{lead} {words}") for number, words in mistakes],
        f"{lead} it gives {found.item():g}, and such layers hold {right}.",
    )


@count_parameters.test("four square matrices and their biases", *COST)
def check_square(answer: Any) -> None:
    """Count heads that make up the width together."""
    for d_model, num_heads in ((12, 3), (10, 2), (35, 5)):
        D = d_model
        mistakes = [
            (4 * D * D, "the biases are missing."),
            (3 * D * D + 3 * D, "w_o is missing."),
            (3 * D * D, "w_o and the biases are missing."),
            (
                num_heads * (4 * D * D + 4 * D),
                "every head is counted as wide as the model; together they"
                " are.",
            ),
            (
                4 * D * D // num_heads + 3 * D // num_heads + D,
                "one head is counted; there are more.",
            ),
        ]
        judge_count(answer, D, num_heads, mistakes)


@count_parameters.test("without biases, only the matrices", *COST)
def check_no_bias(answer: Any) -> None:
    """Count the same without biases."""
    for D, num_heads in ((12, 4), (21, 3)):
        mistakes = [
            (4 * D * D + 4 * D, "the biases are counted, and there are none.")
        ]
        judge_count(answer, D, num_heads, mistakes, bias=False)


@count_parameters.test("heads of any width", *COST)
def check_widths(answer: Any) -> None:
    """Count heads that are wider or narrower than the width's share."""
    for D, H, d_k in ((4, 8, 3), (12, 3, 5), (14, 4, 2)):
        inner = H * d_k
        for bias in (True, False):
            weights, inside = 4 * D * inner, 3 * inner
            mistakes = [
                (
                    4 * D * D + bias * 4 * D,
                    "d_k has no effect: the heads together need not be as wide"
                    " as the model.",
                ),
                (
                    4 * D * D + bias * (inside + D),
                    "d_k has no effect on the matrices: the heads together"
                    " need not be as wide as the model.",
                ),
                (
                    weights + bias * 4 * inner,
                    "a bias is as long as its layer's output, and w_o leads"
                    " back to d_model.",
                ),
                (
                    weights + bias * 4 * D,
                    "a bias is as long as its layer's output, and only w_o's"
                    " is d_model long.",
                ),
                (
                    4 * D * d_k + bias * (3 * d_k + D),
                    "one head is counted; there are more.",
                ),
                (
                    3 * D * inner + D * D + bias * (inside + D),
                    "w_o is counted as a square, and leads from all heads"
                    " side by side to d_model.",
                ),
            ]
            judge_count(answer, D, H, mistakes, d_k=d_k, bias=bias)


@count_parameters.test("values may have a width of their own", *COST)
def check_values(answer: Any) -> None:
    """Count heads whose values are wider or narrower than their keys."""
    for D, H, d_k, d_v in ((12, 3, 5, 7), (10, 4, 6, 3)):
        for bias in (True, False):
            keys, values = H * d_k, H * d_v
            mistakes = [
                (
                    4 * D * keys + bias * (3 * keys + D),
                    "d_v has no effect: w_v makes the values.",
                ),
                (
                    D * (3 * keys + values) + bias * (2 * keys + values + D),
                    "w_o is counted with d_k, and it is the values that the"
                    " heads average and hand on.",
                ),
                (
                    4 * D * values + bias * (3 * values + D),
                    "d_k has no effect: w_q and w_k make queries and keys.",
                ),
            ]
            options = {"d_k": d_k, "d_v": d_v, "bias": bias}
            judge_count(answer, D, H, mistakes, **options)
    D, H, d_v = 12, 3, 7
    ignored = 4 * D * D + 4 * D, "d_v has no effect if d_k is not given."
    judge_count(answer, D, H, [ignored], d_v=d_v)
