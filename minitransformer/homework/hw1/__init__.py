"""Homework 1: attention and its masks, piece by piece.

`tasks` has the tasks in order; importing the other parts gives them their
tests.
"""

from minitransformer.homework.hw1 import (
    attention,
    head,
    leaks,
    masks,
    softmax,
    streaming,
)

__all__ = [
    "attention",
    "head",
    "leaks",
    "masks",
    "softmax",
    "streaming",
]
