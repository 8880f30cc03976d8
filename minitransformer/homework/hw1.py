"""Homework 1: attention and its masks, piece by piece."""

from minitransformer.homework import (
    hw1_attention,
    hw1_head,
    hw1_leaks,
    hw1_masks,
    hw1_softmax,
    hw1_streaming,
)

__all__ = [
    "hw1_attention",
    "hw1_head",
    "hw1_leaks",
    "hw1_masks",
    "hw1_softmax",
    "hw1_streaming",
]
