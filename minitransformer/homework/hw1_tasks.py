"""The tasks of homework 1, and what their checks share."""

import math
from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import Wrong, call, is_near
from minitransformer.homework.tasks import Task

softmax = Task("hw1.softmax", points=2)
scores = Task("hw1.scores", points=2)
padding_mask = Task("hw1.padding_mask", points=2)
causal_mask = Task("hw1.causal_mask", points=2)
attention = Task("hw1.attention", points=5)
self_attention = Task("hw1.SelfAttention", points=3)
leaks = Task("hw1.leaks", points=4)
streaming = Task("hw1.streaming", points=0)


def adds_up(table: Tensor, dim: int | tuple[int, ...] = -1) -> bool:
    """Say whether the numbers along ``dim`` add up to one."""
    return is_near(table.sum(dim), torch.ones_like(table.sum(dim)))


def in_front(answer: Any, *inputs: Tensor) -> Any:
    """Call with dimensions in front, and say so if that is what fails."""
    try:
        return call(answer, *inputs)
    except Wrong as wrong:
        if wrong.__cause__ is None:
            raise
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise Wrong(
            f"{str(wrong).rstrip('.')}. The shapes here are {shapes}: turn"
            " and sum over the last two dimensions only, counted from the"
            " end."
        ) from None


def divisors(dots: Tensor, d_k: int) -> list[tuple[Tensor, str]]:
    """Return scores with wrong divisors, and what to say of them."""
    T, S = dots.shape[-2:]
    return [
        (
            dots,
            "the divisor is missing: without it, wide keys make large scores"
            " and the softmax picks a single key.",
        ),
        (
            dots / d_k,
            "the scores are divided by d_k itself: wide keys then get equal"
            " weights. The root is wanted.",
        ),
        (
            dots * math.sqrt(d_k),
            "the root of d_k is multiplied, and should divide.",
        ),
        (
            dots / math.sqrt(S),
            "the divisor is the root of the number of keys, and should be"
            " that of their width, how many products a score adds up.",
        ),
        (
            dots / math.sqrt(T),
            "the divisor is the root of the number of queries, and should be"
            " that of their width.",
        ),
    ]


def draw_ids(batch: int, size: int, pad_id: int, left: bool = False) -> Tensor:
    """Draw ids with padding behind, or before, all rows but the first."""
    ids = torch.randint(1, 50, (batch, size))
    ids[ids == pad_id] = 50
    for row, count in enumerate(torch.randint(1, size - 1, (batch,)).tolist()):
        if row:
            ids[row, slice(count) if left else slice(-count, None)] = pad_id
    return ids
