"""The encoder-decoder Transformer (Vaswani et al., 2017, figure 1)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from minitransformer.config import PAD_ID, TransformerConfig
from minitransformer.dropout import Dropout
from minitransformer.errors import UserError
from minitransformer.layers import DecoderLayer, EncoderLayer, LayerState
from minitransformer.masks import padding_mask, readable
from minitransformer.positions import LearnedPositions, SinusoidalPositions
from minitransformer.residual import LayerNorm

POSITIONS = {"sinusoidal": SinusoidalPositions, "learned": LearnedPositions}


@dataclass
class DecodingState:
    """What the decoder remembers between two calls of `Transformer.step`.

    A batch of ``B`` sentences has ``B·K`` rows: ``K`` beginnings of each
    translation, side by side.

    Attributes:
        position: Number of target tokens read so far.
        source_mask: ``(B, 1, 1, S)`` bool; ``None`` if nothing is hidden.
        layers: One `LayerState` for each decoder layer.
    """

    position: int
    source_mask: Tensor | None
    layers: list[LayerState]

    def reorder(self, index: Tensor) -> None:
        """Say which row each row goes on from.

        A row may be taken several times (beams that share a beginning) or
        not at all (sentences that are finished).

        Args:
            index: ``(B', K')``, or ``(B',)`` for ``K' = 1``. The rows that
                stand together belong to one sentence.
        """
        if index.ndim == 1:
            index = index[:, None]  # (B', 1)
        rows = index.flatten()  # (B'·K',)
        num_rows = self.layers[0].past.shape[1]
        num_sentences = self.layers[0].memory.shape[1]
        sentences = index[:, 0] // (num_rows // num_sentences)  # (B',)
        moved = sentences.tolist() != list(range(num_sentences))
        if moved and self.source_mask is not None:
            self.source_mask = self.source_mask.index_select(0, sentences)
        for layer in self.layers:
            layer.past = layer.past.index_select(1, rows)
            if moved:
                layer.memory = layer.memory.index_select(1, sentences)


class Transformer(nn.Module):
    """Turn source token ids into scores for target tokens.

    Every sequence is batch first and padded on the right with id 0. The
    model makes its own masks from the ids.

    Args:
        config: The sizes; see `TransformerConfig`.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        layer_sizes = (
            config.d_model,
            config.num_heads,
            config.d_ff,
            config.dropout,
            config.norm_first,
        )
        self.source_embedding = nn.Embedding(
            config.source_vocab_size, config.d_model
        )
        self.target_embedding = (
            nn.Embedding(config.output_vocab_size, config.d_model)
            if config.target_vocab_size or not config.tie_embeddings
            else self.source_embedding
        )
        kind = POSITIONS[config.positions]
        self.source_positions = kind(config.d_model, config.max_len)
        self.target_positions = kind(config.d_model, config.max_len)
        self.dropout = Dropout(config.dropout)
        self.encoder = nn.ModuleList(
            EncoderLayer(*layer_sizes)
            for _ in range(config.num_encoder_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(*layer_sizes)
            for _ in range(config.num_decoder_layers)
        )
        # Pre-norm leaves the last sum unnormalised; post-norm does not.
        wanted = config.norm_first and config.final_norm
        last_norm = LayerNorm if wanted else nn.Identity
        self.encoder_norm = last_norm(config.d_model)
        self.decoder_norm = last_norm(config.d_model)
        self.output = nn.Linear(
            config.d_model, config.output_vocab_size, bias=False
        )
        self._initialise()
        if config.tie_embeddings:
            self.output.weight = self.target_embedding.weight

    def _initialise(self) -> None:
        """Draw matrices as Glorot and Bengio (2010), embeddings small.

        An embedding of deviation 1/√D, multiplied by √D, enters the first
        layer with deviation 1 and gives first logits of deviation about 1.
        The matrices of queries, keys and values start as if they were one,
        three times as wide: smaller by √2, so the heads look around longer
        before they settle.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                packed = name.endswith(("w_q", "w_k", "w_v"))
                gain = math.sqrt(1 / 2) if packed else 1.0
                nn.init.xavier_uniform_(module.weight, gain)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.d_model**-0.5)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Score every next target token at once (teacher forcing).

        Args:
            source: Token ids, ``(B, S)``.
            target: Token ids the decoder reads, ``(B, T)``, from BOS on.

        Returns:
            Logits ``(B, T, V)``: row ``t`` scores what follows token ``t``.

        Raises:
            UserError: If ids are out of range or a sequence is too long.
        """
        return self.decode(target, self.encode(source), source)

    def encode(self, source: Tensor) -> Tensor:
        """Read the source.

        Args:
            source: Token ids, ``(B, S)``.

        Returns:
            The memory, ``(B, S, D)``.

        Raises:
            UserError: As in `forward`.
        """
        check_ids("source", source, self.config.source_vocab_size)
        mask = source_mask(source)  # (B, 1, 1, S), or None
        x = self._embed(self.source_embedding(source))  # (B, S, D)
        x = self.dropout(self.source_positions(x))
        for layer in self.encoder:
            x = layer(x, mask)
        memory: Tensor = self.encoder_norm(x)  # (B, S, D)
        return memory

    def decode(self, target: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        """Score what follows each target token.

        Padding in the target needs no mask: it stands on the right, where the
        causal mask hides it from every real token.

        Args:
            target: Token ids, ``(B, T)``.
            memory: What `encode` made of the source, ``(B, S, D)``.
            source: The source ids, ``(B, S)``, for their padding.

        Returns:
            Logits ``(B, T, V)``.

        Raises:
            UserError: As in `forward`.
        """
        hidden = self.decode_hidden(target, memory, source)  # (B, T, D)
        logits: Tensor = self.output(hidden)  # (B, T, V)
        return logits

    def decode_hidden(
        self, target: Tensor, memory: Tensor, source: Tensor
    ) -> Tensor:
        """Do `decode` up to, but without, the output layer.

        Returns:
            ``(B, T, D)``; a loss may then skip the padding's logits.

        Raises:
            UserError: As in `forward`.
        """
        mask = source_mask(source)  # (B, 1, 1, S), or None
        x = self.embed_target(target)  # (B, T, D)
        for layer in self.decoder:
            x = layer(x, memory, mask)
        hidden: Tensor = self.decoder_norm(x)  # (B, T, D)
        return hidden

    def embed_target(self, target: Tensor, start: int = 0) -> Tensor:
        """Turn target ids into what the first layer of the decoder reads.

        Args:
            target: Token ids, ``(B, T)``.
            start: Position of the first of them.

        Returns:
            ``(B, T, D)``.

        Raises:
            UserError: As in `forward`.
        """
        check_ids("target", target, self.config.output_vocab_size)
        x = self._embed(self.target_embedding(target))  # (B, T, D)
        x = self.target_positions(x, start)  # (B, T, D)
        dropped: Tensor = self.dropout(x)
        return dropped

    def start(self, source: Tensor) -> DecodingState:
        """Read the source and prepare to decode step by step.

        Args:
            source: Token ids, ``(B, S)``.

        Returns:
            A state for `step`, which keeps every layer's keys and values so
            that no token is projected twice.

        Raises:
            UserError: As in `forward`.
        """
        memory = self.encode(source)
        layers = [layer.start(memory) for layer in self._decoder_layers]
        return DecodingState(0, source_mask(source), layers)

    def step(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """Read one more target token and score what follows it.

        Args:
            tokens: The newest token of each row, ``(B·K,)``.
            state: The state from `start`, which is brought up to date.

        Returns:
            Logits ``(B·K, V)``, those of the last row of `decode`.

        Raises:
            UserError: As in `forward`.
        """
        x = self.embed_target(tokens[:, None], state.position)  # (B·K, 1, D)
        layers = zip(self._decoder_layers, state.layers, strict=True)
        for layer, layer_state in layers:
            x = layer.step(x, layer_state, state.source_mask)
        state.position += 1
        logits: Tensor = self.output(self.decoder_norm(x[:, 0]))  # (B, V)
        return logits

    @property
    def _decoder_layers(self) -> Iterable[DecoderLayer]:
        """The decoder, with the type that a ``ModuleList`` forgets."""
        return cast(Iterable[DecoderLayer], self.decoder)

    def _embed(self, embedded: Tensor) -> Tensor:
        """Scale embeddings by √D (Vaswani et al., 2017, section 3.4)."""
        return embedded * math.sqrt(self.config.d_model)


def source_mask(source: Tensor) -> Tensor | None:
    """Hide the padding of ``source (B, S)``; ``None`` if there is none.

    Batches of equal lengths are common, and a mask that hides nothing costs
    time.
    """
    if readable(source) and bool((source != PAD_ID).all()):
        return None
    return padding_mask(source, PAD_ID)


def check_ids(name: str, ids: Tensor, vocab_size: int) -> None:
    """Raise a ``UserError`` unless ``ids (B, S)`` fit the vocabulary.

    Where the ids are not `readable`, the lookup itself will fail.
    """
    if ids.dtype not in (torch.int64, torch.int32):
        raise UserError(
            f"The {name} ids are {ids.dtype}: pass whole numbers, torch.int64."
        )
    if ids.ndim != 2:
        raise UserError(
            f"The {name} ids have shape {tuple(ids.shape)}: pass a batch, one"
            " row a sentence."
        )
    if readable(ids) and ids.numel():
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= vocab_size:
            raise UserError(
                f"The {name} ids run from {low} to {high}, but the vocabulary"
                f" has ids 0 to {vocab_size - 1}: use the tokenizer the model"
                " was trained with."
            )
