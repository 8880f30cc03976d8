"""Assignment 4: the whole Transformer, judged task by task.

Importing the parts registers the tests; `hw4_tasks` has the tasks in order.
"""

from minitransformer.homework import (
    hw4_decoder,
    hw4_ids,
    hw4_layers,
    hw4_load,
    hw4_loss,
    hw4_model,
)

__all__ = [
    "hw4_decoder",
    "hw4_ids",
    "hw4_layers",
    "hw4_load",
    "hw4_loss",
    "hw4_model",
]
