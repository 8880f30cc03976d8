"""The numbers that define a Transformer, checked once."""

from dataclasses import dataclass, fields
from typing import Any

from minitransformer.errors import UserError

PAD_ID, BOS_ID, EOS_ID, UNK_ID = 0, 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes and choices of a `Transformer` (Vaswani et al., 2017, table 3).

    Attributes:
        source_vocab_size: Number of source token ids.
        target_vocab_size: Number of target token ids; ``None`` means one
            vocabulary for both languages.
        d_model: Width ``D``.
        num_heads: Heads per attention, ``H``.
        num_encoder_layers: Layers of the encoder.
        num_decoder_layers: Layers of the decoder.
        d_ff: Inner width of the feed-forward layers.
        dropout: Chance of dropping a number while training.
        max_len: Longest sequence, in tokens.
        positions: ``"sinusoidal"`` or ``"learned"``.
        norm_first: Pre-norm, or post-norm as in the paper.
        final_norm: Whether a pre-norm stack normalises what its last layer
            returns; post-norm has done so already.
        tie_embeddings: One matrix for the output layer and the target
            embedding (and the source's, with one vocabulary).

    Raises:
        UserError: If a value is impossible; the message shows it.
    """

    source_vocab_size: int
    target_vocab_size: int | None = None
    d_model: int = 256
    num_heads: int = 8
    num_encoder_layers: int = 3
    num_decoder_layers: int = 3
    d_ff: int = 1024
    dropout: float = 0.1
    max_len: int = 256
    positions: str = "sinusoidal"
    norm_first: bool = True
    final_norm: bool = True
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        check_values(self)
        if self.d_model % self.num_heads:
            raise UserError(
                f"d_model={self.d_model} can't be split over"
                f" num_heads={self.num_heads}: choose a width that is a"
                " multiple of the heads."
            )
        if self.positions not in ("sinusoidal", "learned"):
            raise UserError(
                f"positions={self.positions!r} is unknown: choose"
                " 'sinusoidal' or 'learned'."
            )

    @property
    def output_vocab_size(self) -> int:
        """Number of token ids the decoder chooses from."""
        return self.target_vocab_size or self.source_vocab_size


def check_values(config: Any) -> None:
    """Check what the configurations of all translators have in common.

    Args:
        config: A dataclass. Its whole numbers are sizes, its
            ``target_vocab_size`` is one or ``None``, and ``dropout`` is a
            chance.

    Raises:
        UserError: If a value is impossible; the message shows it.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type is int and (type(value) is not int or value < 1):
            raise UserError(
                f"{field.name}={value!r} must be a whole number from 1 up."
            )
        if field.type is bool and type(value) is not bool:
            raise UserError(f"{field.name}={value!r} must be True or False.")
    size, dropout = config.target_vocab_size, config.dropout
    if size is not None and (type(size) is not int or size < 1):
        raise UserError(
            f"target_vocab_size={size!r} must be a whole number from 1 up, or"
            " None to share the source's."
        )
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise UserError(
            f"dropout={dropout!r} must be a number from 0 up to below 1."
        )
