"""One layer of the encoder, and one of the decoder."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minitransformer.attention import MultiHeadAttention
from minitransformer.feed_forward import FeedForward
from minitransformer.residual import AddNorm


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward (Vaswani et al., 2017, 3.1).

    Numbers are dropped where the paper drops them (section 5.4), and inside
    the feed-forward layer; the attention weights are left whole.

    Args:
        d_model: Width ``D``.
        num_heads: Heads ``H``.
        d_ff: Inner width of the feed-forward layer.
        dropout: Chance of dropping a number.
        norm_first: Pre-norm instead of the paper's post-norm.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        dropout: float = 0.0,
        norm_first: bool = False,
    ):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.add_norm1 = AddNorm(d_model, dropout, norm_first)
        self.add_norm2 = AddNorm(d_model, dropout, norm_first)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let the tokens look at each other, then think each for itself.

        Args:
            x: ``(B, S, D)``.
            mask: Boolean, broadcastable to ``(B, H, S, S)``.

        Returns:
            ``(B, S, D)``.
        """
        x = self.add_norm1(x, lambda x: self.self_attention(x, x, x, mask))
        x = self.add_norm2(x, self.feed_forward)
        return x


@dataclass
class LayerState:
    """What a decoder layer remembers from step to step.

    Attributes:
        past: Keys and values of the tokens so far, ``(2, B·K, H, t, d_k)``,
            where ``K`` beginnings of a translation stand side by side.
        memory: Keys and values of the source, ``(2, B, H, S, d_k)``.
    """

    past: Tensor
    memory: Tensor


class DecoderLayer(nn.Module):
    """Masked self-attention, cross-attention, then feed-forward.

    Vaswani et al. (2017), section 3.1.

    Args:
        d_model: Width ``D``.
        num_heads: Heads ``H``.
        d_ff: Inner width of the feed-forward layer.
        dropout: As in `EncoderLayer`.
        norm_first: As in `EncoderLayer`.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        dropout: float = 0.0,
        norm_first: bool = False,
    ):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads)
        self.cross_attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.add_norm1 = AddNorm(d_model, dropout, norm_first)
        self.add_norm2 = AddNorm(d_model, dropout, norm_first)
        self.add_norm3 = AddNorm(d_model, dropout, norm_first)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Look at the target so far, at the source, then think.

        Args:
            x: The target, ``(B, T, D)``; position ``t`` sees ``0`` to ``t``.
            memory: The encoder's output, ``(B, S, D)``.
            memory_mask: Boolean, broadcastable to ``(B, H, T, S)``.
            mask: Boolean, broadcastable to ``(B, H, T, T)``, joined with the
                causal mask.

        Returns:
            ``(B, T, D)``.
        """
        x = self.add_norm1(
            x, lambda x: self.self_attention(x, x, x, mask, causal=True)
        )
        x = self.add_norm2(
            x, lambda x: self.cross_attention(x, memory, memory, memory_mask)
        )
        x = self.add_norm3(x, self.feed_forward)
        return x

    def start(self, memory: Tensor) -> LayerState:
        """Prepare for decoding step by step from ``memory (B, S, D)``."""
        nothing = memory[:, :0]
        past = self.self_attention.keys_values(nothing, nothing)
        source = self.cross_attention.keys_values(memory, memory)
        return LayerState(torch.stack(past), torch.stack(source))

    def step(
        self, x: Tensor, state: LayerState, memory_mask: Tensor | None = None
    ) -> Tensor:
        """Do `forward` for the newest token alone.

        Args:
            x: The newest token of each beginning, ``(B·K, 1, D)``.
            state: What the layer remembers; the token is added to it.
            memory_mask: As in `forward`.

        Returns:
            ``(B·K, 1, D)``.
        """

        def look_back(x: Tensor) -> Tensor:
            newest = torch.stack(self.self_attention.keys_values(x, x))
            state.past = torch.cat([state.past, newest], dim=3)
            k, v = state.past  # (B·K, H, t, d_k)
            return self.self_attention.from_keys_values(x, k, v)

        def look_at_source(x: Tensor) -> Tensor:
            # Beginnings of one translation ask the same source together.
            k, v = state.memory  # (B, H, S, d_k)
            queries = x.view(len(k), -1, x.shape[-1])  # (B, K, D)
            return self.cross_attention.from_keys_values(
                queries, k, v, memory_mask
            ).view(x.shape)

        x = self.add_norm1(x, look_back)
        x = self.add_norm2(x, look_at_source)
        x = self.add_norm3(x, self.feed_forward)
        return x
