"""Attention over short sequences, with its gradient written out.

A sentence of a translation is a dozen tokens long. There the matrices are
small and the passes over memory count: torch's autograd keeps and walks
through every intermediate of the formula, and its fused kernel is made for
long sequences. Here only the weights are kept.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from minitransformer.processor import computes_bf16

# Up to so many scores a head this is faster than torch's fused kernel, whose
# backward pass is slow there; forward alone, up to a quarter of them.
SHORT = 48 * 48


def is_short(q: Tensor, k: Tensor) -> bool:
    """Say whether `short_attention` is the fastest way, on a processor.

    Half precision is fast only where the processor computes with it; the
    fused kernel then still has the slow backward pass, and elsewhere it
    computes with single precision inside.

    Args:
        q: ``(..., T, d_k)``.
        k: ``(..., S, d_k)``.
    """
    most = SHORT if torch.is_grad_enabled() else SHORT // 4
    if q.shape[-2] * k.shape[-2] > most or q.shape[:-2] != k.shape[:-2]:
        return False
    return q.dtype.itemsize >= 4 or computes_bf16()


def short_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Compute what `scaled_dot_product_attention` does, without dropout.

    Args:
        q: ``(..., T, d_k)``.
        k: ``(..., S, d_k)``.
        v: ``(..., S, d_v)``.
        mask: Boolean, broadcastable to ``(..., T, S)``, or ``None``. Every
            query needs a key, or its output is ``nan``.

    Returns:
        ``(..., T, d_v)``. It can be differentiated once.
    """
    if not torch.is_grad_enabled():  # autograd costs more than one query
        return _attend(q, k, v, mask)[-1].view(*q.shape[:-1], v.shape[-1])
    apply: Any = _ShortAttention.apply
    output: Tensor = apply(q, k, v, mask)
    return output


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> tuple[Tensor, ...]:
    """Put sentences and heads in one dimension ``N``, so that bmm takes them.

    Returns:
        Queries, keys, values, weights and output, ``(N, ..., ...)`` each.
    """
    (*heads, T, d_k), (S, d_v) = q.shape, v.shape[-2:]
    N = math.prod(heads)
    q = q.reshape(N, T, d_k)  # (N, T, d_k)
    k = k.reshape(N, S, d_k)  # (N, S, d_k)
    v = v.reshape(N, S, d_v)  # (N, S, d_v)
    scores = scaled_bmm(q, k.mT, 1 / math.sqrt(d_k))  # (N, T, S)
    if mask is not None:
        hidden = torch.zeros(mask.shape, dtype=q.dtype)
        hidden.masked_fill_(~mask, -math.inf)
        scores.view(*heads, T, S).add_(hidden)
    weights = scores.softmax(dim=-1)  # (N, T, S)
    output = torch.bmm(weights, v)  # (N, T, d_v)
    return q, k, v, weights, output


class _ShortAttention(torch.autograd.Function):
    """What `_attend` does, and its gradient."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> Tensor:
        shape = *q.shape[:-1], v.shape[-1]
        with torch.autocast("cpu", enabled=False):  # backward has none
            *kept, output = _attend(q, k, v, mask)
        ctx.save_for_backward(*kept)
        return output.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Send the gradient back through each step of the formula.

        A row of the softmax turns ``dw`` into ``w (dw - w · dw)``.
        """
        q, k, v, weights = ctx.saved_tensors
        heads = grads[0].shape[:-2]
        grad = grads[0].reshape(*q.shape[:2], v.shape[2])  # (N, T, d_v)
        v_grad = torch.bmm(weights.mT, grad)  # (N, S, d_v)
        weighted = torch.bmm(grad, v.mT).mul_(weights)  # (N, T, S)
        lost = weighted.sum(-1, keepdim=True)  # (N, T, 1)
        scores_grad = weighted.addcmul_(weights, lost, value=-1)  # (N, T, S)
        scale = 1 / math.sqrt(q.shape[-1])
        q_grad = scaled_bmm(scores_grad, k, scale)  # (N, T, d_k)
        k_grad = scaled_bmm(scores_grad.mT, q, scale)  # (N, S, d_k)
        return (
            q_grad.view(*heads, *q.shape[1:]),
            k_grad.view(*heads, *k.shape[1:]),
            v_grad.view(*heads, *v.shape[1:]),
            None,
        )


def scaled_bmm(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Compute ``scale * (a @ b)`` without a pass for the scale."""
    nothing = a.new_empty(1, 1, 1)
    return torch.baddbmm(nothing, a, b, beta=0, alpha=scale)
