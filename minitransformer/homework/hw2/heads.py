"""Assignment 2, first part: cutting a width into heads, and the way back."""

from typing import Any

import torch

from minitransformer.homework.checking import (
    call,
    explain,
    is_near,
    numbers,
)
from minitransformer.homework.hw2 import slips
from minitransformer.homework.hw2.tasks import merge_heads, split_heads
from minitransformer.homework.hw2.tools import SIZES, shaped

HEADS = (5, "With matrices: all heads at once")


@split_heads.test("the heads stand before the tokens", *HEADS)
def check_split_shape(answer: Any) -> None:
    """Split several sizes and look at the shape alone."""
    for B, T, H, d_k in SIZES:
        found = numbers(call(answer, torch.randn(B, T, H * d_k), H))
        shaped(
            found,
            (B, H, T, d_k),
            [
                (
                    (B, T, H, d_k),
                    "the width is cut, and the heads are not brought to the"
                    " front: attention would run between the heads of one"
                    " token.",
                ),
                (
                    (B, d_k, T, H),
                    f"the width is cut into {d_k} heads of width {H}: the"
                    " number of heads comes first, then the width of one.",
                ),
                (
                    (B, H, d_k, T),
                    "the last two dimensions are exchanged: tokens are rows.",
                ),
                (
                    (H, B, T, d_k),
                    "the batch comes first, always; then the heads.",
                ),
            ],
        )


@split_heads.test("head h holds the h-th stretch of neighbours", *HEADS)
def check_split(answer: Any) -> None:
    """Split several sizes and compare with slices of the width."""
    for B, T, H, d_k in SIZES:
        x = torch.randn(B, T, H * d_k)
        found = numbers(call(answer, x, H))
        right = torch.stack(torch.split(x, d_k, dim=-1), dim=1)
        if is_near(found, right):
            continue
        explain(
            found,
            [
                (
                    slips.cut(x, H),
                    "the shape is right and the numbers are not: a reshape"
                    " alone gives each head pieces of few tokens. Cut the"
                    " width first, then exchange two dimensions.",
                ),
                (
                    slips.interleaved(x, H),
                    "the heads are interleaved: yours holds every"
                    f" {H}th feature, and should hold {d_k} neighbours.",
                ),
                (
                    slips.shared(x, H),
                    "every head holds the first stretch: head h begins at"
                    " feature h * d_k.",
                ),
                (right.flip(1), "the heads are in the opposite order."),
            ],
            "the shape is right, and the numbers stand in other places: row t"
            " of head h holds features h * d_k and on of token t.",
        )


@merge_heads.test("every token has all of its heads in one row", *HEADS)
def check_merge_shape(answer: Any) -> None:
    """Merge several sizes and look at the shape alone."""
    for B, T, H, d_k in SIZES:
        found = numbers(call(answer, torch.randn(B, H, T, d_k)))
        shaped(
            found,
            (B, T, H * d_k),
            [
                (
                    (B, H, T * d_k),
                    "the tokens of a head are joined, and the heads of a"
                    " token should be: exchange two dimensions first.",
                ),
                (
                    (B, T, H, d_k),
                    "the order is right; now make one dimension of the last"
                    " two.",
                ),
                (
                    (B, H * d_k, T),
                    "the tokens stand last, and should be the rows.",
                ),
                (
                    (B, T, d_k),
                    "the heads are added up or averaged, and should stand"
                    " side by side.",
                ),
            ],
        )


@merge_heads.test("the heads stand side by side, in order", *HEADS)
def check_merge(answer: Any) -> None:
    """Merge several sizes and compare with the heads laid side by side."""
    for B, T, H, d_k in SIZES:
        heads = torch.randn(B, H, T, d_k)
        found = numbers(call(answer, heads))
        right = torch.cat(heads.unbind(1), dim=-1)
        if is_near(found, right):
            continue
        explain(
            found,
            [
                (
                    slips.join(heads),
                    "the shape is right and the numbers are not: a reshape"
                    " alone reads on inside one head. Exchange the two"
                    " dimensions back before you join.",
                ),
                (
                    slips.woven(heads),
                    "the heads are shuffled into one another, number by"
                    " number: each head's numbers stay together.",
                ),
                (
                    torch.cat(heads.flip(1).unbind(1), dim=-1),
                    "the heads are in the opposite order.",
                ),
            ],
            "the shape is right, and the numbers stand in other places: row t"
            " holds row t of head 0, then of head 1, and so on.",
        )
