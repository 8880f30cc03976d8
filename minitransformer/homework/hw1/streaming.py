"""Homework 1: attention over keys that come in blocks."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minitransformer.attention import scaled_dot_product_attention
from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    numbers,
)
from minitransformer.homework.hw1.tasks import divisors, streaming

Block = tuple[Tensor, Tensor]


def take(answer: Any, query: Tensor, block: Block, *state: Any) -> Any:
    """Hand one block over; return the output and the new state."""
    found = call(answer, query, *block, *state)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong("two things are wanted: return output, state.")
    shape = (*query.shape[:-1], block[1].shape[-1])
    return numbers(found[0], shape), found[1]


def so_far(query: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Return attention over all blocks at once, in float64."""
    key, value = (torch.cat(each, -2) for each in zip(*blocks, strict=True))
    return scaled_dot_product_attention(
        query.double(), key.double(), value.double()
    )[0]


def draw_blocks(
    d_k: int, d_v: int, sizes: Sequence[int], *front: int
) -> list[Block]:
    """Draw keys, longer from block to block, and values."""
    return [
        (
            (i + 1) * torch.randn(*front, size, d_k),
            torch.randn(*front, size, d_v),
        )
        for i, size in enumerate(sizes)
    ]


def held(state: Any) -> int:
    """Count the numbers in a state."""
    if isinstance(state, Tensor):
        return state.numel()
    if isinstance(state, dict):
        return sum(map(held, state.values()))
    if isinstance(state, tuple | list):
        return sum(map(held, state))
    if state is None or isinstance(state, int | float):
        return state is not None
    raise Wrong(
        "the state should be made of tensors, and there is"
        f" {type(state).__name__} in it."
    )


@streaming.test(
    "one block is ordinary attention", 2, "With matrices: all queries at once"
)
def check_one_block(answer: Any) -> None:
    """A single block, without a state."""
    for T, S, d_k, d_v in ((3, 5, 8, 2), (2, 4, 3, 6)):
        query, block = (
            torch.randn(T, d_k),
            (
                torch.randn(S, d_k),
                torch.randn(S, d_v),
            ),
        )
        output, _ = take(answer, query, block)
        if is_near(output, so_far(query, [block]), 1e-3):
            continue
        key, value = block
        dots = query @ key.T
        powers = (dots / math.sqrt(d_k)).exp()
        mixed = powers @ value
        explain(
            output,
            [
                (wrong.softmax(-1) @ value, words)
                for wrong, words in divisors(dots, d_k)
            ]
            + [
                (each, "the output is not divided by the sum of the powers.")
                for each in (mixed, mixed / powers.amax(-1, keepdim=True))
            ],
            "with one block the output must be that of attention.",
            1e-3,
        )


def fold(
    query: Tensor,
    blocks: Sequence[Block],
    shrink_total: bool = True,
    shrink_mixed: bool = True,
    turned: bool = False,
) -> Tensor:
    """Attend over blocks, with places to go wrong in."""
    highest = torch.full((*query.shape[:-1], 1), -math.inf)
    total = mixed = torch.zeros(())
    for key, value in blocks:
        fits = query @ key.mT / math.sqrt(key.shape[-1])
        top = torch.maximum(highest, fits.amax(-1, keepdim=True))
        shrink = (highest - top).exp()
        if turned:
            shrink = torch.where(shrink > 0, 1 / shrink, shrink)
        powers = (fits - top).exp()
        old = total * shrink if shrink_total else total
        total = old + powers.sum(-1, keepdim=True)
        old = mixed * shrink if shrink_mixed else mixed
        mixed = old + powers @ value
        highest = top
    return mixed / total


