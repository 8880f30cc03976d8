"""A small assignment, hw9, for the tests of the machinery around it."""

import sys
from types import ModuleType

import torch

from minitransformer.homework import checking, tasks

SOLUTION = '''
import torch


def double(x):
    """Return 2x."""
    return 2 * x


class Scale(torch.nn.Module):
    """Multiplies by a weight."""

    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))

    def forward(self, x):
        return self.weight * x


def apply(function, x):
    """Call a function of the judge's."""
    return [function(row) for row in x]
'''


def register():
    """Add the assignment to those that there are."""
    sys.modules["minitransformer.homework.hw9"] = ModuleType("hw9")
    double = tasks.Task("hw9.double", 3)

    @double.test("it is twice as much", 2, "Why divide by √d_k")
    def check_double(answer):
        for size in (3, 5):
            x = torch.rand(size, 2)
            found = checking.numbers(checking.call(answer, x), (size, 2))
            if not checking.is_near(found, 2 * x):
                checking.explain(found, [(x, "that is x itself.")], "double!")

    scale = tasks.Task("hw9.Scale", 2)

    @scale.test("weights count", 2, "Why divide by √d_k")
    def check_scale(answer):
        module = checking.call(answer, 3)
        weights, x = {"weight": torch.rand(3)}, torch.rand(2, 3)
        checking.call(module.load_state_dict, weights)
        found = checking.numbers(checking.call(module, x), (2, 3))
        if not checking.is_near(found, weights["weight"] * x):
            raise checking.Wrong("the weights do not count.")

    apply = tasks.Task("hw9.apply", 0)

    @apply.test("the function is called for each row", 2, "Masks")
    def check_apply(answer):
        x, seen = torch.rand(4, 3), []

        def function(row):
            seen.append(row)
            return row.sum()

        found = checking.call(answer, function, x)
        if len(seen) != 4 or not checking.is_near(found, x.sum(1)):
            raise checking.Wrong("call it for each row.")
