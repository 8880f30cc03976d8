"""Homework 2: multi-head attention.

`tasks` has the tasks in order; importing the other parts gives them their
tests.
"""

from minitransformer.homework.hw2 import (
    cross,
    grouped,
    heads,
    module,
    prune,
    uses,
)

__all__ = [
    "cross",
    "grouped",
    "heads",
    "module",
    "prune",
    "uses",
]
