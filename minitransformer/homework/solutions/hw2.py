"""Answers to hw2, made by tools/homework.py."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.homework import check


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Give every head its own stretch of the width.

    Args:
        x: ``(B, T, H * d_k)``.
        num_heads: ``H``.

    Returns:
        ``(B, H, T, d_k)``.
    """
    cut = x.unflatten(-1, (num_heads, -1))  # (B, T, H, d_k)
    return cut.transpose(1, 2)


def merge_heads(heads: Tensor) -> Tensor:
    """Lay the heads of every token side by side.

    Args:
        heads: ``(B, H, T, d_k)``.

    Returns:
        ``(B, T, H * d_k)``.
    """
    by_token = heads.transpose(1, 2)  # (B, T, H, d_k)
    return by_token.flatten(-2)


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
    scores = query @ key.mT / math.sqrt(query.shape[-1])  # (..., T, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)  # a row without keys is nan
    return weights @ value, weights


class MultiHeadAttention(nn.Module):
    """Attend with several heads, then mix their outputs.

    Args:
        d_model: Width ``D`` of inputs and output.
        num_heads: ``H``; each head is ``D / H`` wide.
        dropout: Chance of dropping each weight while training.

    Raises:
        ValueError: If ``num_heads`` does not divide ``d_model``.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if d_model % num_heads:
            raise ValueError(
                f"{num_heads} heads cannot share a width of {d_model} evenly:"
                " choose a width that is a multiple of the heads."
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.w_q = nn.Linear(d_model, d_model)
        self.w_k = nn.Linear(d_model, d_model)
        self.w_v = nn.Linear(d_model, d_model)
        self.w_o = nn.Linear(d_model, d_model)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Let ``query`` attend to ``key`` and average ``value``.

        Args:
            query: ``(B, T, D)``.
            key: ``(B, S, D)``.
            value: ``(B, S, D)``.
            mask: Boolean, broadcastable to ``(B, H, T, S)``; true = may
                attend.

        Returns:
            ``(B, T, D)``.
        """
        q = split_heads(self.w_q(query), self.num_heads)  # (B, H, T, d_k)
        k = split_heads(self.w_k(key), self.num_heads)  # (B, H, S, d_k)
        v = split_heads(self.w_v(value), self.num_heads)  # (B, H, S, d_k)
        _, weights = attention(q, k, v, mask)  # (B, H, T, S)
        kept = F.dropout(weights, self.dropout, training=self.training)
        return self.w_o(merge_heads(kept @ v))


def attention_maps(
    query: Tensor,
    key: Tensor,
    state: dict[str, Tensor],
    num_heads: int,
    mask: Tensor | None = None,
) -> Tensor:
    """Work out the weights of every head of a module from its state dict.

    Args:
        query: ``(B, T, D)``.
        key: ``(B, S, D)``.
        state: ``w_q.weight`` and ``w_k.weight`` ``(H * d_k, D)``, their
            biases ``(H * d_k,)``, and what else the module holds.
        num_heads: ``H``.
        mask: Boolean, broadcastable to ``(B, H, T, S)``; true = may attend.

    Returns:
        ``(B, H, T, S)``.
    """
    queries = F.linear(query, state["w_q.weight"], state["w_q.bias"])
    keys = F.linear(key, state["w_k.weight"], state["w_k.bias"])
    q = split_heads(queries, num_heads)
    k = split_heads(keys, num_heads)
    _, maps = attention(q, k, k, mask)  # any values will do
    return maps


def count_parameters(
    d_model: int,
    num_heads: int,
    d_k: int | None = None,
    d_v: int | None = None,
    bias: bool = True,
) -> int:
    """Count what a multi-head attention learns.

    Args:
        d_model: Width ``D`` of inputs and output.
        num_heads: ``H``.
        d_k: Width of one head's queries and keys; ``D // H`` if not given.
        d_v: Width of one head's values; ``d_k`` if not given.
        bias: Whether the four layers add one.

    Returns:
        The number of weights and biases.
    """
    d_k = d_model // num_heads if d_k is None else d_k
    d_v = d_k if d_v is None else d_v
    weights = 2 * num_heads * (d_k + d_v) * d_model
    biases = num_heads * (2 * d_k + d_v) + d_model
    return weights + biases if bias else weights


