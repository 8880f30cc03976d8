"""Assignment 2: multi-head attention, judged task by task.

`hw2_tasks` has the tasks; importing the other parts gives them their tests.
"""

from minitransformer.homework import (
    hw2_cross,
    hw2_grouped,
    hw2_heads,
    hw2_module,
    hw2_prune,
    hw2_uses,
)

__all__ = [
    "hw2_cross",
    "hw2_grouped",
    "hw2_heads",
    "hw2_module",
    "hw2_prune",
    "hw2_uses",
]
