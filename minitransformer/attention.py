"""Attention, with one head and with many (Vaswani et al., 2017, 3.2)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.dropout import dropout
from minitransformer.errors import UserError
from minitransformer.masks import causal_mask, leaves_no_key
from minitransformer.products import attend_by_products, suits_products


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout_p: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Average the values, weighted by how well each key fits the query.

    Computes ``softmax(query keyᵀ / √d_k) value`` (Vaswani et al., 2017,
    equation 1).

    Args:
        query: ``(..., T, d_k)``.
        key: ``(..., S, d_k)``.
        value: ``(..., S, d_v)``.
        mask: Boolean, broadcastable to ``(..., T, S)``; ``True`` = may attend.
            A query left without any key gets zero weights, a zero output and
            finite gradients, never ``nan``.
        dropout_p: Chance of dropping each weight; pass 0 to evaluate.

    Returns:
        The output ``(..., T, d_v)`` and the weights ``(..., T, S)``, whose
        rows sum to one (before dropout).

    Raises:
        UserError: If the mask is not boolean or does not fit, the widths of
            query and key differ, or the lengths of key and value.

    >>> query = torch.tensor([[1.0, 0.0]])
    >>> key = value = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> output, weights = scaled_dot_product_attention(query, key, value)
    >>> weights
    tensor([[0.6698, 0.3302]])
    """
    check_attention(query, key, value, mask)
    scores = query @ key.mT / math.sqrt(query.shape[-1])  # (..., T, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)  # a row without keys is nan
    return dropout(weights, dropout_p) @ value, weights


def check_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> None:
    """Raise a ``UserError`` that says which shape or dtype does not fit."""
    if query.shape[-1] != key.shape[-1]:
        raise UserError(
            f"query is {query.shape[-1]} wide and key {key.shape[-1]}: their"
            " last dimensions must be equal."
        )
    if key.shape[-2] != value.shape[-2]:
        raise UserError(
            f"There are {key.shape[-2]} keys and {value.shape[-2]} values:"
            " every key needs one value."
        )
    shapes = query.shape[:-2], key.shape[:-2], value.shape[:-2]
    if shapes != (shapes[0],) * 3:  # seldom: one for all will do
        try:
            torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
        except RuntimeError:
            raise UserError(
                "Before their last two, query, key and value have sizes"
                f" {', '.join(str(tuple(shape)) for shape in shapes)}: these"
                " must be equal, or 1 where one serves all."
            ) from None
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise UserError(
            f"The mask is {mask.dtype}: pass a torch.bool mask, where True"
            " means may attend."
        )
    scores = (*query.shape[:-1], key.shape[-2])
    if mask.ndim > len(scores) or any(
        size not in (1, wanted)
        for size, wanted in zip(mask.shape[::-1], scores[::-1], strict=False)
    ):
        raise UserError(
            f"The mask has shape {tuple(mask.shape)}: it must broadcast to the"
            f" scores' shape {scores}."
        )


