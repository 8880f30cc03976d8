"""The tasks of homework 1, and what their checks share."""

import math
import re
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

# How torch, numpy and Python speak of sizes, and of how many there are.
SIZES = r"(?i)size|dimension|shape|batch|\dD\b|a matrix|tuple index|to unpack"
COUNTED = (
    r"Dimension out of range|number of dim|too many ind|batch\d must|\dD\b"
    r"|tuple index|to unpack"
)


def adds_up(table: Tensor, dim: int | tuple[int, ...] = -1) -> bool:
    """Say whether the numbers along ``dim`` add up to one."""
    return is_near(table.sum(dim), torch.ones_like(table.sum(dim)))


def in_front(answer: Any, *inputs: Tensor) -> Any:
    """Call, perhaps with dimensions in front, and explain what is raised."""
    try:
        return call(answer, *inputs)
    except Wrong as wrong:
        if wrong.__cause__ is None:
            raise
        words = f"{str(wrong).rstrip('.')}."
        raise Wrong(
            words + advice(words, wrong.__cause__, *inputs)
        ) from wrong.__cause__


def advice(words: str, error: BaseException, *inputs: Tensor) -> str:
    """Return what to say to a learner whose code raises an error.

    Args:
        words: The error's type and message.
        error: Of the same type; in another process its message may be lost.
        inputs: What the code was called with: a mask comes fourth.

    Returns:
        Words that begin with a space, or nothing.
    """
    if isinstance(error, TypeError) and len(inputs) == 3:
        if "missing 1 required positional argument: 'mask'" in words:
            return " mask may be left out: write mask: Tensor | None = None."
        if "unary ~: 'NoneType'" in words:
            return " Here mask is None: ask `if mask is not None` first."
    if "is ambiguous" in words:
        of_mask = " For a mask, ask `if mask is not None`."
        return " A tensor of many values is neither true nor false." + (
            of_mask if len(inputs) == 4 else ""
        )
    kinds = RuntimeError, IndexError, ValueError
    if not isinstance(error, kinds) or not re.search(SIZES, words):
        return ""
    shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
    if len(inputs) == 1 or inputs[0].ndim > 2:
        return (
            f" The shapes here are {shapes}: turn and sum over the last two"
            " dimensions only, counted from the end."
        )
    if re.search(COUNTED, words):
        return (
            f" The shapes here are {shapes}: here query is (T, d_k), with"
            " nothing in front: count dimensions from the end."
        )
    return f" The shapes here are {shapes}."


def divisors_in_front(dots: Tensor) -> list[tuple[Tensor, str]]:
    """Return scores of a batch whose divisor is a size from the front."""
    T, S = dots.shape[-2:]
    return [
        (
            dots / math.sqrt(size),
            f"with a sentence in front the divisor is the root of {size}, the"
            f" number of {what}: that is shape[1], counted from the front, as"
            " soon as there is a batch. The width is shape[-1].",
        )
        for size, what in ((T, "queries, T"), (S, "keys, S"))
    ]


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
