"""Boolean attention masks: ``True`` marks a key that may be attended to.

Masks combine with ``&`` and broadcast to ``(B, H, T, S)``. Others say the
same in other ways; the functions named ``to_`` and ``from_`` translate.
"""

import math

import torch
from torch import Tensor

from minitransformer.errors import UserError

# Whoever hides a key by a finite number takes -10,000 or less, which bfloat16
# rounds; no score comes near this one.
HIDDEN_BELOW = -5_000.0


def readable(x: Tensor) -> bool:
    """Say whether numbers can be looked at now, without waiting for them.

    A GPU would make the host wait, and while torch compiles or exports a
    model there are no numbers yet.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def leaves_no_key(mask: Tensor | None) -> bool:
    """Say whether a mask hides every key from some query."""
    return mask is not None and not bool(mask.any(dim=-1).all())


def causal_mask(size: int, device: torch.device | None = None) -> Tensor:
    """Let position ``t`` see positions ``0`` to ``t`` only.

    Args:
        size: Number of positions ``T``.
        device: Where the mask is made.

    Returns:
        The mask, ``(T, T)`` bool (Vaswani et al., 2017, section 3.2.3).

    >>> causal_mask(3).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()


def padding_mask(ids: Tensor, pad_id: int = 0) -> Tensor:
    """Hide padding keys from every head and every query.

    Args:
        ids: Token ids, ``(B, S)``.
        pad_id: The id that fills short sentences up.

    Returns:
        The mask, ``(B, 1, 1, S)`` bool.

    >>> padding_mask(torch.tensor([[5, 7, 0]]))
    tensor([[[[ True,  True, False]]]])
    """
    return (ids != pad_id)[:, None, None, :]


# Other conventions ---


def to_blocked(mask: Tensor) -> Tensor:
    """Turn our mask into one whose ``True`` means blocked.

    `torch.nn.MultiheadAttention` and `torch.nn.Transformer` want that.

    Args:
        mask: Boolean, any shape; ``True`` = may attend.

    Returns:
        The same shape, bool; ``True`` = blocked.

    Raises:
        UserError: If the mask is not boolean.

    >>> to_blocked(causal_mask(2)).int()
    tensor([[0, 1],
            [0, 0]], dtype=torch.int32)
    """
    _check_boolean(mask)
    return ~mask


def from_blocked(mask: Tensor) -> Tensor:
    """Turn a mask whose ``True`` means blocked into ours.

    Args:
        mask: Boolean, any shape; ``True`` = blocked.

    Returns:
        The same shape, bool; ``True`` = may attend.

    Raises:
        UserError: If the mask is not boolean.

    >>> from_blocked(torch.tensor([False, False, True]))
    tensor([ True,  True, False])
    """
    _check_boolean(mask)
    return ~mask


def to_additive(mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn our mask into numbers to be added to the scores.

    Args:
        mask: Boolean, any shape; ``True`` = may attend.
        dtype: Of the scores.

    Returns:
        The same shape, with 0 where a key may be attended to and minus
        infinity where not.

    Raises:
        UserError: If the mask is not boolean.

    >>> to_additive(causal_mask(2))
    tensor([[0., -inf],
            [0., 0.]])
    """
    _check_boolean(mask)
    added = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return added.masked_fill(~mask, -math.inf)


def from_additive(added: Tensor) -> Tensor:
    """Turn numbers that are added to scores into our mask.

    Args:
        added: Any shape: 0 for keys that may be attended to; for the others
            minus infinity, or a large negative number such as -10,000, -1e9
            or the least of its dtype.

    Returns:
        The same shape, bool; ``True`` = may attend.

    Raises:
        UserError: If other numbers are among them: those say more than a
            mask can, and would be lost.

    >>> from_additive(torch.tensor([0.0, -1e9, -math.inf]))
    tensor([ True, False, False])
    """
    may_attend = added == 0
    known = may_attend | (added <= HIDDEN_BELOW)
    if not known.all():
        other = added[~known][0].item()
        raise UserError(
            f"{other:g} neither hides a key nor leaves its score alone, so"
            " this is no mask: add it to the scores yourself."
        )
    return may_attend


def from_ones(mask: Tensor) -> Tensor:
    """Turn ones and zeros into our mask.

    Args:
        mask: Any shape and dtype; 1 = may attend, 0 = blocked.

    Returns:
        The same shape, bool; ``True`` = may attend.

    Raises:
        UserError: If it holds other numbers.

    >>> from_ones(torch.tensor([1, 1, 0]))
    tensor([ True,  True, False])
    """
    may_attend = mask == 1
    if not (may_attend | (mask == 0)).all():
        raise UserError(
            "The mask holds other numbers than 0 and 1: if they are added to"
            " scores, use from_additive()."
        )
    return may_attend


def from_lengths(lengths: Tensor, size: int | None = None) -> Tensor:
    """Hide what lies behind the end of each sentence.

    Args:
        lengths: Number of real tokens of each sentence, ``(B,)``; they stand
            on the left.
        size: Number of positions ``S``; the greatest length if not given.

    Returns:
        The mask, ``(B, 1, 1, S)`` bool, as from `padding_mask`.

    Raises:
        UserError: If ``lengths`` has not one dimension, or one of them is
            greater than ``size``.

    >>> from_lengths(torch.tensor([1, 3]))[:, 0, 0]
    tensor([[ True, False, False],
            [ True,  True,  True]])
    """
    if lengths.ndim != 1:
        raise UserError(
            f"The lengths have shape {tuple(lengths.shape)}: pass one number"
            " for each sentence, (B,)."
        )
    longest = int(lengths.max()) if len(lengths) else 0
    if size is None:
        size = longest
    if longest > size:
        raise UserError(
            f"A sentence of {longest} tokens has no room in {size} positions:"
            " pass a larger size."
        )
    positions = torch.arange(size, device=lengths.device)
    return (positions < lengths[:, None])[:, None, None, :]


def _check_boolean(mask: Tensor) -> None:
    """Refuse numbers: ``~1`` is -2, which counts as true."""
    if mask.dtype != torch.bool:
        raise UserError(
            f"The mask is {mask.dtype}: pass a torch.bool mask, or turn ones"
            " and zeros into one by from_ones()."
        )
