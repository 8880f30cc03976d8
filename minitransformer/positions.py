"""Where a token stands: sinusoidal and learned positions."""

import torch
from torch import Tensor, nn

from minitransformer.errors import UserError


def sinusoidal_positions(max_len: int, d_model: int) -> Tensor:
    """Give each position a fixed pattern of sines and cosines.

    Feature ``2i`` is ``sin(t / 10000^(2i / D))`` and feature ``2i + 1`` the
    cosine of the same angle (Vaswani et al., 2017, section 3.5). They are
    worked out in double precision and rounded once.

    Args:
        max_len: Number of positions ``T``.
        d_model: Width ``D``.

    Returns:
        ``(T, D)`` in torch's default dtype, each feature between -1 and 1.

    >>> sinusoidal_positions(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    position = torch.arange(max_len, dtype=torch.float64)[:, None]  # (T, 1)
    even = torch.arange(0, d_model, 2, dtype=torch.float64)
    angle = position / 10_000 ** (even / d_model)
    table = torch.zeros(max_len, d_model)  # (T, D)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle.cos()[:, : d_model // 2]
    return table


class Positions(nn.Module):
    """Add row ``t`` of a table to token ``t``.

    Attributes:
        table: ``(max_len, D)``.
    """

    table: Tensor

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Add the positions ``start``, ``start + 1``, ... to the tokens.

        Args:
            x: Embedded tokens, ``(B, T, D)``.
            start: Position of the first token.

        Returns:
            ``(B, T, D)``.

        Raises:
            UserError: If a position lies past the end of the table.
        """
        end, max_len = start + x.shape[1], len(self.table)
        if end > max_len:
            raise UserError(
                f"A sequence of {end} tokens is over {max_len=}: shorten it,"
                " or build the model with a larger max_len."
            )
        return x + self.table[start:end]


class SinusoidalPositions(Positions):
    """Positions from `sinusoidal_positions`; nothing is trained.

    Args:
        d_model: Width ``D``.
        max_len: Number of positions.
    """

    def __init__(self, d_model: int, max_len: int):
        super().__init__()
        table = sinusoidal_positions(max_len, d_model)
        self.register_buffer("table", table, persistent=False)


class LearnedPositions(Positions):
    """A trained vector for each position (Gehring et al., 2017, section 3.1).

    Args:
        d_model: Width ``D``.
        max_len: Number of positions; there is nothing to say of later ones.
    """

    def __init__(self, d_model: int, max_len: int):
        super().__init__()
        self.table = nn.Parameter(torch.randn(max_len, d_model) * 0.02)
