"""The translator that attention was made for: a recurrent one.

Attention came into translation with recurrent networks (Bahdanau et al.,
2014); the Transformer kept the attention and dropped the recurrence. Here is
that older translator, with the same faces as `Transformer`, so that whatever
trains, decodes or probes the one does so to the other.
"""

import math
from dataclasses import dataclass, fields
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from minitransformer.config import PAD_ID, check_values
from minitransformer.dropout import Dropout
from minitransformer.errors import UserError
from minitransformer.model import Transformer, check_ids


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """Sizes and choices of a `RecurrentTranslator`.

    Attributes:
        source_vocab_size: Number of source token ids.
        target_vocab_size: Number of target token ids; ``None`` means one
            vocabulary for both languages.
        d_model: Width ``D`` of embeddings, states and memory; even, since
            each direction of the encoder makes half of the memory.
        attention: How a state is matched with the memory: ``"additive"``,
            ``"dot"``, ``"general"``, or ``"none"``: not at all.
        dropout: Chance of dropping a number while training.
        max_len: Longest translation, in tokens; the network itself knows no
            limit.

    Raises:
        UserError: If a value is impossible; the message shows it.
    """

    source_vocab_size: int
    target_vocab_size: int | None = None
    d_model: int = 256
    attention: str = "additive"
    dropout: float = 0.1
    max_len: int = 256
    tie_embeddings: ClassVar[bool] = True  # always, unlike a Transformer's

    def __post_init__(self) -> None:
        check_values(self)
        if self.d_model % 2:
            raise UserError(
                f"d_model={self.d_model} must be even: each direction of the"
                " encoder makes half of it."
            )
        if self.attention not in SCORES:
            raise UserError(
                f"attention={self.attention!r} is unknown: choose one of"
                f" {', '.join(SCORES)}."
            )

    @property
    def output_vocab_size(self) -> int:
        """Number of token ids the decoder chooses from."""
        return self.target_vocab_size or self.source_vocab_size


class DotScore(nn.Module):
    """Match a query with a key by their dot product (Luong et al., 2015).

    Nothing is learned here: the states must learn to fit.

    Args:
        d_model: Width ``D`` of queries and memory.
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.d_model = d_model

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Say how well each query fits each place of the memory.

        Args:
            query: ``(B, T, D)``.
            memory: ``(B, S, D)``.

        Returns:
            Scores ``(B, T, S)``, before the softmax.
        """
        return self.match(query, self.keys(memory))

    def keys(self, memory: Tensor) -> Tensor:
        """Do the part that is the same for every query, ``(B, S, D)``."""
        return memory

    def match(self, query: Tensor, keys: Tensor) -> Tensor:
        """Score ``query (B, T, D)`` against ``keys (B, S, D)``."""
        return query @ keys.mT


