"""Dropout (Srivastava et al., 2014), with coins that are cheap on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.errors import UserError


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

    Raises:
        UserError: If there is no such chance, or nothing would be left.
    """
    check_chance(p)
    if p == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    apply: Any = _ByteDropout.apply
    dropped: Tensor = apply(x, _rounded(p))
    return dropped


def relu_dropout(x: Tensor, p: float) -> Tensor:
    """Compute ``dropout(x.relu(), p)``, and remember only the result.

    A number of the result that is above 0 was kept, and was above 0 before;
    the others have no gradient, for one reason or the other.

    Args:
        x: Any shape.
        p: As in `dropout`.

    Returns:
        The shape of ``x``.

    Raises:
        UserError: As in `dropout`.
    """
    if p == 0 or x.device.type != "cpu":
        return dropout(x.relu(), p)
    check_chance(p)
    apply: Any = _ReluDropout.apply
    dropped: Tensor = apply(x, _rounded(p))
    return dropped


def check_chance(p: float) -> None:
    """Raise a ``UserError`` unless some numbers stay."""
    if not 0 <= p < 1:
        raise UserError(
            f"A chance of dropping of {p} won't do: choose one from 0 up to"
            " below 1."
        )


def _rounded(p: float) -> int:
    """Return the chance in 256ths; at least one number must stay."""
    return min(round(p * 256), 255)


def _coins(x: Tensor) -> Tensor:
    """Return a random byte for each number of ``x``."""
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64)
    words.random_(-(2**63), None)  # every bit of it
    return words.view(torch.uint8)[: x.numel()].view(x.shape)


def _scaled(x: Tensor, keep: Tensor, threshold: int) -> Tensor:
    """Return ``x`` where ``keep`` is 1, scaled, and 0 where it is 0."""
    scale = 256 / (256 - threshold)
    return torch.addcmul(x.new_zeros(1), x, keep, value=scale)


class _ByteDropout(torch.autograd.Function):
    """Drop where a random byte is below ``threshold``; keep the bytes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int) -> Tensor:
        coins = _coins(x)
        ctx.save_for_backward(coins)
        ctx.threshold = threshold
        keep = torch.ge(coins, threshold, out=torch.empty_like(x))
        return _scaled(x, keep, threshold)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (coins,) = ctx.saved_tensors
        keep = torch.ge(coins, ctx.threshold, out=torch.empty_like(grads[0]))
        return _scaled(grads[0], keep, ctx.threshold), None


class _ReluDropout(torch.autograd.Function):
    """What `relu_dropout` does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int) -> Tensor:
        keep = torch.ge(_coins(x), threshold, out=torch.empty_like(x))
        result = _scaled(x, keep, threshold).relu_()
        ctx.save_for_backward(result)
        ctx.threshold = threshold
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        keep = torch.gt(result, 0, out=torch.empty_like(result))
        return _scaled(grads[0], keep, ctx.threshold), None


class Dropout(nn.Module):
    """`dropout` while training, nothing afterwards.

    Args:
        p: Chance of zeroing a number.
    """

    def __init__(self, p: float):
        super().__init__()
        check_chance(p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop numbers of ``x``, if the module is in training mode."""
        return dropout(x, self.p) if self.training else x
