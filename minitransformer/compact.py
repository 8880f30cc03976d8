"""Weights kept in a quarter of the room, for models that travel."""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"


def compact(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round each matrix to whole numbers from -127 to 127.

    Each row has a scale of its own, so that its largest number is kept and
    the others are off by at most a 254th of it. What is no matrix (a norm's
    gain, a bias) stays as it is.

    Args:
        weights: Named tensors.

    Returns:
        The same names; beside each matrix ``(N, M)``, now int8, its scales
        ``(N, 1)`` under its name and ``".scale"``.
    """
    kept = {}
    for name, weight in weights.items():
        if weight.ndim == 2:
            scale = weight.abs().amax(dim=1, keepdim=True) / 127
            scale = scale.clamp(min=torch.finfo(scale.dtype).tiny)
            kept[name] = (weight / scale).round().to(torch.int8)
            kept[name + SCALE] = scale
        else:
            kept[name] = weight
    return kept


def restore(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Multiply the matrices of `compact` by their scales again.

    Args:
        kept: What `compact` returned; other tensors come back as they are.

    Returns:
        Named tensors, as floats.
    """
    return {
        name: tensor * kept[name + SCALE] if name + SCALE in kept else tensor
        for name, tensor in kept.items()
        if not name.endswith(SCALE)
    }
