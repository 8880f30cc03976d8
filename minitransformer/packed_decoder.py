"""One step of the decoder as a few calls of torch, for fast decoding.

A step reads every weight of the decoder for a handful of tokens, and the
modules around each product then cost as much as the products. Here the
projections that read the same vector are one matrix, the scale of the scores
is in the weights, and nothing stands between the calls.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.attention import MultiHeadAttention
from minitransformer.dropout import Dropout
from minitransformer.feed_forward import FeedForward
from minitransformer.layers import DecoderLayer, LayerState
from minitransformer.masks import leaves_no_key
from minitransformer.model import DecodingState, Transformer
from minitransformer.onednn import (
    linear,
    mkl_is_slow,
    onednn_layers,
    suits_onednn,
)
from minitransformer.recurrent import (
    RecurrentState,
    RecurrentTranslator,
    TranslationModel,
)
from minitransformer.residual import AddNorm, LayerNorm

State = DecodingState | RecurrentState
Step = Callable[[Tensor, Any], Tensor]  # Any: the state of its own model


def lay_out(model: Transformer) -> None:
    """Store the decoder's matrices in the order in which steps read them.

    MKL and oneDNN multiply a few rows faster by a matrix ``(D_in, D_out)``
    whose rows lie together; torch keeps its columns together. No number
    changes, and no shape.
    """
    if not mkl_is_slow():  # elsewhere it was not measured
        return
    for part in (*model.decoder, model.output):
        for module in part.modules():
            if isinstance(module, nn.Linear):
                rows = module.weight.data.T.contiguous()
                module.weight.data = rows.T


def fast_start(model: TranslationModel, source: Tensor) -> tuple[Any, Step]:
    """Read the source, and return the state and what `fast_step` does.

    Args:
        model: A model that won't change while the step is in use.
        source: Token ids, ``(B, S)``.
    """
    with onednn_layers():
        state = model.start(source)
    return state, fast_step(model, state)


def fast_step(model: TranslationModel, state: State) -> Step:
    """Return ``model.step``, or what does the same in less time.

    Args:
        model: A model that won't change while the step is in use.
        state: Its state, from ``model.start``.

    Returns:
        What turns the newest tokens ``(B·K,)`` and the state into logits
        ``(B·K, V)``.
    """
    if (
        isinstance(model, RecurrentTranslator)
        or isinstance(state, RecurrentState)
        or type(model).step is not Transformer.step
        or "step" in vars(model)
        or model.training
        or model.output.bias is not None
        or leaves_no_key(state.source_mask)
        or not all(map(is_plain, (*model.decoder, model.output)))
    ):
        return model.step
    return PackedDecoder(model).step


PLAIN = {
    AddNorm,
    DecoderLayer,
    Dropout,
    FeedForward,
    LayerNorm,
    MultiHeadAttention,
    nn.Linear,
}


def is_plain(part: nn.Module) -> bool:
    """Say whether a part of the model does what its class says.

    A hook, a method that was replaced (as `recorded_attention` does), a layer
    of another kind or one that still trains must be called to have its effect.
    """
    return all(
        type(module) in PLAIN
        and not module.training
        and not (module._forward_hooks or module._forward_pre_hooks)
        and vars(module).keys().isdisjoint(vars(type(module)))
        for module in part.modules()
    )


class PackedDecoder:
    """The decoder of a model, for one step at a time.

    Args:
        model: The model, whose weights are copied where they are packed.
    """

    def __init__(self, model: Transformer):
        self.model = model
        self.output = pack(model.output)
        self.layers = [
            PackedLayer(cast(DecoderLayer, layer)) for layer in model.decoder
        ]

    def step(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """Do `Transformer.step`."""
        model = self.model
        x = model.embed_target(tokens[:, None], state.position)[:, 0]
        hidden = None
        if state.source_mask is not None:
            hidden = torch.zeros_like(state.source_mask, dtype=x.dtype)
            hidden.masked_fill_(~state.source_mask, -math.inf)
        for layer, layer_state in zip(self.layers, state.layers, strict=True):
            x = layer.step(x, layer_state, hidden)
        state.position += 1
        return self.output(model.decoder_norm(x))


class Linear(NamedTuple):
    """A matrix ``(D_in, D_out)`` and what is added to its product."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        if mkl_is_slow() and suits_onednn(x, self.weight):
            return linear(x, self.weight.T, self.bias)
        return torch.addmm(self.bias, x, self.weight)


