"""Answers to hw3, made by tools/homework.py."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from minitransformer.homework import check


def sinusoidal(length: int, d_model: int) -> Tensor:
    """Give each position a fixed pattern of sines and cosines.

    Args:
        length: Number of positions ``T``; the first is 0.
        d_model: Width ``D``, an even number.

    Returns:
        ``(T, D)``.
    """
    t = torch.arange(length)[:, None]  # (T, 1)
    i = torch.arange(d_model // 2)  # (D/2,)
    angle = t / 10_000 ** (2 * i / d_model)  # (T, D/2)
    table = torch.empty(length, d_model)  # (T, D)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle.cos()
    return table


def embed(ids: Tensor, table: Tensor, positions: Tensor) -> Tensor:
    """Turn ids into vectors that know where they stand.

    Args:
        ids: Token ids, ``(B, T)``.
        table: A row for each kind of token, ``(V, D)``.
        positions: A row for each position, ``(max_len, D)``.

    Returns:
        ``(B, T, D)``.
    """
    tokens = table[ids] * math.sqrt(table.shape[1])  # (B, T, D)
    return tokens + positions[: ids.shape[1]]


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Replace numbers by 0 at random, and keep the mean.

    Args:
        x: Any shape.
        p: Probability of dropping a number, from 0 to 1.
        training: Whether to do anything at all.

    Returns:
        The shape of ``x``.
    """
    if not training:
        return x
    if p == 1:
        return torch.zeros_like(x)
    keep = torch.rand_like(x) >= p
    return x * keep / (1 - p)


class LayerNorm(nn.Module):
    """Give each token mean 0 and variance 1, then scale and shift.

    Args:
        d_model: Width ``D``.
        eps: Added to the variance, below the root.
    """

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x (..., D)`` over its last dimension."""
        centred = x - x.mean(dim=-1, keepdim=True)  # (..., D)
        variance = centred.square().mean(dim=-1, keepdim=True)  # (..., 1)
        normal = centred / (variance + self.eps).sqrt()  # (..., D)
        return self.weight * normal + self.bias


class FeedForward(nn.Module):
    """Widen each token, bend, and narrow it again.

    Args:
        d_model: Width ``D`` outside.
        d_ff: Width inside.
    """

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x (..., D)`` to ``(..., D)``, token by token."""
        inner = self.linear1(x).relu()  # (..., d_ff)
        output: Tensor = self.linear2(inner)  # (..., D)
        return output


class AddNorm(nn.Module):
    """Run a sublayer beside a residual connection, and normalise.

    Args:
        d_model: Width ``D``.
        dropout: Probability of dropping each number the sublayer returns.
        norm_first: Whether to normalise before the sublayer (pre-norm).
    """

    def __init__(
        self, d_model: int, dropout: float = 0.0, norm_first: bool = False
    ):
        super().__init__()
        self.p = dropout
        self.norm_first = norm_first
        self.norm = LayerNorm(d_model)

    def forward(
        self, x: Tensor, sublayer: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Wrap ``sublayer`` around ``x``.

        Args:
            x: ``(B, T, D)``.
            sublayer: Maps ``(B, T, D)`` to ``(B, T, D)``.

        Returns:
            ``(B, T, D)``.
        """
        if self.norm_first:
            given = sublayer(self.norm(x))  # (B, T, D)
            return x + dropout(given, self.p, self.training)
        given = sublayer(x)  # (B, T, D)
        given = dropout(given, self.p, self.training)
        normed: Tensor = self.norm(x + given)  # (B, T, D)
        return normed


def rotary(x: Tensor) -> Tensor:
    """Turn each pair of features by an angle that grows with the position.

    Args:
        x: Queries or keys, ``(..., T, d_k)``, with an even ``d_k``.

    Returns:
        ``(..., T, d_k)``.
    """
    length, width = x.shape[-2:]
    place = torch.arange(length)[:, None]  # (T, 1)
    hand = torch.arange(width // 2)  # (d_k/2,)
    turn = place / 10_000 ** (2 * hand / width)  # (T, d_k/2)
    cos, sin = turn.cos(), turn.sin()
    a, b = x[..., 0::2], x[..., 1::2]  # (..., T, d_k/2)
    turned = torch.empty_like(x)  # (..., T, d_k)
    turned[..., 0::2] = a * cos - b * sin
    turned[..., 1::2] = a * sin + b * cos
    return turned


class RMSNorm(nn.Module):
    """Give each token mean square 1, then scale.

    Args:
        d_model: Width ``D``.
        eps: Added to the mean square, below the root.
    """

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x (..., D)`` over its last dimension."""
        power = x.square().mean(dim=-1, keepdim=True)  # (..., 1)
        return self.weight * x / (power + self.eps).sqrt()