def cross(
    module: nn.Module,
    x: Tensor,
    memory: Tensor,
    source: Tensor,
    pad_id: int = 0,
) -> Tensor:
    """Let every target token attend to the source, but not to its padding.

    Args:
        module: Attention, such as yours; only call it, as
            ``module(query, key, value, mask)``.
        x: The target, ``(B, T, D)``.
        memory: What the encoder made of the source, ``(B, S, D)``.
        source: Ids of the source, ``(B, S)``.
        pad_id: The id of padding.

    Returns:
        ``(B, T, D)``.
    """
    real = (source != pad_id)[:, None, None, :]  # (B, 1, 1, S)
    return module(x, memory, memory, real)


def prune(
    state: dict[str, Tensor], heads: list[int], num_heads: int
) -> dict[str, Tensor]:
    """Cut heads out of a module's state dict.

    Args:
        state: ``w_q``, ``w_k`` and ``w_v`` with weights ``(H * d_k, D)``,
            ``w_o`` with a weight ``(D, H * d_k)``, and four biases.
        heads: Those that go; the first is 0.
        num_heads: ``H``, before.

    Returns:
        A new state dict, with ``H - len(heads)`` heads.
    """
    d_k = state["w_q.weight"].shape[0] // num_heads
    stays = torch.tensor([h not in heads for h in range(num_heads)])
    stays = stays.repeat_interleave(d_k)  # (H * d_k,)
    smaller = {}
    for name, tensor in state.items():
        if name == "w_o.weight":
            smaller[name] = tensor[:, stays]
        elif name == "w_o.bias":
            smaller[name] = tensor.clone()
        else:
            smaller[name] = tensor[stays]
    return smaller


class GroupedQueryAttention(nn.Module):
    """Attend with several heads, of which neighbours share keys and values.

    Args:
        d_model: Width ``D`` of inputs and output.
        num_heads: ``H``, the heads of the queries; each is ``D / H`` wide.
        num_groups: ``G``, the heads of keys and values.

    Raises:
        ValueError: If ``num_heads`` does not divide ``d_model``, or
            ``num_groups`` does not divide ``num_heads``.
    """

    def __init__(self, d_model: int, num_heads: int, num_groups: int):
        super().__init__()
        if d_model % num_heads:
            raise ValueError(
                f"the width {d_model} is no multiple of {num_heads} heads."
            )
        if num_heads % num_groups:
            raise ValueError(
                f"{num_groups} groups of equal size cannot be made of"
                f" {num_heads} heads."
            )
        shared_width = num_groups * d_model // num_heads
        self.num_heads, self.num_groups = num_heads, num_groups
        self.w_q = nn.Linear(d_model, d_model)
        self.w_k = nn.Linear(d_model, shared_width)
        self.w_v = nn.Linear(d_model, shared_width)
        self.w_o = nn.Linear(d_model, d_model)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Let ``query`` attend to ``key`` and average ``value``.

        Args:
            query: ``(B, T, D)``.
            key: ``(B, S, D)``.
            value: ``(B, S, D)``.
            mask: Boolean, broadcastable to ``(B, H, T, S)``; true = may
                attend.

        Returns:
            ``(B, T, D)``.
        """
        size = self.num_heads // self.num_groups
        q = split_heads(self.w_q(query), self.num_heads)
        few_k = split_heads(self.w_k(key), self.num_groups)  # (B, G, S, d_k)
        few_v = split_heads(self.w_v(value), self.num_groups)
        k, v = (x.repeat_interleave(size, dim=1) for x in (few_k, few_v))
        heads, _ = attention(q, k, v, mask)  # (B, H, T, d_k)
        return self.w_o(merge_heads(heads))
