"""Homework 5: decoding, and a translator of the learner's own.

`tasks` has the tasks in order; importing the other parts gives them their
tests.
"""

from minitransformer.homework.hw5 import (
    bleu,
    choices,
    decoding,
    translator,
)

__all__ = ["bleu", "choices", "decoding", "translator"]