@streaming.test(
    "after each block, attention over all so far", 2, "The question"
)
def check_blocks(answer: Any) -> None:
    """Blocks of several sizes; the highest score rises from one to next."""
    for front, sizes in (((), (3, 1, 4)), ((2,), (2, 5)), ((), (1, 1, 1, 1))):
        query = torch.randn(*front, 3, 4)
        blocks = draw_blocks(4, 2, sizes, *front)
        state: tuple[Any, ...] = ()
        for i, block in enumerate(blocks):
            output, after = take(answer, query, block, *state)
            state = (after,)
            seen = blocks[: i + 1]
            if is_near(output, so_far(query, seen), 1e-3):
                continue
            alone = torch.stack([so_far(query, [one]) for one in seen])
            share = torch.tensor(sizes[: i + 1]) / sum(sizes[: i + 1])
            explain(
                output,
                [
                    (
                        alone[-1],
                        "the state is not used: this is attention over the"
                        " last block alone.",
                    ),
                    (
                        alone.mean(0),
                        "the outputs of the blocks are averaged; a block"
                        " counts by the sum of its powers.",
                    ),
                    (
                        torch.einsum("b,b...->...", share.double(), alone),
                        "the outputs of the blocks are averaged by their"
                        " sizes; a block counts by the sum of its powers.",
                    ),
                    (
                        fold(query, seen, False, False),
                        "sum and mixture of the past are not shrunk when the"
                        " highest score rises: they were taken with another"
                        " one.",
                    ),
                    (
                        fold(query, seen, shrink_total=False),
                        "the mixture of the past is shrunk and its sum is"
                        " not: both were taken with the old highest score.",
                    ),
                    (
                        fold(query, seen, shrink_mixed=False),
                        "the sum of the past is shrunk and its mixture is"
                        " not: both were taken with the old highest score.",
                    ),
                    (
                        fold(query, seen, turned=True),
                        "the past is made larger when the highest score"
                        " rises; it must shrink.",
                    ),
                ],
                f"after block {i + 1} of {len(blocks)} the output differs from"
                " attention over all keys so far.",
                1e-3,
            )


@streaming.test("the state does not grow", 4, "A sparse mask saves nothing")
def check_state(answer: Any) -> None:
    """The numbers that are held after many keys."""
    T, d_k, d_v = 2, 8, 3
    query = torch.randn(T, d_k)
    state: tuple[Any, ...] = ()
    for block in draw_blocks(d_k, d_v, [8] * 5):
        _, after = take(answer, query, block, *state)
        state = (after,)
        count = held(after)
        if count > T * (d_v + 2) + 4:
            raise Wrong(
                f"for {T} queries and values of width {d_v} the state holds"
                f" {count} numbers: T * (d_v + 2) are enough, however many"
                " keys have passed. Keep no keys, values or scores."
            )


@streaming.test(
    "scores may be huge", 4, "Floating point does not forget so neatly"
)
def check_huge(answer: Any) -> None:
    """The highest score rises by 1,000, or falls by as much."""
    query = torch.ones(2, 1)
    low, high = draw_blocks(1, 3, (3, 3))
    high = (high[0] / 2 + 1000, high[1])
    for blocks in ([low, high, low], [high, low], [low, low, high]):
        state: tuple[Any, ...] = ()
        for block in blocks:
            output, after = take(answer, query, block, *state)
            state = (after,)
        if not is_near(output, so_far(query, blocks), 1e-3):
            what = "is wrong"
            if output.isnan().any():
                what = "is nan"
            raise Wrong(
                f"with scores near 1,000 in a block the output {what}: take"
                " the powers of scores minus the highest so far, of all"
                " blocks."
            )


@streaming.test("two streams at once", 2, "The question")
def check_two(answer: Any) -> None:
    """Nothing is remembered but the state."""
    query = torch.randn(2, 3, 4)
    streams = [draw_blocks(4, 2, (3, 2)) for _ in range(2)]
    first = [take(answer, query[i], streams[i][0])[1] for i in range(2)]
    for i in range(2):
        output, _ = take(answer, query[i], streams[i][1], first[i])
        if not is_near(output, so_far(query[i], streams[i]), 1e-3):
            raise Wrong(
                "two streams are mixed up: remember nothing but what stands in"
                " the state."
            )
