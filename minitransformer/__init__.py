"""A small, tested encoder-decoder Transformer to learn from."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minitransformer.attention import (
    MultiHeadAttention,
    SelfAttention,
    scaled_dot_product_attention,
)
from minitransformer.config import TransformerConfig
from minitransformer.decoding import beam_search, greedy_decode
from minitransformer.errors import UserError
from minitransformer.feed_forward import FeedForward
from minitransformer.layers import DecoderLayer, EncoderLayer
from minitransformer.masks import causal_mask, padding_mask
from minitransformer.model import DecodingState, Transformer
from minitransformer.positions import (
    LearnedPositions,
    RecurrentPositions,
    SinusoidalPositions,
    sinusoidal_positions,
    stretched_positions,
)
from minitransformer.recording import recorded_attention
from minitransformer.recurrent import RecurrentConfig, RecurrentTranslator
from minitransformer.residual import AddNorm, LayerNorm, layer_norm
from minitransformer.traces import Trace
from minitransformer.tracing import trace

if TYPE_CHECKING:
    from minitransformer.corpora import corpus_names, load_corpus
    from minitransformer.text import Tokenizer
    from minitransformer.training import TrainingOptions
    from minitransformer.translator import Translator

__version__ = "0.1.0"

__all__ = [
    "AddNorm",
    "DecoderLayer",
    "DecodingState",
    "EncoderLayer",
    "FeedForward",
    "LayerNorm",
    "LearnedPositions",
    "MultiHeadAttention",
    "RecurrentConfig",
    "RecurrentPositions",
    "RecurrentTranslator",
    "SelfAttention",
    "SinusoidalPositions",
    "Tokenizer",
    "Trace",
    "TrainingOptions",
    "Transformer",
    "TransformerConfig",
    "Translator",
    "UserError",
    "beam_search",
    "causal_mask",
    "corpus_names",
    "greedy_decode",
    "layer_norm",
    "load_corpus",
    "padding_mask",
    "recorded_attention",
    "scaled_dot_product_attention",
    "sinusoidal_positions",
    "stretched_positions",
    "trace",
]

# These need more than torch: their modules are loaded when first asked for.
_HOMES = {
    "Tokenizer": "text",
    "TrainingOptions": "training",
    "Translator": "translator",
    "corpus_names": "corpora",
    "load_corpus": "corpora",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
