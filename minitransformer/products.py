"""Attention as two products of matrices, for short or half-precise inputs.

It does what `scaled_dot_product_attention` does for readers, and holds no
more than the scores at a time: the product scales them and hides keys.
"""

import math

import torch
from torch import Tensor

from minitransformer.dropout import dropout
from minitransformer.masks import readable

# Up to so many scores a head, training is at least as fast by products as by
# torch's fused kernel, whose backward pass is slow there. Forward alone they
# are faster up to a quarter, if there is a mask.
SHORT = 48 * 48
# In half precision they are faster, often twice, as long as the scores of all
# heads fit: these take 64 MiB.
ROOM = 2**25


def suits_products(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> bool:
    """Say whether `attend_by_products` is faster than torch's fused kernel.

    Args:
        q: ``(..., T, d_k)``.
        k: ``(..., S, d_k)``.
        v: ``(..., S, d_k)``.
        mask: As in `MultiHeadAttention.attend`.
    """
    alike = q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
    if not (readable(q) and alike and q.dtype == k.dtype == v.dtype):
        return False
    scores = q.shape[-2] * k.shape[-2]  # of a head
    if q.dtype.itemsize < 4:
        return q.shape[:-2].numel() * scores <= ROOM
    if torch.is_grad_enabled():
        return scores <= SHORT
    return mask is not None and scores <= SHORT // 4


def attend_by_products(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Compute the output of `scaled_dot_product_attention`.

    Args:
        q: ``(..., T, d_k)``.
        k: ``(..., S, d_k)``.
        v: ``(..., S, d_v)``.
        mask: Boolean, broadcastable to ``(..., T, S)``; leaves each query a
            key.
        dropout_p: Chance of dropping each weight.

    Returns:
        ``(..., T, d_v)``.
    """
    shape = *q.shape[:-1], k.shape[-2]  # of the scores
    rows = [x.reshape(-1, *x.shape[-2:]) for x in (q, k, v)]
    if mask is None:
        hidden = q.new_zeros(1, 1, 1)
    else:
        hidden = q.new_zeros(mask.shape).masked_fill_(~mask, -math.inf)
        hidden = hidden.expand(shape).reshape(-1, *shape[-2:])
    # Autocast would widen the weights, only for them to be rounded again.
    with torch.autocast(q.device.type, enabled=False):
        scores = torch.baddbmm(
            hidden,
            rows[0],
            rows[1].mT,
            beta=mask is not None,
            alpha=1 / math.sqrt(q.shape[-1]),
        )
        weights = dropout(scores.softmax(dim=-1), dropout_p)
        output = weights @ rows[2]
    return output.view(*shape[:-1], v.shape[-1])
