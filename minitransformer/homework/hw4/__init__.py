"""Homework 4: the whole Transformer.

`tasks` has the tasks in order; importing the other parts gives them their
tests.
"""

from minitransformer.homework.hw4 import (
    decoder,
    ids,
    layers,
    load,
    loss,
    model,
)

__all__ = [
    "decoder",
    "ids",
    "layers",
    "load",
    "loss",
    "model",
]
