"""Assignment 2, a stretch goal: several query heads share keys and values."""

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
from minitransformer.homework.hw2 import slips
from minitransformer.homework.hw2.judges import judge_masks
from minitransformer.homework.hw2.slips import State
from minitransformer.homework.hw2.tasks import grouped
from minitransformer.homework.hw2.tools import (
    judge_refusal,
    loaded,
    output_of,
    right_one,
    same_layers,
)
from minitransformer.homework.tasks import LEARNS

HEADS = (5, "With matrices: all heads at once")
LIBRARY = (5, "In the library")
COST = (5, "What heads cost")

# B, T, H, d_k, and groups G.
SIZES = ((2, 5, 4, 3, 2), (3, 4, 6, 5, 2), (2, 7, 6, 2, 3), (1, 5, 3, 4, 1))


def widened(state: State, num_heads: int, groups: int) -> State:
    """Repeat each group's rows, so that every query head has its own."""

    def repeated(tensor: Tensor) -> Tensor:
        parts = torch.unflatten(tensor, 0, (groups, -1))
        return parts.repeat_interleave(num_heads // groups, 0).flatten(0, 1)

    return {
        name: repeated(tensor) if name[:3] in ("w_k", "w_v") else tensor
        for name, tensor in state.items()
    }


@grouped.test("the output is as wide as the input", *HEADS)
def check_forward(answer: Any) -> None:
    """Run a new module of several sizes."""
    for B, T, H, d_k, G in SIZES:
        query, key, value = torch.randn(3, B, T, H * d_k)
        module = call(answer, H * d_k, H, G)
        try:
            found = output_of(module, query, key, value)
        except Wrong:
            judge_layers(module, H, d_k, G)  # what may be behind it
            raise
        numbers(found, query.shape)


@grouped.test("keys and values are as wide as their groups", *COST)
def check_layers(answer: Any) -> None:
    """Look at names and shapes of what is learned."""
    for _, _, H, d_k, G in SIZES:
        judge_layers(call(answer, H * d_k, H, G), H, d_k, G)


def judge_layers(module: Any, heads: int, d_k: int, groups: int) -> None:
    """Look at names and shapes of what one module learns."""
    D = heads * d_k
    words = (
        f"with {groups} groups of {d_k} numbers w_k and w_v lead from {D} to"
        f" {groups * d_k}: it is there that grouping saves."
    )
    same_layers(
        module,
        slips.random_state(D, heads, d_k, groups),
        [("w_k.weight", words), ("w_v.weight", words)],
    )


@grouped.test("with a group for every head it is multi-head", *HEADS)
def check_no_groups(answer: Any) -> None:
    """Compare with the package's module."""
    for B, T, H, d_k, _ in SIZES:
        judge_numbers(answer, (B, T, H, d_k, H))


@grouped.test("neighbouring heads share keys and values", *HEADS)
def check_groups(answer: Any) -> None:
    """Compare with the package's module with repeated weights."""
    for sizes in SIZES:
        judge_numbers(answer, sizes)


def judge_numbers(answer: Any, sizes: tuple[int, ...]) -> None:
    """Compare with the package's module; more keys than queries.

    Args:
        answer: The learner's class.
        sizes: ``B, T, H, d_k, G``.
    """
    B, T, H, d_k, G = sizes
    D = H * d_k
    state = slips.random_state(D, H, d_k, G)
    query, (key, value) = torch.randn(B, T, D), torch.randn(2, B, T + 3, D)
    found = output_of(loaded(call(answer, D, H, G), state), query, key, value)
    right = right_one(widened(state, H, G), D, H)(query, key, value)
    if is_near(found, right, 1e-3):
        return

    def tiled(heads: Tensor) -> Tensor:
        return heads.repeat(1, H // G, 1, 1)

    def first(heads: Tensor) -> Tensor:
        return heads[:, :1].expand(-1, H, -1, -1)

    def repeated(heads: Tensor) -> Tensor:
        return heads.repeat_interleave(H // G, dim=1)

    def wrong(spread: slips.Merge = repeated, **slip: Any) -> Tensor:
        return slips.multi_head(
            state, query, key, value, H, groups=G, spread=spread, **slip
        )

    lead = f"with {H} heads in {G} groups"
    explain(
        found,
        [
            (
                wrong(tiled),
                f"{lead} the groups are tiled: head h uses group h % {G}, and"
                f" neighbours should share: group h // {H // G}. repeat and"
                " repeat_interleave differ in just this.",
            ),
            (wrong(first), f"{lead} all heads use the first group."),
            (
                wrong(divisor=D**0.5),
                f"{lead} the scores are divided by the root of the model's"
                " width, not of one head's.",
            ),
            (
                wrong(divisor=(G * d_k) ** 0.5),
                f"{lead} the scores are divided by the root of all groups'"
                " width, not of one head's.",
            ),
        ],
        f"{lead} the shape is right and the numbers are not.",
        1e-3,
    )


@grouped.test(
    "a mask hides keys from every head", 4, "With matrices: all rows at once"
)
def check_masks(answer: Any) -> None:
    """Hand over masks of all shapes that fit."""
    B, T, S, H, d_k, G = 2, 5, 7, 6, 3, 2
    state = slips.random_state(H * d_k, H, d_k, G)
    module = loaded(call(answer, H * d_k, H, G), state)
    judge_masks(module, widened(state, H, G), (B, T, S, H, d_k))


@grouped.test("sizes that do not fit are refused", *LIBRARY)
def check_refusal(answer: Any) -> None:
    """Ask for heads and for groups that do not divide."""
    for sizes, named in (
        ((10, 4, 2), (10, 4)),
        ((12, 4, 3), (4, 3)),
        ((30, 6, 4), (6, 4)),
    ):
        why = f"{named[1]} does not divide {named[0]}"
        judge_refusal(answer, sizes, named, why)


@grouped.test(*LEARNS)
def check_gradient(answer: Any) -> None:
    """Look where the gradient of its output ends."""
    B, T, H, d_k, G = SIZES[0]
    must_learn(call(answer, H * d_k, H, G), *torch.randn(3, B, T, H * d_k))
