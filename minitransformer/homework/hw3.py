"""Assignment 3: positions, Add & Norm, feed-forward, judged task by task.

`hw3_tasks` has the tasks in order; importing the other parts gives them
their tests.
"""

from minitransformer.homework import (
    hw3_dropout,
    hw3_feed_forward,
    hw3_inputs,
    hw3_norm,
    hw3_residual,
    hw3_stretch,
)

__all__ = [
    "hw3_dropout",
    "hw3_feed_forward",
    "hw3_inputs",
    "hw3_norm",
    "hw3_residual",
    "hw3_stretch",
]
