"""The tasks of homework 3, and what their checks share."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import Wrong, call, numbers
from minitransformer.homework.tasks import Task

sinusoidal = Task("hw3.sinusoidal", points=3)
embed = Task("hw3.embed", points=3)
dropout = Task("hw3.dropout", points=3)
layer_norm = Task("hw3.LayerNorm", points=4)
feed_forward = Task("hw3.FeedForward", points=3)
add_norm = Task("hw3.AddNorm", points=4)
rotary = Task("hw3.rotary", points=0)
rms_norm = Task("hw3.RMSNorm", points=0)

Sizes = Mapping[str, tuple[int, ...]]
Hints = Mapping[str, str]

LOST: Hints = {
    "must match the size of tensor": "A mean or a variance loses the dimension"
    " it is taken over; keepdim=True keeps it, with size 1."
}


def a_size(low: int, high: int) -> int:
    """Draw a size, from ``low`` to ``high``."""
    return int(torch.randint(low, high + 1, ()).item())


def a_chance(low: float, high: float) -> float:
    """Draw a chance between two others, with two decimals."""
    return round(low + (high - low) * torch.rand(()).item(), 2)


def row(vector: Tensor, most: int = 4) -> str:
    """Write the first numbers of a vector, as a reader may compare them."""
    text = ", ".join(f"{x:.3f}" for x in vector.flatten().tolist()[:most])
    return f"({text}, ...)" if vector.numel() > most else f"({text})"


def hinted(hints: Hints, function: Any, *inputs: Any) -> Any:
    """Call a learner's code, and add a hint to the error it may raise.

    Args:
        hints: What to add to errors of which words, a pattern.
        function: The learner's.
        inputs: What it gets.

    Raises:
        Wrong: As `call` does.
    """
    try:
        return call(function, *inputs)
    except Wrong as wrong:
        for pattern, hint in hints.items():
            if re.search(pattern, str(wrong)):
                words = str(wrong).removesuffix(".")
                raise Wrong(f"{words}. {hint}") from wrong
        raise


def parameters(module: Any, wanted: Sizes) -> dict[str, Tensor]:
    """Return what a learner's module saves, and see to names and shapes.

    Args:
        module: The learner's.
        wanted: The shape of each parameter.

    Raises:
        Wrong: If one is missing, has another shape, or is too many.
    """
    method = getattr(module, "state_dict", None)
    if method is None:
        raise Wrong("the class must be a torch nn.Module, to keep parameters.")
    found = {
        str(name): numbers(value) for name, value in dict(call(method)).items()
    }
    missing = [name for name in wanted if name not in found]
    if missing:
        raise Wrong(
            f"a parameter {missing[0]} is missing. It keeps"
            f" {', '.join(found) or 'none'}; wanted are {', '.join(wanted)}."
        )
    for name, shape in wanted.items():
        if found[name].shape != shape:
            raise Wrong(
                f"{name} has shape {tuple(found[name].shape)}, and should"
                f" have {shape}."
            )
    if len(found) > len(wanted):
        extra = next(name for name in found if name not in wanted)
        raise Wrong(f"there is a parameter too many: {extra}.")
    return found
