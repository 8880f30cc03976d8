"""Answers to hw4, made by tools/homework.py."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.homework import check


class MultiHeadAttention(nn.Module):
    """Attention with several heads.

    Its layers are ``w_q``, ``w_k``, ``w_v`` and ``w_o``, with biases.

    Args:
        d_model: Width ``D``.
        num_heads: Heads ``H``.
    """

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.w_q = nn.Linear(d_model, d_model)
        self.w_k = nn.Linear(d_model, d_model)
        self.w_v = nn.Linear(d_model, d_model)
        self.w_o = nn.Linear(d_model, d_model)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor
    ) -> Tensor:
        """Let ``query`` attend to ``key`` and mix ``value``.

        Args:
            query: ``(B, T, D)``.
            key: ``(B, S, D)``.
            value: ``(B, S, D)``.
            mask: Boolean, broadcastable to ``(B, H, T, S)``; true: may attend.

        Returns:
            ``(B, T, D)``.
        """
        projected = self.w_q(query), self.w_k(key), self.w_v(value)
        q, k, v = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x in projected
        )
        scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, S)
        weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
        heads = (weights @ v).transpose(1, 2)  # (B, T, H, d_k)
        output: Tensor = self.w_o(heads.flatten(-2))  # (B, T, D)
        return output


class FeedForward(nn.Module):
    """Widen each token, bend, and narrow it again.

    Its layers are ``linear1`` and ``linear2``, with a ReLU in between.

    Args:
        d_model: Width ``D``.
        d_ff: Inner width.
    """

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x (B, T, D)`` to ``(B, T, D)``, token by token."""
        output: Tensor = self.linear2(self.linear1(x).relu())  # (B, T, D)
        return output


def sinusoidal(length: int, d_model: int) -> Tensor:
    """Return the encodings of positions 0, 1, ..., ``(length, d_model)``.

    Feature ``2i`` is ``sin(t / 10000^(2i / D))``, and ``2i + 1`` the cosine.
    """
    waves = 10_000 ** (torch.arange(0, d_model, 2) / d_model)  # (D / 2,)
    angles = torch.arange(length)[:, None] / waves  # (T, D / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def shift(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Make a decoder's input and its labels.

    Args:
        ids: Words, ``(B, T)``, padded with ``PAD_ID``.

    Returns:
        What is read, from BOS on, and what is to be predicted, up to EOS:
        ``(B, T + 1)`` both.
    """
    first = ids.new_full((len(ids), 1), BOS_ID)  # (B, 1)
    reads = torch.cat([first, ids], dim=1)  # (B, T + 1)
    labels = F.pad(ids, (0, 1), value=PAD_ID)  # (B, T + 1)
    lengths = (ids != PAD_ID).sum(dim=1)  # (B,)
    labels[torch.arange(len(ids)), lengths] = EOS_ID
    return reads, labels


def masks(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Make a Transformer's masks; true means: may attend.

    Args:
        source: Ids, ``(B, S)``.
        target: Ids that the decoder reads, ``(B, T)``.

    Returns:
        The source mask ``(B, 1, 1, S)`` and the target mask
        ``(B, 1, T, T)``, boolean.
    """
    source_mask = (source != PAD_ID)[:, None, None, :]  # (B, 1, 1, S)
    T = target.shape[1]
    causal = torch.ones(T, T, dtype=torch.bool).tril()  # (T, T)
    words = (target != PAD_ID)[:, None, None, :]  # (B, 1, 1, T)
    return source_mask, words & causal


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, in pre-norm.

    Args:
        d_model: Width ``D``.
        num_heads: Heads ``H``.
        d_ff: Inner width of the feed-forward part.
    """

    def __init__(self, d_model: int, num_heads: int, d_ff: int):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, source_mask: Tensor) -> Tensor:
        """Let the tokens look at each other, then think each for itself.

        Args:
            x: ``(B, S, D)``.
            source_mask: ``(B, 1, 1, S)``.

        Returns:
            ``(B, S, D)``.
        """
        y = self.norm1(x)  # (B, S, D)
        x = x + self.self_attention(y, y, y, source_mask)  # (B, S, D)
        y = self.norm2(x)  # (B, S, D)
        x = x + self.feed_forward(y)
        return x


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward, in pre-norm.

    Args:
        d_model: Width ``D``.
        num_heads: Heads ``H``.
        d_ff: Inner width of the feed-forward part.
    """

    def __init__(self, d_model: int, num_heads: int, d_ff: int):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads)
        self.cross_attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.norm3 = nn.LayerNorm(d_model)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        target_mask: Tensor,
        source_mask: Tensor,
    ) -> Tensor:
        """Look at the target so far, at the source, then think.

        Args:
            x: The target, ``(B, T, D)``.
            memory: What the encoder made of the source, ``(B, S, D)``.
            target_mask: ``(B, 1, T, T)``.
            source_mask: ``(B, 1, 1, S)``.

        Returns:
            ``(B, T, D)``.
        """
        y = self.norm1(x)  # (B, T, D)
        x = x + self.self_attention(y, y, y, target_mask)  # (B, T, D)
        y = self.norm2(x)  # (B, T, D)
        found = self.cross_attention(y, memory, memory, source_mask)
        x = x + found  # (B, T, D)
        y = self.norm3(x)  # (B, T, D)
        x = x + self.feed_forward(y)
        return x