def pack(*parts: nn.Linear, scale: float = 1.0) -> Linear:
    """Put linear layers side by side, the first of them times ``scale``."""
    weights: list[Tensor] = [part.weight for part in parts]
    biases: list[Tensor] = [
        weight.new_zeros(len(weight)) if part.bias is None else part.bias
        for part, weight in zip(parts, weights, strict=True)
    ]
    if scale != 1:
        weights[0], biases[0] = weights[0] * scale, biases[0] * scale
    if len(parts) == 1:  # the model's own, not copied
        return Linear(weights[0].T, biases[0])
    joined = torch.cat([weight.T for weight in weights], dim=1)
    return Linear(joined, torch.cat(biases))


class PackedLayer:
    """`DecoderLayer.step` on a copy of the layer's weights.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: DecoderLayer):
        own, cross = layer.self_attention, layer.cross_attention
        self.num_heads = own.num_heads
        scale = 1 / math.sqrt(own.w_q.out_features // own.num_heads)
        self.qkv = pack(own.w_q, own.w_k, own.w_v, scale=scale)
        self.own_output = pack(own.w_o)
        self.query = pack(cross.w_q, scale=scale)
        self.cross_output = pack(cross.w_o)
        self.inner = pack(layer.feed_forward.linear1)
        self.outer = pack(layer.feed_forward.linear2)
        self.add_norms = layer.add_norm1, layer.add_norm2, layer.add_norm3

    def step(
        self, x: Tensor, state: LayerState, hidden: Tensor | None
    ) -> Tensor:
        """Do `DecoderLayer.step`.

        Args:
            x: The newest token of each row, ``(B·K, D)``.
            state: What the layer remembers.
            hidden: ``-inf`` where the source is padding, ``(B, 1, 1, S)``.

        Returns:
            ``(B·K, D)``.
        """
        first, second, third = self.add_norms
        x = add_norm(x, first, self.look_back, state)
        x = add_norm(x, second, self.look_at_source, state, hidden)
        return add_norm(x, third, self.think)

    def look_back(self, x: Tensor, state: LayerState) -> Tensor:
        """Attend to the tokens so far, the newest one included."""
        N, H = len(x), self.num_heads
        qkv = self.qkv(x).view(N, 3, H, 1, -1).transpose(0, 1)
        state.past = torch.cat([state.past, qkv[1:]], dim=3)
        k, v = state.past.flatten(1, 2)  # (B·K·H, t, d_k)
        q = qkv[0].reshape(N * H, 1, -1)  # (B·K·H, 1, d_k)
        weights = torch.bmm(q, k.mT).softmax(dim=-1)  # (B·K·H, 1, t)
        return self.own_output(torch.bmm(weights, v).view(N, -1))

    def look_at_source(
        self, x: Tensor, state: LayerState, hidden: Tensor | None
    ) -> Tensor:
        """Attend to the source, all beginnings of a sentence together."""
        B, H, S = state.memory.shape[1:4]
        k, v = state.memory.flatten(1, 2)  # (B·H, S, d_k)
        q = self.query(x).view(B, -1, H, k.shape[-1]).transpose(1, 2)
        K = q.shape[2]
        scores = torch.bmm(q.reshape(B * H, K, -1), k.mT)  # (B·H, K, S)
        if hidden is not None:
            scores.view(B, H, K, S).add_(hidden)
        heads = torch.bmm(scores.softmax(dim=-1), v).view(B, H, K, -1)
        return self.cross_output(heads.transpose(1, 2).reshape(x.shape))

    def think(self, x: Tensor) -> Tensor:
        """Do the feed-forward layer."""
        return self.outer(self.inner(x).relu_())


def add_norm(
    x: Tensor, module: AddNorm, sublayer: Callable[..., Tensor], *more: object
) -> Tensor:
    """Do what ``module`` does, without dropout."""
    if module.norm_first:
        return sublayer(normalise(x, module.norm), *more).add_(x)
    return normalise(sublayer(x, *more).add_(x), module.norm)


def normalise(x: Tensor, norm: LayerNorm) -> Tensor:
    """Do `LayerNorm` without calling a module."""
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)
