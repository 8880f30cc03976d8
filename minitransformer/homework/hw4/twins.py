"""Our layers and our model, right or with one slip that learners make.

A slip is named by a few words; without one, the results are the package's.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.config import PAD_ID
from minitransformer.layers import DecoderLayer, EncoderLayer
from minitransformer.masks import padding_mask
from minitransformer.model import Transformer

Sublayer = tuple[nn.Module, Callable[[Tensor], Tensor]]
EVERY = (1, 2, 3)


def run_stream(
    x: Tensor, sublayers: Sequence[Sublayer], slip: str, at: Sequence[int]
) -> Tensor:
    """Let norms and sublayers add to a stream, in pre-norm.

    Args:
        x: ``(B, T, D)``.
        sublayers: A norm and a function each.
        slip: What goes wrong; other names than those below do nothing here.
        at: The sublayers in which it does, counted from 1.
    """
    for number, (norm, work) in enumerate(sublayers, 1):
        here = slip if number in at else ""
        y = norm(x)
        if here == "post-norm":
            x = norm(x + work(x))
        elif here == "norm behind":
            x = x + norm(work(x))
        elif here == "normed stream":
            x = y + work(y)
        elif here == "no residual":
            x = work(y)
        elif here == "no norm":
            x = x + work(x)
        elif here == "other norm":
            x = x + work(sublayers[number % len(sublayers)][0](x))
        elif here == "left out":
            continue
        else:
            x = x + work(y)
    return x


def encoder_layer(
    ours: EncoderLayer,
    x: Tensor,
    mask: Tensor,
    slip: str = "",
    at: Sequence[int] = EVERY,
) -> Tensor:
    """Run an encoder layer, ``(B, S, D)``, with a slip."""
    first = x

    def attend(y: Tensor) -> Tensor:
        key = first if slip == "bare keys" else y
        hidden = {"no mask": None, "turned mask": ~mask}.get(slip, mask)
        return cast(Tensor, ours.self_attention(y, key, key, hidden))

    def think(y: Tensor) -> Tensor:
        if slip == "no relu":
            y = ours.feed_forward.linear1(y)
            return cast(Tensor, ours.feed_forward.linear2(y))
        if slip == "in parallel":
            y = ours.add_norm2.norm(first)
        return cast(Tensor, ours.feed_forward(y))

    sublayers = [(ours.add_norm1.norm, attend), (ours.add_norm2.norm, think)]
    return run_stream(x, sublayers, slip, at)


def decoder_layer(
    ours: DecoderLayer,
    x: Tensor,
    memory: Tensor,
    target_mask: Tensor | None,
    source_mask: Tensor | None,
    slip: str = "",
    at: Sequence[int] = EVERY,
) -> Tensor:
    """Run a decoder layer, ``(B, T, D)``, with a slip."""
    first = x

    def look_back(y: Tensor) -> Tensor:
        keys: dict[str, Tensor] = {"bare keys": first, "memory": memory}
        key = keys.get(slip, y)
        hidden = {"open": None, "source's": source_mask}.get(slip, target_mask)
        return cast(Tensor, ours.self_attention(y, key, key, hidden))

    def look_across(y: Tensor) -> Tensor:
        norm = ours.add_norm2.norm
        query, key, value = {
            "swapped": (memory, y, y),
            "target only": (y, y, y),
            "target's values": (y, memory, y),
            "target's keys": (y, y, memory),
            "normed memory": (y, norm(memory), norm(memory)),
            "early query": (norm(first), memory, memory),
        }.get(slip, (y, memory, memory))
        hidden = {"seen": None, "target's": target_mask}.get(slip, source_mask)
        return cast(Tensor, ours.cross_attention(query, key, value, hidden))

    def think(y: Tensor) -> Tensor:
        return cast(Tensor, ours.feed_forward(y))

    sublayers = [
        (ours.add_norm1.norm, look_back),
        (ours.add_norm2.norm, look_across),
        (ours.add_norm3.norm, think),
    ]
    if slip == "other order":
        sublayers = [sublayers[i] for i in (1, 0, 2)]
    return run_stream(x, sublayers, slip, at)


def embed(
    ours: Transformer, ids: Tensor, slip: str = "", side: str = ""
) -> Tensor:
    """Embed ids of one side, ``(B, T, D)``, with a slip.

    A slip that ends with a side, such as ``"no scale, source"``, is made on
    that side alone.
    """
    slip, _, only = slip.partition(", ")
    if only and only != side:
        slip = ""
    x = ours.source_embedding(ids)  # (B, T, D)
    T, D = x.shape[1:]
    root = math.sqrt(D)
    table = cast(Any, ours.source_positions).table
    places = table[:T]  # (T, D)
    if slip == "scaled positions":
        return cast(Tensor, (x + places) * root)
    if slip == "late positions":
        places = table[1 : T + 1]
    if slip == "halves":
        places = places.view(T, -1, 2).mT.flatten(1)
    if slip in ("no positions", "neither"):
        places = places * 0
    scale = {
        "no scale": 1.0,
        "neither": 1.0,
        "scale D": D,
        "divided": 1 / root,
    }
    return cast(Tensor, x * scale.get(slip, root) + places)


def run_model(
    ours: Transformer, source: Tensor, target: Tensor, slip: str = ""
) -> Tensor:
    """Score a target, ``(B, T, V)``, with a slip."""
    hidden = padding_mask(source)
    x = embed(ours, source, slip, "source")
    states = [x]
    for layer in ours.encoder:
        open_ = slip in ("encoder sees padding", "padding seen")
        x = layer(x, None if open_ else hidden)
        states.append(x)
    if slip == "encoder backwards":
        x = states[0]
        for layer in reversed(ours.encoder):
            x = layer(x, hidden)
    memory = {"no encoder": states[0], "first layer": states[1]}.get(slip, x)
    if slip == "last layer":
        memory = ours.encoder[-1](states[0], hidden)
    y = embed(ours, target, slip, "target")
    layers = list(ours.decoder)
    if slip == "one decoder layer":
        layers = layers[:1]
    for number, layer in enumerate(layers):
        if slip == "side by side":
            memory = states[1:][min(number, len(states) - 2)]
        open_ = slip in ("decoder sees padding", "padding seen")
        y = layer(y, memory, None if open_ else hidden)
    D = y.shape[-1]
    if slip == "final norm":
        y = F.layer_norm(y, (D,))
    if slip == "scaled output":
        y = y / math.sqrt(D)
    return cast(Tensor, ours.output(y))


def real(target: Tensor) -> Tensor:
    """Say which places are no padding, ``(B, T)``."""
    return target != PAD_ID
