"""The position-wise feed-forward layer (Vaswani et al., 2017, 3.3)."""

from torch import Tensor, nn

from minitransformer.dropout import Dropout, relu_dropout


class FeedForward(nn.Module):
    """Widen each token, bend, and narrow it again: ``W₂ relu(W₁ x)``.

    The same weights serve every position, and positions never mix.

    Args:
        d_model: Width ``D`` outside.
        d_ff: Width inside, four times ``D`` in the paper.
        dropout: Chance of dropping each inner number.
    """

    def __init__(self, d_model: int, d_ff: int, dropout: float = 0.0):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x (..., D)`` to ``(..., D)``, token by token."""
        p = self.dropout.p if self.dropout.training else 0.0
        inner = relu_dropout(self.linear1(x), p)  # (..., d_ff)
        output: Tensor = self.linear2(inner)  # (..., D)
        return output
