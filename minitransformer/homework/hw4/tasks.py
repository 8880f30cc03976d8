"""The tasks of homework 4, and what their checks share."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from minitransformer.config import PAD_ID, UNK_ID, TransformerConfig
from minitransformer.homework.checking import Wrong, call, numbers, plain
from minitransformer.homework.tasks import Task
from minitransformer.model import Transformer

shift = Task("hw4.shift", points=2)
masks = Task("hw4.masks", points=2)
encoder_layer = Task("hw4.EncoderLayer", points=3)
decoder_layer = Task("hw4.DecoderLayer", points=4)
transformer = Task("hw4.Transformer", points=4)
load = Task("hw4.load", points=3)
loss = Task("hw4.loss", points=2)
step = Task("hw4.step", points=0)

FIRST = UNK_ID + 1  # the first id that is no special token
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def two(found: Any, what: str) -> tuple[Any, Any]:
    """Take a pair apart, or say what is wanted."""
    if not isinstance(found, list | tuple) or len(found) != 2:
        raise Wrong(f"return two tensors: {what}.")
    first, second = found
    return first, second


def draw_ids(rows: int, longest: int, vocab_size: int = 60) -> Tensor:
    """Draw padded sentences; no word comes twice in a row.

    One of them is full, and the others are shorter, each by its own.

    Returns:
        ``(rows, longest)`` ids.
    """
    ids = torch.stack(
        [
            FIRST + torch.randperm(vocab_size - FIRST)[:longest]
            for _ in range(rows)
        ]
    )
    # All but one are of two words or more, and of unequal length.
    lengths = 2 + torch.randperm(longest - 2)[:rows]  # (rows,)
    lengths[torch.randint(rows, ())] = longest
    return ids.where(torch.arange(longest) < lengths[:, None], PAD_ID)


def name_sizes(
    vocab_size: int,
    d_model: int,
    num_heads: int,
    num_encoder_layers: int,
    num_decoder_layers: int,
    d_ff: int,
) -> dict[str, int]:
    """Name the sizes of a model as a learner's is made with."""
    return {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "num_heads": num_heads,
        "num_encoder_layers": num_encoder_layers,
        "num_decoder_layers": num_decoder_layers,
        "d_ff": d_ff,
    }


# Now one side has more layers, now the other.
SMALL = (name_sizes(23, 12, 4, 3, 2, 20), name_sizes(31, 16, 2, 1, 2, 10))
TINY = name_sizes(29, 8, 2, 2, 1, 6)


def ours_of(sizes: Mapping[str, int]) -> Transformer:
    """Make our model of some sizes, with random weights."""
    others = {k: v for k, v in sizes.items() if k != "vocab_size"}
    config = TransformerConfig(
        source_vocab_size=sizes["vocab_size"],
        dropout=0.0,
        max_len=32,
        final_norm=False,
        **others,  # type: ignore[arg-type]
    )
    return jittered(Transformer(config))


def jittered(module: ModuleT) -> ModuleT:
    """Move all weights, as fresh norms hide mistakes; end in evaluation."""
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module.eval().requires_grad_(False)


def their_names(ours: nn.Module) -> dict[str, Tensor]:
    """Return our weights under the names that a learner's module has."""
    return {
        name.replace("source_embedding", "embedding")
        .replace("add_norm", "norm")
        .replace(".norm.", "."): weight.clone()
        for name, weight in ours.state_dict().items()
        if not name.startswith("target_embedding")
    }


def method(module: Any, name: str) -> Any:
    """Return a method of a learner's module, to be called by `call`."""
    try:
        return getattr(module, name)
    except AttributeError:
        raise Wrong(
            f"a class made from nn.Module is wanted; this has no {name}."
        ) from None


def state_of(module: Any) -> dict[str, Tensor]:
    """Return the weights of a learner's module, by their names."""
    return {
        str(name): plain(weight)
        for name, weight in call(method(module, "state_dict")).items()
        if isinstance(weight, Tensor)
    }


def is_table(name: str) -> bool:
    """Tell a table that some keep with their weights: positions or masks."""
    words = ("position", "sinus", "table", "mask", "causal")
    return name == "pe" or any(word in name for word in words)


def compare_names(module: Any, weights: Mapping[str, Tensor]) -> None:
    """Raise `Wrong` unless a module has weights of these names and shapes.

    A model may do without the name of ``output.weight``, which is tied.
    """
    found = state_of(module)
    tied = {"output.weight"}
    missing = [name for name in weights if name not in {*found, *tied}]
    unknown = [
        name for name in found if name not in weights and not is_table(name)
    ]
    for part in ("encoder.", "decoder."):
        layers = [name for name in missing if name.startswith(part)]
        if layers and not any(name.startswith(part) for name in found):
            raise Wrong(
                f"torch sees no layers under {part[:-1]}: a plain list hides"
                " them from it, nn.ModuleList does not."
            )
    if missing or unknown:
        parts = [
            f"{word} {', '.join(names[:3])}{' ...' * (len(names) > 3)}"
            for word, names in (("missing:", missing), ("unknown:", unknown))
            if names
        ]
        raise Wrong(
            "its weights have other names than the table says;"
            f" {'; '.join(parts)}."
        )
    for name, weight in found.items():
        if name in weights and weight.shape != weights[name].shape:
            raise Wrong(
                f"{name} has shape {tuple(weight.shape)}, and should have"
                f" {tuple(weights[name].shape)}."
            )


def hand_over(module: Any, weights: Mapping[str, Tensor]) -> None:
    """Give weights to a learner's module, and put it in evaluation mode."""
    compare_names(module, weights)
    own = state_of(module)
    given = {name: weights.get(name, table) for name, table in own.items()}
    call(method(module, "load_state_dict"), given)
    call(method(module, "eval"))


def run(module: Any, shape: tuple[int, ...], *inputs: Tensor) -> Tensor:
    """Run a learner's module; what it returns must have this shape."""
    return numbers(call(module, *inputs), shape)
