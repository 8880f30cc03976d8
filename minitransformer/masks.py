"""Boolean attention masks: ``True`` marks a key that may be attended to.

Masks combine with ``&`` and broadcast to ``(B, H, T, S)``.
"""

import torch
from torch import Tensor


def readable(x: Tensor) -> bool:
    """Say whether numbers can be looked at now, without waiting for them.

    A GPU would make the host wait, and while torch compiles or exports a
    model there are no numbers yet.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


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
