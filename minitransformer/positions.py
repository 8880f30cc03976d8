"""Where a token stands: vectors to add to the tokens, fixed or learned."""

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


def _refuse_negative(start: int) -> None:
    if start < 0:
        raise UserError(f"Positions count from 0: there is no {start=}.")


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
            UserError: If a position lies past the end of the table, or
                before its first row.
        """
        _refuse_negative(start)
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


class RecurrentPositions(nn.Module):
    """Positions that a recurrent cell makes, each from the one before.

    ``p_0`` is trained, and ``p_(t+1) = GRU(p_t, p_t)``: the cell of Cho et al.
    (2014) with its own state as input. There is no longest length, and no way
    to position ``t`` but through all those before. Untrained, the positions
    soon stop changing. (Liu et al., 2020, section
    3, let a differential equation do the same in continuous time.)

    Args:
        d_model: Width ``D``.
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.first = nn.Parameter(torch.randn(d_model) * 0.02)
        self.cell = nn.GRUCell(d_model, d_model)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Add the positions ``start``, ``start + 1``, ... to the tokens.

        Args:
            x: Embedded tokens, ``(B, T, D)``.
            start: Position of the first token; the positions before are made
                too, and thrown away.

        Returns:
            ``(B, T, D)``.

        Raises:
            UserError: If ``start`` is negative.
        """
        _refuse_negative(start)
        return x + self.first_positions(start + x.shape[1])[start:]

    def first_positions(self, count: int) -> Tensor:
        """Make the first positions, one after the other.

        Args:
            count: How many, ``T``.

        Returns:
            ``(T, D)``.
        """
        positions: list[Tensor] = [self.first]
        while len(positions) < count:
            before = positions[-1][None]
            positions.append(self.cell(before, before)[0])
        return torch.stack(positions)[:count]


# Of a stretched position, the share of the entry that changes every n tokens.
COARSE = 0.4


def stretched_positions(table: Tensor, max_len: int) -> Tensor:
    """Make a table for longer sequences from a trained one of ``n`` rows.

    Position ``i n + j`` gets ``a u_i + (1 - a) u_j``, as the two digits of a
    number in base ``n``, with ``a = 0.4``. The entries
    ``u_i = (p_i - a p_0) / (1 - a)`` are such that the first ``n`` positions
    stay what they were. (Su Jianlin, 2020, "hierarchical decomposition".)

    Args:
        table: The trained positions ``p``, ``(n, D)``.
        max_len: Number of positions wanted, ``n²`` at most.

    Returns:
        ``(max_len, D)``.

    Raises:
        UserError: If two digits are not enough.

    >>> stretched_positions(torch.tensor([[1.0], [4.0]]), 4).flatten()
    tensor([1., 4., 3., 6.])
    """
    n = len(table)
    if max_len > n**2:
        raise UserError(
            f"Two entries of a table of {n} rows reach {n**2} positions, not"
            f" {max_len=}: train a longer table."
        )
    entries = (table - COARSE * table[0]) / (1 - COARSE)
    place = torch.arange(max_len, device=table.device)
    coarse, fine = entries[place // n], entries[place % n]
    return COARSE * coarse + (1 - COARSE) * fine
