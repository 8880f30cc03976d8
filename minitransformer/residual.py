"""Add & Norm: the residual connection and layer normalisation."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.dropout import Dropout


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> Tensor:
    """Give each token mean 0 and variance 1, then scale and shift.

    Computes ``weight (x - mean) / √(variance + eps) + bias`` over the last
    dimension, with the biased variance (Ba et al., 2016, section 3).

    Args:
        x: ``(..., D)``.
        weight: ``(D,)``.
        bias: ``(D,)``.
        eps: Keeps the root away from zero.

    Returns:
        ``(..., D)``.
    """
    centred = x - x.mean(dim=-1, keepdim=True)  # (..., D)
    variance = centred.square().mean(dim=-1, keepdim=True)  # (..., 1)
    return weight * centred / torch.sqrt(variance + eps) + bias


class LayerNorm(nn.Module):
    """`layer_norm` with a trained scale and shift.

    It calls torch's own kernel, which gives the same numbers in one pass.

    Args:
        d_model: Width ``D``.
        eps: Keeps the root away from zero.
    """

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x (..., D)`` over its last dimension."""
        size = self.weight.shape
        return F.layer_norm(x, size, self.weight, self.bias, self.eps)


class AddNorm(nn.Module):
    """Run a sublayer beside a residual connection, and normalise.

    Post-norm, as in the paper (Vaswani et al., 2017, section 3.1), is
    ``norm(x + dropout(sublayer(x)))``; pre-norm is
    ``x + dropout(sublayer(norm(x)))``. Xiong et al. (2020) compare them.

    Args:
        d_model: Width ``D``.
        dropout: Chance of dropping each number the sublayer returns.
        norm_first: Whether to normalise before the sublayer (pre-norm).
    """

    def __init__(
        self, d_model: int, dropout: float = 0.0, norm_first: bool = False
    ):
        super().__init__()
        self.norm_first = norm_first
        self.norm = LayerNorm(d_model)
        self.dropout = Dropout(dropout)

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
            x = x + self.dropout(sublayer(self.norm(x)))
        else:
            x = self.norm(x + self.dropout(sublayer(x)))
        return x
