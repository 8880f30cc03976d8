"""Cross-entropy with label smoothing, and a lean form of it for training."""

from typing import Any

import torch
from torch import Tensor

CHUNK = 512  # labels whose logits exist at the same time


def smoothed_cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Return what the labels cost, in nats, summed.

    The target gives each label ``1 - ε`` and spreads ε evenly over the
    vocabulary, so a label ``y`` costs ``log Σ exp z - (1 - ε) z_y - ε mean z``
    (Szegedy et al., 2016, section 7).

    Args:
        logits: ``z``, ``(N, V)``.
        labels: ``(N,)`` ids.
        smoothing: ε.

    Returns:
        A scalar.
    """
    normaliser = logits.logsumexp(dim=1)  # (N,)
    label = logits.gather(1, labels[:, None]).squeeze(1)  # (N,)
    spread = logits.mean(dim=1)  # (N,)
    return (normaliser - (1 - smoothing) * label - smoothing * spread).sum()


def output_loss(
    hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Return `smoothed_cross_entropy` of ``hidden @ weight.T``.

    All ``(N, V)`` logits never exist at once: a chunk's gradient is worked
    out with its loss, and the smoothing's share of both needs no logits.

    Args:
        hidden: ``(N, D)``.
        weight: The output layer's, ``(V, D)``.
        labels: ``(N,)`` ids.
        smoothing: ε.

    Returns:
        A scalar, in nats.
    """
    if not torch.is_grad_enabled():
        total = torch.zeros((), device=hidden.device)
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            logits = (hidden[part] @ weight.T).float()  # (C, V)
            total += smoothed_cross_entropy(logits, labels[part], smoothing)
        return total
    apply: Any = _OutputLoss.apply
    loss: Tensor = apply(hidden, weight, labels, smoothing)
    return loss


class _OutputLoss(torch.autograd.Function):
    """The loss and its gradient, a chunk of labels at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        smoothing: float,
    ) -> Tensor:
        kind = hidden.device.type
        dtypes = hidden.dtype, weight.dtype
        if torch.is_autocast_enabled(kind):
            hidden = hidden.to(torch.get_autocast_dtype(kind))
        weight = weight.to(hidden.dtype)
        exact = torch.promote_types(hidden.dtype, torch.float32)
        with torch.autocast(kind, enabled=False):
            # The smoothing: - ε/V on every logit.
            share = smoothing / len(weight)
            all_words = weight.sum(0, dtype=exact)  # (D,)
            all_hidden = hidden.sum(0, dtype=exact)  # (D,)
            loss = -share * (all_hidden @ all_words)
            hidden_grad = torch.empty_like(hidden)
            weight_grad = (-share * all_hidden).repeat(len(weight), 1)
            for start in range(0, len(hidden), CHUNK):
                part = slice(start, start + CHUNK)
                logits = hidden[part] @ weight.T  # (C, V)
                label = labels[part, None]  # (C, 1)
                of_label = logits.gather(1, label).to(exact)
                grad = logits.softmax(dim=1)
                # log Σ exp z from the largest probability, never too small
                most = logits.amax(dim=1, keepdim=True).to(exact)  # (C, 1)
                share_of_most = grad.amax(dim=1, keepdim=True).to(exact)
                normaliser = most - share_of_most.log()  # (C, 1)
                loss += (normaliser - (1 - smoothing) * of_label).sum()
                grad.scatter_add_(
                    1, label, grad.new_full(label.shape, smoothing - 1)
                )
                torch.mm(grad, weight, out=hidden_grad[part])
                if grad.dtype == exact:  # no room for the product needed
                    weight_grad.addmm_(grad.T, hidden[part])
                else:
                    weight_grad += grad.T @ hidden[part]
            hidden_grad -= (share * all_words).to(hidden.dtype)
        ctx.save_for_backward(
            hidden_grad.to(dtypes[0]), weight_grad.to(dtypes[1])
        )
        return loss

    @staticmethod
    def backward(
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad * grads[0], weight_grad * grads[0], None, None
