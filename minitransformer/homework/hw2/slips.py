"""Multi-head attention with places to go wrong in, for the checks of hw2.

Right results come from the package. Here are the wrong ones, worked out from
the same weights, so that a check can tell which mistake it has before it.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
Split = Callable[[Tensor, int], Tensor]
Merge = Callable[[Tensor], Tensor]

LAYERS = ("w_q", "w_k", "w_v", "w_o")


def random_state(
    d_model: int, num_heads: int, d_k: int, groups: int | None = None
) -> State:
    """Draw the weights of an attention, named as in the package.

    Args:
        d_model: Width ``D``.
        num_heads: Heads ``H`` of the queries.
        d_k: Width of one head.
        groups: Heads of keys and values; as many as ``H`` if not given.

    Returns:
        ``w_q``, ``w_k`` and ``w_v`` ``(heads * d_k, D)``, ``w_o``
        ``(D, H * d_k)``, and a bias for each.
    """
    inner = num_heads * d_k
    few = inner if groups is None else groups * d_k
    sides = ((inner, d_model), (few, d_model), (few, d_model))
    state: State = {}
    for layer, (out, into) in zip(
        LAYERS, (*sides, (d_model, inner)), strict=True
    ):
        state[f"{layer}.weight"] = 1.5 * torch.randn(out, into) / into**0.5
        state[f"{layer}.bias"] = torch.randn(out) / 2
    return state


# Ways to cut a width, and to lay the heads side by side again ---


def split(x: Tensor, num_heads: int) -> Tensor:
    """Turn ``(B, T, D)`` into ``(B, H, T, d_k)``, as it should be."""
    return torch.unflatten(x, -1, (num_heads, -1)).transpose(1, 2)


def merge(heads: Tensor) -> Tensor:
    """Turn ``(B, H, T, d_k)`` into ``(B, T, D)``, as it should be."""
    return heads.transpose(1, 2).flatten(-2)


def cut(x: Tensor, num_heads: int) -> Tensor:
    """Get the right shape by a reshape alone."""
    B, T, D = x.shape
    return x.reshape(B, num_heads, T, D // num_heads)


def join(heads: Tensor) -> Tensor:
    """Get the right shape by a reshape alone, on the way back."""
    B, H, T, d_k = heads.shape
    return heads.reshape(B, T, H * d_k)


def unturned(x: Tensor, num_heads: int) -> Tensor:
    """Cut the width and leave the heads behind the tokens."""
    return torch.unflatten(x, -1, (num_heads, -1))


def flattened(heads: Tensor) -> Tensor:
    """Join the last two dimensions, whatever they are."""
    return heads.flatten(-2)


def interleaved(x: Tensor, num_heads: int) -> Tensor:
    """Give head ``h`` the features ``h, h + H, h + 2H, ...``."""
    return torch.unflatten(x, -1, (-1, num_heads)).permute(0, 3, 1, 2)


def woven(heads: Tensor) -> Tensor:
    """Lay the heads into one another, number by number."""
    return heads.permute(0, 2, 3, 1).flatten(-2)


def crossed(x: Tensor, num_heads: int) -> Tensor:
    """Cut into ``d_k`` heads of width ``H``."""
    return torch.unflatten(x, -1, (-1, num_heads)).transpose(1, 2)


def shared(x: Tensor, num_heads: int) -> Tensor:
    """Give every head what belongs to the first."""
    heads = split(x, num_heads)
    return heads[:, :1].expand_as(heads)


def whole(x: Tensor, num_heads: int) -> Tensor:
    """Keep the full width, as one head."""
    return x[:, None]


# What is done with them ---


def project(x: Tensor, state: State, layer: str) -> Tensor:
    """Apply one layer of ``state``."""
    return F.linear(x, state[f"{layer}.weight"], state[f"{layer}.bias"])


def turned(state: State, layers: tuple[str, ...]) -> State:
    """Transpose the weights of some layers."""
    return state | {f"{x}.weight": state[f"{x}.weight"].T for x in layers}


def without_bias(state: State, layers: tuple[str, ...]) -> State:
    """Set the biases of some layers to zero."""
    return state | {
        f"{layer}.bias": torch.zeros_like(state[f"{layer}.bias"])
        for layer in layers
    }


def multi_head(
    state: State,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    split: Split = split,
    merge: Merge = merge,
    divisor: float | None = None,
    axis: int = -1,
    groups: int | None = None,
    spread: Merge | None = None,
) -> Tensor:
    """Compute multi-head attention without a mask, with choices.

    Args:
        state: The weights, as of `random_state`.
        query: ``(B, T, D)``.
        key: ``(B, S, D)``.
        value: ``(B, S, D)``.
        num_heads: Heads of the queries.
        split: Cuts a width.
        merge: Puts the heads side by side.
        divisor: Of the scores; the root of a head's width if not given.
        axis: Of the softmax.
        groups: Heads of the keys and values; all if not given.
        spread: Makes as many heads of keys and values as queries have.

    Returns:
        ``(B, T, D)``.
    """
    q = split(project(query, state, "w_q"), num_heads)
    k = split(project(key, state, "w_k"), groups or num_heads)
    v = split(project(value, state, "w_v"), groups or num_heads)
    if spread is not None:
        k, v = spread(k), spread(v)
    if divisor is None:
        divisor = math.sqrt(q.shape[-1])
    heads = (q @ k.mT / divisor).softmax(axis) @ v
    return project(merge(heads), state, "w_o")


def head_scores(
    state: State,
    query: Tensor,
    key: Tensor,
    num_heads: int,
    split: Split = split,
) -> Tensor:
    """Return the scores of every head, ``(B, H, T, S)``."""
    q = split(project(query, state, "w_q"), num_heads)
    k = split(project(key, state, "w_k"), num_heads)
    return q @ k.mT / math.sqrt(q.shape[-1])


def masked_wrongly(
    state: State,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    weigh: Callable[[Tensor], Tensor],
) -> Tensor:
    """Compute multi-head attention with weights of ``weigh(scores)``."""
    v = split(project(value, state, "w_v"), num_heads)
    weights = weigh(head_scores(state, query, key, num_heads))
    return project(merge(weights @ v), state, "w_o")
