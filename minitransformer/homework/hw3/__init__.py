"""Homework 3: positions, Add & Norm, feed-forward.

`tasks` has the tasks in order; importing the other parts gives them their
tests.
"""

from minitransformer.homework.hw3 import (
    dropout,
    feed_forward,
    inputs,
    norm,
    residual,
    stretch,
)

__all__ = [
    "dropout",
    "feed_forward",
    "inputs",
    "norm",
    "residual",
    "stretch",
]
