"""Dropout (Srivastava et al., 2014), with coins that are cheap on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each number with chance ``p``, and scale the rest by 1 / (1 - p).

    On a CPU one 64-bit draw of torch's generator serves eight numbers, a
    byte each, which is several times as fast as a draw a number. The chance
    is therefore rounded to a multiple of 1/256, and the scale fits the
    rounded chance, so the expectation is exact.

    Args:
        x: Any shape.
        p: Chance of zeroing a number, from 0 up to below 1.

    Returns:
        The shape of ``x``.
    """
    if p == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    apply: Any = _ByteDropout.apply
    dropped: Tensor = apply(x, min(round(p * 256), 255))
    return dropped


class _ByteDropout(torch.autograd.Function):
    """Drop where a random byte is below ``threshold``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int) -> Tensor:
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64)
        words.random_(-(2**63), None)  # every bit of it
        coins = words.view(torch.uint8)[: x.numel()].view(x.shape)
        keep = torch.empty_like(x)
        torch.ge(coins, threshold, out=keep)  # floats, so as to multiply
        ctx.save_for_backward(keep)
        ctx.scale = 256 / (256 - threshold)
        return (x * keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return (grads[0] * keep).mul_(ctx.scale), None


class Dropout(nn.Module):
    """`dropout` while training, nothing afterwards.

    Args:
        p: Chance of zeroing a number.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop numbers of ``x``, if the module is in training mode."""
        return dropout(x, self.p) if self.training else x
