"""Answers to hw1, made by tools/homework.py."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from minitransformer.homework import check


def softmax(scores: Tensor) -> Tensor:
    """Turn each row of scores into shares of one whole.

    Args:
        scores: ``(..., S)``; minus infinity hides a key.

    Returns:
        Weights, ``(..., S)``. A row without any key is all zeros.
    """
    highest = scores.amax(dim=-1, keepdim=True)
    highest = highest.masked_fill(highest == -math.inf, 0.0)
    powers = (scores - highest).exp()
    total = powers.sum(dim=-1, keepdim=True)
    return powers / total.masked_fill(total == 0, 1.0)


def scores(query: Tensor, key: Tensor) -> Tensor:
    """Say how well each key fits each query.

    Args:
        query: ``(..., T, d_k)``.
        key: ``(..., S, d_k)``.

    Returns:
        Scores, ``(..., T, S)``.
    """
    return query @ key.mT / math.sqrt(query.shape[-1])


def padding_mask(ids: Tensor, pad_id: int) -> Tensor:
    """Hide padding from every query.

    Args:
        ids: Token ids, ``(B, S)``.
        pad_id: The id of padding.

    Returns:
        Boolean, ``(B, 1, S)``; true where a key may be attended to.
    """
    return (ids != pad_id)[:, None, :]


def causal_mask(size: int) -> Tensor:
    """Let each position see itself and what is before it.

    Args:
        size: Number of positions ``T``.

    Returns:
        Boolean, ``(T, T)``; true where a key may be attended to.
    """
    return torch.ones(size, size, dtype=torch.bool).tril()


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Average the values, weighted by how well each key fits the query.

    Args:
        query: ``(..., T, d_k)``.
        key: ``(..., S, d_k)``.
        value: ``(..., S, d_v)``.
        mask: Boolean, broadcastable to ``(..., T, S)``; true = may attend.

    Returns:
        The output ``(..., T, d_v)`` and the weights ``(..., T, S)``.
    """
    fits = scores(query, key)  # (..., T, S)
    if mask is not None:
        fits = fits.masked_fill(~mask, -math.inf)
    weights = softmax(fits)
    return weights @ value, weights


class SelfAttention(nn.Module):
    """One head whose queries, keys and values come from one sequence.

    Args:
        d_in: Width of the input.
        d_k: Width of queries and keys.
        d_v: Width of values and output.
    """

    def __init__(self, d_in: int, d_k: int, d_v: int):
        super().__init__()
        self.w_q = nn.Linear(d_in, d_k, bias=False)
        self.w_k = nn.Linear(d_in, d_k, bias=False)
        self.w_v = nn.Linear(d_in, d_v, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let every token attend to all that the mask allows.

        Args:
            x: ``(B, T, d_in)``.
            mask: Boolean, broadcastable to ``(B, T, T)``; true = may attend.

        Returns:
            ``(B, T, d_v)``.
        """
        q, k, v = self.w_q(x), self.w_k(x), self.w_v(x)
        output, _ = attention(q, k, v, mask)
        return output


def leaks(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> list[tuple[int, int]]:
    """Find the outputs that depend on later inputs.

    Args:
        function: Maps ``(T, D)`` to ``(T, D')``; passes no gradient.
        x: Where to try it, ``(T, D)``.

    Returns:
        Pairs ``(t, s)``, ``s > t``: output ``t`` changes with input ``s``.
    """
    usual = function(x)
    found = []
    for s in range(len(x)):
        changed = x.clone()
        changed[s] = torch.randn_like(x[s])
        change = (function(changed) - usual).abs().amax(dim=-1)  # (T,)
        found += [(t, s) for t in range(s) if change[t] > 1e-4]
    return found


State = tuple[Tensor, Tensor, Tensor]


def streaming(
    query: Tensor, key: Tensor, value: Tensor, state: State | None = None
) -> tuple[Tensor, State]:
    """Attend to one more block of keys.

    Args:
        query: ``(..., T, d_k)``, the same for every block.
        key: The block's, ``(..., S, d_k)``.
        value: The block's, ``(..., S, d_v)``.
        state: What the block before returned: highest scores ``(..., T, 1)``,
            sums of powers ``(..., T, 1)`` and mixtures ``(..., T, d_v)``.

    Returns:
        The output over all keys so far, ``(..., T, d_v)``, and the state.
    """
    fits = scores(query, key)  # (..., T, S)
    top = fits.amax(dim=-1, keepdim=True)
    if state is not None:
        top = torch.maximum(top, state[0])
    shares = (fits - top).exp()
    count = shares.sum(dim=-1, keepdim=True)
    mixed = shares @ value
    if state is not None:
        shrink = (state[0] - top).exp()
        count = count + shrink * state[1]
        mixed = mixed + shrink * state[2]
    return mixed / count, (top, count, mixed)