class Transformer(nn.Module):
    """Turn source ids into scores for target ids.

    Args:
        vocab_size: Tokens of the shared vocabulary, ``V``.
        d_model: Width ``D``.
        num_heads: Heads ``H``.
        num_encoder_layers: Layers of the encoder.
        num_decoder_layers: Layers of the decoder.
        d_ff: Inner width of the feed-forward parts.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        d_model: int,
        num_heads: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        d_ff: int,
    ):
        super().__init__()
        sizes = d_model, num_heads, d_ff
        self.embedding = nn.Embedding(vocab_size, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        self.encoder = nn.ModuleList(
            EncoderLayer(*sizes) for _ in range(num_encoder_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(*sizes) for _ in range(num_decoder_layers)
        )
        self.output = nn.Linear(d_model, vocab_size, bias=False)
        self.output.weight = self.embedding.weight

    def embed(self, ids: Tensor) -> Tensor:
        """Turn ids ``(B, T)`` into scaled vectors ``(B, T, D)``."""
        D = self.embedding.embedding_dim
        vectors: Tensor = self.embedding(ids) * math.sqrt(D)  # (B, T, D)
        return vectors

    def encode(self, source: Tensor) -> Tensor:
        """Read the source ids ``(B, S)``; return the memory ``(B, S, D)``."""
        hidden, _ = masks(source, source)
        x = self.embed(source)  # (B, S, D)
        x = x + sinusoidal(*x.shape[1:])
        for layer in self.encoder:
            x = layer(x, hidden)
        return x

    def decode(self, target: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        """Score what follows each target token.

        Args:
            target: Ids, ``(B, T)``.
            memory: What `encode` returned, ``(B, S, D)``.
            source: The source ids, ``(B, S)``, for their mask.

        Returns:
            Logits, ``(B, T, V)``.
        """
        source_mask, target_mask = masks(source, target)
        x = self.embed(target)  # (B, T, D)
        x = x + sinusoidal(x.shape[1], x.shape[2])
        for layer in self.decoder:
            x = layer(x, memory, target_mask, source_mask)
        logits: Tensor = self.output(x)  # (B, T, V)
        return logits

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Score every next token: ids in, logits ``(B, T, V)`` out."""
        return self.decode(target, self.encode(source), source)


def load(tensors: dict[str, Tensor], sizes: dict[str, int]) -> Transformer:
    """Make a model of trained weights.

    Args:
        tensors: The package's names and tensors, matrices as int8 ``(N, M)``
            and their scales ``(N, 1)``.
        sizes: Keywords for `Transformer`.

    Returns:
        The model.
    """
    weights = {}
    for name, tensor in tensors.items():
        if name.endswith(".scale"):
            continue
        if name + ".scale" in tensors:
            tensor = tensor * tensors[name + ".scale"]
        name = name.replace("source_embedding", "embedding")
        name = name.replace("add_norm", "norm").replace(".norm.", ".")
        weights[name] = tensor
    weights["output.weight"] = weights["embedding.weight"]
    model = Transformer(**sizes)
    model.load_state_dict(weights)
    return model.eval()


def loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean cost of the labels that are not PAD, in nats.

    Args:
        logits: ``(B, T, V)``.
        labels: Ids, ``(B, T)``.
        smoothing: The share ε that is spread over all ``V`` tokens.

    Returns:
        A scalar.
    """
    log_p = logits.log_softmax(dim=-1)  # (B, T, V)
    own = -log_p.gather(-1, labels[..., None]).squeeze(-1)  # (B, T)
    spread = -log_p.mean(dim=-1)  # (B, T)
    costs = (1 - smoothing) * own + smoothing * spread  # (B, T)
    real = labels != PAD_ID
    return costs[real].mean()


def step(
    tensors: dict[str, Tensor], sizes: dict[str, int], source: Tensor
) -> Callable[[Tensor], Tensor]:
    """Prepare to decode ``source`` token by token.

    Args:
        tensors: As for `load`.
        sizes: As for `load`.
        source: Ids, ``(B, S)``.

    Returns:
        A function from the newest tokens ``(B,)`` to logits ``(B, V)``.
    """
    model, position = load(tensors, sizes), 0
    layers: Any = model.decoder
    source_mask, _ = masks(source, source)
    memory = model.encode(source)  # (B, S, D)

    def split(x: Tensor) -> Tensor:
        heads = torch.unflatten(x, -1, (sizes["num_heads"], -1))
        return heads.transpose(1, 2)

    def keys_values(part: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        return split(part.w_k(x)), split(part.w_v(x))

    def attend(
        part: Any, x: Tensor, kept: tuple[Tensor, Tensor], mask: Any
    ) -> Tensor:
        q = split(part.w_q(x))  # (B, H, 1, d_k)
        heads = F.scaled_dot_product_attention(q, *kept, mask)
        output: Tensor = part.w_o(heads.transpose(1, 2).flatten(-2))
        return output

    across = [keys_values(layer.cross_attention, memory) for layer in layers]
    past = [(k[:, :, :0], v[:, :, :0]) for k, v in across]

    @torch.no_grad()
    def next_logits(tokens: Tensor) -> Tensor:
        nonlocal position
        x = model.embed(tokens[:, None])  # (B, 1, D)
        x = x + sinusoidal(position + 1, sizes["d_model"])[position]
        for i, layer in enumerate(layers):
            y = layer.norm1(x)  # (B, 1, D)
            k, v = keys_values(layer.self_attention, y)
            past[i] = (
                torch.cat([past[i][0], k], dim=2),
                torch.cat([past[i][1], v], dim=2),
            )
            x = x + attend(layer.self_attention, y, past[i], None)
            y = layer.norm2(x)  # (B, 1, D)
            x = x + attend(layer.cross_attention, y, across[i], source_mask)
            x = x + layer.feed_forward(layer.norm3(x))
        position += 1
        logits: Tensor = model.output(x[:, 0])  # (B, V)
        return logits

    return next_logits
