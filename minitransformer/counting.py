"""Count what a model has and does: parameters and multiplications."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers a module learns; shared ones count once.

    >>> count_parameters(nn.Linear(5, 3))
    18
    """
    return sum(
        parameter.numel()
        for parameter in module.parameters()
        if parameter.requires_grad
    )


def matmul_flops(function: Callable[..., Any], *inputs: Any) -> int:
    """Return the floating-point operations of all matrix products in a call.

    A product of ``(n, m)`` and ``(m, p)`` has ``2 n m p`` of them: each
    multiplication comes with an addition. Nothing else is counted, neither
    softmax nor norms; fused attention counts as the two products it is made
    of.

    Args:
        function: A module or a function.
        inputs: What to call it with.

    Returns:
        The count, of the forward pass only.

    >>> matmul_flops(torch.matmul, torch.ones(2, 3), torch.ones(3, 5))
    60
    """
    counter = FlopCounterMode(display=False)
    # Only this kernel is made of products that the counter sees everywhere.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        function(*inputs)
    return int(counter.get_total_flops())