class GeneralScore(DotScore):
    """Match by ``qᵀ W h``, the bilinear form (Luong et al., 2015).

    ``W`` translates between what the two sides mean by their numbers.

    Args:
        d_model: Width ``D`` of queries and memory.
    """

    def __init__(self, d_model: int):
        super().__init__(d_model)
        self.w_k = nn.Linear(d_model, d_model, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """Compute ``W h`` for each place, ``(B, S, D)``."""
        keys: Tensor = self.w_k(memory)  # (B, S, D)
        return keys


class AdditiveScore(DotScore):
    """Match by ``wᵀ tanh(W_q q + W_k h)`` (Bahdanau et al., 2014, A.1.2).

    A net with one hidden layer looks at both at once.

    Args:
        d_model: Width ``D`` of queries, memory and hidden layer.
    """

    def __init__(self, d_model: int):
        super().__init__(d_model)
        self.w_q = nn.Linear(d_model, d_model, bias=False)
        self.w_k = nn.Linear(d_model, d_model, bias=False)
        self.w = nn.Linear(d_model, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """Compute ``W_k h`` for each place, ``(B, S, D)``."""
        keys: Tensor = self.w_k(memory)  # (B, S, D)
        return keys

    def match(self, query: Tensor, keys: Tensor) -> Tensor:
        """Score ``query (B, T, D)`` against ``keys (B, S, D)``."""
        q = self.w_q(query)[:, :, None]  # (B, T, 1, D)
        hidden = (q + keys[:, None]).tanh()  # (B, T, S, D)
        scores: Tensor = self.w(hidden)[..., 0]  # (B, T, S)
        return scores


SCORES = {
    "additive": AdditiveScore,
    "dot": DotScore,
    "general": GeneralScore,
    "none": DotScore,  # with one place to look at, the score decides nothing
}


@dataclass
class RecurrentState:
    """What the decoder remembers between two calls of `step`.

    Attributes:
        hidden: The decoder's state ``z``, ``(B, D)``.
        memory: What may be averaged, ``(B, S, D)``.
        keys: What the state is matched with, ``(B, S, D)``.
        mask: ``(B, S)`` bool; ``True`` = may be attended to.
    """

    hidden: Tensor
    memory: Tensor
    keys: Tensor
    mask: Tensor

    def reorder(self, index: Tensor) -> None:
        """Say which row each row goes on from; see `DecodingState.reorder`.

        Args:
            index: ``(B',)`` or ``(B', K')``.
        """
        rows = index.flatten()
        for field in fields(self):
            kept = getattr(self, field.name).index_select(0, rows)
            setattr(self, field.name, kept)


class RecurrentTranslator(nn.Module):
    """Read with a GRU in both directions, write with one that may look back.

    Writing, each step goes as in Bahdanau et al. (2014): the last state
    ``z`` is matched with each place of the memory; the weights average the
    memory to the context ``c``; the newest word and ``c`` then lead to the
    next state. A step needs the one before it, so training takes the target
    word by word too.

    Without attention, ``c`` is the encoder's last state at every step (Cho
    et al., 2014): the same net, and all it knows of the source is one vector.

    Args:
        config: The sizes; see `RecurrentConfig`.
    """

    def __init__(self, config: RecurrentConfig):
        super().__init__()
        self.config = config
        D, V = config.d_model, config.output_vocab_size
        self.source_embedding = nn.Embedding(config.source_vocab_size, D)
        self.target_embedding = (
            nn.Embedding(V, D)
            if config.target_vocab_size
            else self.source_embedding
        )
        self.dropout = Dropout(config.dropout)
        self.encoder = nn.GRU(D, D // 2, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(D, D)
        self.score = SCORES[config.attention](D)
        self.decoder = nn.GRUCell(2 * D, D)
        self.mix = nn.Linear(2 * D, D)
        self.output = nn.Linear(D, V, bias=False)
        self.output.weight = self.target_embedding.weight
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=D**-0.5)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Score every next target token (teacher forcing).

        Args:
            source: Token ids, ``(B, S)``, padded on the right.
            target: Token ids the decoder reads, ``(B, T)``, from BOS on.

        Returns:
            Logits ``(B, T, V)``: row ``t`` scores what follows token ``t``.

        Raises:
            UserError: If ids are out of range.
        """
        return self.decode(target, self.encode(source), source)

    def encode(self, source: Tensor) -> Tensor:
        """Read the source from left to right and from right to left.

        Args:
            source: Token ids, ``(B, S)``, padded on the right.

        Returns:
            The memory, ``(B, S, D)``: what each direction made of the
            sentence up to a place, side by side; zeros at the padding.

        Raises:
            UserError: As in `forward`.
        """
        check_ids("source", source, self.config.source_vocab_size)
        x = self._embed(self.source_embedding(source))  # (B, S, D)
        packed = pack_padded_sequence(  # or one direction begins with padding
            x, _lengths(source).cpu(), batch_first=True, enforce_sorted=False
        )
        memory, _ = pad_packed_sequence(
            self.encoder(packed)[0],
            batch_first=True,
            total_length=source.shape[1],
        )
        return memory

    def decode(self, target: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        """Score what follows each target token; see `Transformer.decode`."""
        hidden = self.decode_hidden(target, memory, source)  # (B, T, D)
        logits: Tensor = self.output(hidden)  # (B, T, V)
        return logits

    def decode_hidden(
        self, target: Tensor, memory: Tensor, source: Tensor
    ) -> Tensor:
        """Do `decode` without the output layer: ``(B, T, D)``."""
        return self._unroll(target, memory, source)[0]

    @torch.no_grad()
    def alignment(self, source: Tensor, target: Tensor) -> Tensor:
        """Show where the decoder looks.

        Args:
            source: Token ids, ``(B, S)``.
            target: Token ids, ``(B, T)``, from BOS on.

        Returns:
            Weights ``(B, T, S)``: row ``t`` belongs to the prediction of the
            token after ``t``; rows sum to one.

        Raises:
            UserError: As in `forward`; or if there is no attention to show.
        """
        if self.config.attention == "none":
            raise UserError(
                "A translator with attention='none' looks nowhere: build one"
                " with 'additive', 'dot' or 'general'."
            )
        return self._unroll(target, self.encode(source), source)[1]

    def start(self, source: Tensor) -> RecurrentState:
        """Read ``source (B, S)`` and prepare to decode step by step."""
        return self._begin(self.encode(source), source)

    def step(self, tokens: Tensor, state: RecurrentState) -> Tensor:
        """Read one more target token and score what follows it.

        Args:
            tokens: The newest token of each row, ``(B,)``.
            state: The state from `start`, which is brought up to date.

        Returns:
            Logits ``(B, V)``, those of the last row of `decode`.
        """
        x = self._embed_target(tokens[:, None])  # (B, 1, D)
        context, _ = self.advance(x[:, 0], state)
        logits: Tensor = self.output(self._mix(state.hidden, context))
        return logits

    def _begin(self, memory: Tensor, source: Tensor) -> RecurrentState:
        """Make the decoder's first state from the encoder's last ones."""
        half = self.config.d_model // 2
        last = (_lengths(source) - 1)[:, None, None]  # (B, 1, 1)
        onwards = memory[..., :half].take_along_dim(last, 1)[:, 0]  # (B, D/2)
        back = memory[:, 0, half:]  # (B, D/2)
        summary = torch.cat([onwards, back], dim=1)  # (B, D)
        hidden = self.bridge(summary).tanh()  # (B, D)
        mask = source != PAD_ID  # (B, S)
        if self.config.attention == "none":
            memory, mask = summary[:, None], mask.new_ones(len(mask), 1)
        return RecurrentState(hidden, memory, self.score.keys(memory), mask)

    def advance(
        self, x: Tensor, state: RecurrentState
    ) -> tuple[Tensor, Tensor]:
        """Look at the memory, then read ``x (B, D)`` into the state.

        Returns:
            The context ``(B, D)`` and the weights ``(B, S)``.
        """
        scores = self.score.match(state.hidden[:, None], state.keys)
        weights = masked_softmax(scores[:, 0], state.mask)  # (B, S)
        context = (weights[:, None] @ state.memory)[:, 0]  # (B, D)
        read = torch.cat([x, context], dim=1)  # (B, 2·D)
        state.hidden = self.decoder(read, state.hidden)
        return context, weights

    def _unroll(
        self, target: Tensor, memory: Tensor, source: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode word by word: hidden ``(B, T, D)``, weights ``(B, T, S)``."""
        x = self._embed_target(target)  # (B, T, D)
        state = self._begin(memory, source)
        rows = []
        for word in x.unbind(1):
            context, weights = self.advance(word, state)
            rows.append((state.hidden, context, weights))
        hidden, context, weights = (
            torch.stack(each, 1) for each in zip(*rows, strict=True)
        )
        return self._mix(hidden, context), weights

    def _mix(self, hidden: Tensor, context: Tensor) -> Tensor:
        """Join state and context to what the output layer reads."""
        mixed = self.mix(torch.cat([hidden, context], dim=-1)).tanh()
        return cast(Tensor, self.dropout(mixed))

    def _embed_target(self, target: Tensor) -> Tensor:
        """Turn target ids ``(B, T)`` into ``(B, T, D)``."""
        check_ids("target", target, self.config.output_vocab_size)
        return self._embed(self.target_embedding(target))

    def _embed(self, embedded: Tensor) -> Tensor:
        """Scale embeddings as the `Transformer` does."""
        scaled = embedded * math.sqrt(self.config.d_model)
        return cast(Tensor, self.dropout(scaled))


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Turn scores into weights; a row left no key gets zeros."""
    weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)


def _lengths(source: Tensor) -> Tensor:
    """Count the tokens of ``source (B, S)``; one at least, or GRUs refuse."""
    return (source != PAD_ID).sum(1).clamp(min=1)


TranslationModel = Transformer | RecurrentTranslator