class SelfAttention(nn.Module):
    """One head whose queries, keys and values come from one sequence.

    Vaswani et al. (2017), section 3.2.1, with three trained projections.

    Args:
        d_in: Width of the input.
        d_k: Width of queries and keys.
        d_v: Width of values and output; ``d_k`` if not given.
        bias: Whether the projections add a bias.
    """

    def __init__(
        self, d_in: int, d_k: int, d_v: int | None = None, bias: bool = False
    ):
        super().__init__()
        self.w_q = nn.Linear(d_in, d_k, bias)
        self.w_k = nn.Linear(d_in, d_k, bias)
        self.w_v = nn.Linear(d_in, d_k if d_v is None else d_v, bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let every token of ``x (B, T, d_in)`` attend to all of them.

        Args:
            x: ``(B, T, d_in)``.
            mask: Boolean, broadcastable to ``(B, T, T)``; ``True`` = may
                attend.

        Returns:
            ``(B, T, d_v)``.

        Raises:
            UserError: If the mask does not fit.
        """
        q = self.w_q(x)  # (B, T, d_k)
        k = self.w_k(x)  # (B, T, d_k)
        v = self.w_v(x)  # (B, T, d_v)
        output, _ = scaled_dot_product_attention(q, k, v, mask)
        return output


class MultiHeadAttention(nn.Module):
    """Attend with several independent heads, then mix their outputs.

    One projection makes the queries of all heads at once; splitting its last
    dimension is what separates the heads (Vaswani et al., 2017, 3.2.2). A
    sentence alone, without the dimension ``B``, will do as well.

    Args:
        d_model: Width ``D`` of inputs and output.
        num_heads: Number of heads ``H``; each is ``d_k = D / H`` wide.
        dropout: Chance of dropping each weight while training.
        bias: Whether the four projections add a bias.

    Raises:
        UserError: If ``num_heads`` does not divide ``d_model``.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
    ):
        super().__init__()
        if num_heads < 1 or d_model % num_heads:
            raise UserError(
                f"{d_model=} can't be split over {num_heads=}: choose a width"
                " that is a multiple of the heads."
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.w_q = nn.Linear(d_model, d_model, bias)
        self.w_k = nn.Linear(d_model, d_model, bias)
        self.w_v = nn.Linear(d_model, d_model, bias)
        self.w_o = nn.Linear(d_model, d_model, bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Let ``query`` attend to ``key`` and mix ``value``.

        Args:
            query: ``(B, T, D)``.
            key: ``(B, S, D)``.
            value: ``(B, S, D)``.
            mask: Boolean, broadcastable to ``(B, H, T, S)``; ``True`` = may
                attend.
            causal: Also hide the keys after the query's own position; needs
                ``T == S``.

        Returns:
            ``(B, T, D)``.

        Raises:
            UserError: If the mask does not fit, or ``causal`` and ``T != S``.
        """
        k, v = self.keys_values(key, value)  # (B, H, S, d_k)
        return self.from_keys_values(query, k, v, mask, causal)

    def keys_values(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Project ``(B, S, D)`` to each head's keys and values.

        Returns:
            Keys and values, ``(B, H, S, d_k)`` each: what a decoder keeps
            from step to step.
        """
        k = self.split_heads(self.w_k(key))  # (B, H, S, d_k)
        v = self.split_heads(self.w_v(value))  # (B, H, S, d_k)
        return k, v

    def from_keys_values(
        self,
        query: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Attend from ``query (B, T, D)`` to keys that are projected already.

        Args:
            query: ``(B, T, D)``.
            k: ``(B, H, S, d_k)``.
            v: ``(B, H, S, d_k)``.
            mask: As in `forward`.
            causal: As in `forward`.

        Returns:
            ``(B, T, D)``.

        Raises:
            UserError: As in `forward`.
        """
        q = self.split_heads(self.w_q(query))  # (B, H, T, d_k)
        if causal and q.shape[-2] != k.shape[-2]:
            raise UserError(
                f"causal=True needs as many queries as keys, not {q.shape[-2]}"
                f" and {k.shape[-2]}: pass a mask instead."
            )
        heads = self.attend(q, k, v, mask, causal)  # (B, H, T, d_k)
        merged = heads.transpose(-3, -2).flatten(-2)  # (B, T, D)
        output: Tensor = self.w_o(merged)  # (B, T, D)
        return output

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        """Attend in every head, by the kernel that suits the lengths.

        All give the same output and gradient; which one runs is a matter of
        speed and memory alone. (While training, each drops other weights.)

        Args:
            q: ``(B, H, T, d_k)``.
            k: ``(B, H, S, d_k)``.
            v: ``(B, H, S, d_k)``.
            mask: Boolean, broadcastable to ``(B, H, T, S)``, or ``None``.
            causal: Also hide keys after the query's own position.

        Returns:
            ``(B, H, T, d_k)``.
        """
        T = q.shape[-2]
        dropout_p = self.dropout if self.training else 0.0
        check_attention(q, k, v, mask)
        if suits_products(q, k, v, mask):
            mask = join_causal(mask, T, causal)
            if not leaves_no_key(mask):
                return attend_by_products(q, k, v, mask, dropout_p)
            return scaled_dot_product_attention(q, k, v, mask, dropout_p)[0]
        if mask is not None:  # the kernel takes a mask or is_causal
            mask = torch.atleast_2d(mask)  # type: ignore[no-untyped-call]
            mask, causal = join_causal(mask, T, causal), False
        return F.scaled_dot_product_attention(
            q, k, v, mask, dropout_p, is_causal=causal
        )

    def split_heads(self, x: Tensor) -> Tensor:
        """Turn ``(B, T, D)`` into ``(B, H, T, d_k)``."""
        heads = torch.unflatten(x, -1, (self.num_heads, -1))  # (B, T, H, d_k)
        return heads.transpose(-3, -2)


def join_causal(
    mask: Tensor | None,
    size: int,
    causal: bool,
    device: torch.device | None = None,
) -> Tensor | None:
    """Add the causal triangle to ``mask``, if ``causal`` asks for it."""
    if not causal:
        return mask
    if mask is None:
        return causal_mask(size, device)
    return mask & causal_mask(size, mask.device)
