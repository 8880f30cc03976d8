"""A small, tested encoder-decoder Transformer to learn from."""

from minitransformer.attention import (
    MultiHeadAttention,
    SelfAttention,
    scaled_dot_product_attention,
)
from minitransformer.config import TransformerConfig
from minitransformer.errors import UserError
from minitransformer.feed_forward import FeedForward
from minitransformer.layers import DecoderLayer, EncoderLayer
from minitransformer.masks import causal_mask, padding_mask
from minitransformer.model import DecodingState, Transformer
from minitransformer.positions import (
    LearnedPositions,
    SinusoidalPositions,
    sinusoidal_positions,
)
from minitransformer.recording import recorded_attention
from minitransformer.residual import AddNorm, LayerNorm, layer_norm

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
    "SelfAttention",
    "SinusoidalPositions",
    "Transformer",
    "TransformerConfig",
    "UserError",
    "causal_mask",
    "layer_norm",
    "padding_mask",
    "recorded_attention",
    "scaled_dot_product_attention",
    "sinusoidal_positions",
]
