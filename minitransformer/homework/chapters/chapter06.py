"""The checks of chapter 6, "Positional encoding"."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minitransformer.attention import SelfAttention
from minitransformer.errors import UserError
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
    refuse_stub,
)
from minitransformer.masks import causal_mask
from minitransformer.positions import (
    sinusoidal_positions,
    stretched_positions,
)


def _angles(
    t: float, width: int, power: float = 2.0, base: float = 10_000.0
) -> Tensor:
    """Return the angle of each hand of position ``t``, ``(D / 2,)``."""
    hands = torch.arange(width // 2, dtype=torch.double)
    return t * base ** (-power * hands / width)


def _halves(angle: Tensor) -> Tensor:
    """Set all sines first and all cosines behind, ``(D,)``."""
    return torch.cat([angle.sin(), angle.cos()])


def _pairs(angle: Tensor) -> Tensor:
    """Set sine and cosine of each angle side by side, ``(D,)``."""
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten()


@exercise("6.1")
def check_encode(answer: Any) -> None:
    """Compare late and early positions of several widths and bases."""
    for t, width, base in (
        (3, 10, 500.0),
        (1, 4, 10_000.0),
        (57, 16, 80.0),
        (0, 6, 2.0),
        (2_000, 64, 20_000.0),
    ):
        found = numbers(call(answer, t, width, base))
        right = _halves(_angles(t, width, base=base))
        if found.shape != right.shape:
            raise Wrong(
                f"for width={width} this has shape {tuple(found.shape)};"
                f" {width} numbers are wanted, two for each hand."
            )
        # float32 knows the angle of a late position to 1e-4 only.
        if not is_near(found, right, 5e-4):
            _explain_encode(found, t, width, base)


def _explain_encode(found: Tensor, t: int, width: int, base: float) -> None:
    """Raise `Wrong` with what is wrong with the angles or their order."""
    angle = _angles(t, width, base=base)
    feature = torch.arange(width, dtype=torch.double)
    half, even = width // 2, feature % 2 == 0
    mistakes = [
        (
            _pairs(angle),
            "the right numbers in the layout of equation (6.2). Here all"
            " sines come first.",
        ),
        (
            torch.cat([angle.cos(), angle.sin()]),
            "sines and cosines have changed places: the sines come first.",
        ),
        (
            _halves(_angles(t, width, base=10_000.0)),
            "the base is 10,000 whatever the argument says.",
        ),
        (
            _halves(_angles(t, width, 1.0, base)),
            "your exponent is i / D. If i counts hands, it must be 2 i / D.",
        ),
        (
            _halves(_angles(t, width, 4.0, base)),
            "the exponent has the factor 2 twice. If i already goes in steps"
            " of two, it is i / D.",
        ),
        (
            _halves(angle.deg2rad()),
            "the angles are in radians already: nothing to convert.",
        ),
        (
            _halves(_angles(t + 1, width, base=base)),
            "this is the next position: positions count from 0.",
        ),
        (
            _halves(_angles(t, width, -2.0, base)),
            "the hands get faster: divide by the power of the base, do not"
            " multiply by it.",
        ),
    ]
    for power in (1.0, 2.0):  # an angle for each feature, not for each hand
        own = t * base ** (-power * feature / width)
        mistakes += [
            (
                layout,
                "sine and cosine of one hand have different angles: give"
                " each hand one angle, and take both of it.",
            )
            for layout in (
                torch.cat([own[:half].sin(), own[half:].cos()]),
                torch.where(even, own.sin(), own.cos()),
            )
        ]
    explain(
        found,
        mistakes,
        f"for t={t}, width={width}, base={base:g} this begins with"
        f" {_short(found)}, and not all {width} numbers are right. Compute"
        " t=1 with four features by hand and compare.",
        5e-4,
    )


def _short(vector: Tensor) -> str:
    """Write the first numbers of a vector."""
    return "(" + ", ".join(f"{x:.3f}" for x in vector.tolist()[:3]) + ", ...)"


def _rotation(angle: Tensor) -> Tensor:
    """Return the rotation by these angles, sines first, ``(D, D)``."""
    cos, sin = angle.cos().diag(), angle.sin().diag()
    return torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)])


def _step(k: float, width: int) -> Tensor:
    """Return the rotation by ``k`` positions, ``(D, D)``."""
    return _rotation(_angles(k, width))


@exercise("6.2")
def check_step(answer: Any) -> None:
    """Compare with the rotation; no other matrix moves every position."""
    for k, width in ((3, 8), (1, 4), (-5, 6), (40, 16)):
        found = numbers(call(answer, k, width), (width, width))
        if not is_near(found, _step(k, width)):
            _explain_step(found, k, width)


def _explain_step(found: Tensor, k: int, width: int) -> None:
    """Raise `Wrong` with where this matrix leads instead."""
    right = _step(k, width)
    angle, zeros = _angles(k, width), torch.zeros(width // 2).double()
    side_by_side = torch.arange(width).view(2, -1).T.flatten()
    cosines = torch.cat([angle.cos(), angle.cos()]).diag()
    row, column = divmod(int((found - right).abs().argmax()), width)
    explain(
        found,
        [
            (
                _step(abs(k), width),
                "for a negative k the hands must turn back.",
            ),
            (
                right.T,
                "this turns the hands back: it leads from p_t to p_(t-k). See"
                " on which side the minus stands, and that p_t is a column.",
            ),
            (
                torch.where(right.tril(-1) != 0, right.abs(), right),
                "a minus is missing: this is no rotation, and R.T @ R is not"
                " the identity.",
            ),
            (
                right[side_by_side][:, side_by_side],
                "these are the blocks of equation (6.4), for sine and cosine"
                " side by side. In this layout they stand D / 2 apart.",
            ),
            (
                _rotation(torch.full_like(zeros, k)),
                "all hands turn equally fast. Each has an angle of its own.",
            ),
            (
                cosines,
                "only the cosines are there: a sine goes over into the cosine"
                " of its hand, so each hand needs four numbers.",
            ),
            (
                _rotation(_angles(k, width, 1.0)),
                "your exponent is i / D. If i counts hands, it must be"
                " 2 i / D.",
            ),
            (
                _step(1, width),
                "this is one step, whatever k is.",
            ),
        ],
        f"for k={k}, width={width} the entry farthest from what it should be"
        f" is in row {row}, column {column}: {found[row, column]:.3f}, not"
        f" {right[row, column]:.3f}. Which number of which hand does this row"
        " make, and from what?",
    )


@exercise("6.3")
def check_stretch(answer: Any) -> None:
    """Stretch tables of several sizes, with several shares."""
    for n, width, max_len, a, b in (
        (3, 4, 25, 0.3, 0.2),
        (4, 6, 64, 0.25, 0.1),
        (5, 2, 7, 0.2, 0.35),
    ):
        table = torch.randn(n, width)
        found = numbers(call(answer, table, max_len, a, b))
        if found.shape != (max_len, width):
            raise Wrong(
                f"for a table of {(n, width)} and max_len={max_len} the shape"
                f" is {tuple(found.shape)}, and should be {(max_len, width)}."
            )
        rows = table.double()
        u = (rows - (a + b) * rows[0]) / (1 - a - b)
        right = _three_digits(u, max_len, (a, b, 1 - a - b))
        if not is_near(found, right):
            _explain_stretch(found, rows, right, a, b)


def _three_digits(u: Tensor, max_len: int, shares: Sequence[float]) -> Tensor:
    """Mix the entries of a position's three digits, the slowest first."""
    n, t = len(u), torch.arange(max_len)
    digits = t // n**2, t // n % n, t % n
    mixed = [c * u[digit] for c, digit in zip(shares, digits, strict=True)]
    return torch.stack(mixed).sum(0)


def _explain_stretch(
    found: Tensor, table: Tensor, right: Tensor, a: float, b: float
) -> None:
    """Raise `Wrong` with the part of the mixture that is missing."""
    n, first, rest = len(table), table[0], 1 - a - b
    t = torch.arange(len(found))

    def mix(u: Tensor, *shares: float) -> Tensor:
        return _three_digits(u, len(found), shares or (a, b, rest))

    u = (table - (a + b) * first) / rest
    explain(
        found,
        [
            (
                mix(table),
                "the rows of the table are mixed themselves, so the first n"
                " positions are no longer what they were. Make u first.",
            ),
            (
                mix((table - a * first) / (1 - a)),
                "these u are those of two digits, equation (6.6). Of the"
                " first n positions two digits are 0 now: whose shares go to"
                " the first row?",
            ),
            (
                mix(table - (a + b) * first),
                "u is not divided by the share of the last digit.",
            ),
            (
                mix(u, rest, b, a),
                "the shares have changed places: a belongs to the digit that"
                " changes most rarely.",
            ),
            (
                mix(u, b, a, rest),
                "a and b have changed places: a belongs to the digit that"
                " changes most rarely.",
            ),
            (
                mix(u, 1, 1, 1),
                "the three entries are added up, and not mixed: the shares are"
                " a, b and what is left of 1.",
            ),
            (
                table[t % n],
                "this begins the table anew every n positions, so position n"
                " can't be told from position 0.",
            ),
        ],
        f"for n={n}, a={a}, b={b} the positions 0 and {len(found) - 1} begin"
        f" with {found[0, 0]:.3f} and {found[-1, 0]:.3f}; they should begin"
        f" with {right[0, 0]:.3f} and {right[-1, 0]:.3f}.",
    )


@exercise("6.4")
def check_mirror(answer: Any) -> None:
    """Attend over the bare encodings, and see where the weight goes."""
    for n, width in ((20, 32), (33, 64), (40, 48)):
        found = call(answer, n, width)
        if isinstance(found, Tensor | np.ndarray):
            found = list(found)  # two matrices in a stack
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise Wrong("return two matrices: w_q, w_k.")
        refuse_stub(found)
        w_q, w_k = (numbers(matrix, (width, width)) for matrix in found)
        p = sinusoidal_positions(n, width).double()
        scores = (p @ w_q) @ (p @ w_k).T / math.sqrt(width)  # (T, T)
        weights = scores.softmax(dim=-1)
        if not weights.isfinite().all():
            raise Wrong("some weights are not numbers: a factor is too large.")
        if weights.flip(1).diagonal().min() <= 0.9:
            _explain_mirror(weights, p)


def _explain_mirror(weights: Tensor, p: Tensor) -> None:
    """Raise `Wrong` with where the rows look instead."""
    n, width = p.shape
    favourite, rows = weights.argmax(dim=-1), torch.arange(n)
    if weights.std() < 1e-6:
        raise Wrong(
            "every position looks at all others equally: the scores do not"
            " depend on the positions."
        )
    if (favourite == n - 1 - rows).all():
        least = weights.flip(1).diagonal().min()
        raise Wrong(
            "each position looks most at the right one, but with a weight of"
            f" {least:.2f} in the worst row. Make the scores larger."
        )
    order = torch.arange(width).view(2, -1).T.flatten()
    forward = _step(n - 1, width)[order][:, order].T  # for rows
    signs = torch.tensor([-1.0, 1.0]).double().repeat(width // 2)
    by_all = (
        "every position is moved by the same number of places. In a mirror"
        " the later ones must look earlier: which position is the mirror"
        " image of t about 0, and what is its encoding?"
    )
    explain(
        favourite,
        [
            (rows, "each position looks at itself, not at its mirror image."),
            (
                (n - rows).clamp(max=n - 1),
                "position t looks at n - t. Positions count from 0: the last"
                " is n - 1.",
            ),
            *((_best(p, turn), by_all) for turn in (forward, forward.T)),
            (
                _best(p, signs.diag()),
                "the query of t is the encoding of -t, which is no position"
                " here. Move it: by how many places?",
            ),
            (
                _best(p, signs.diag() @ forward.T),
                "the mirror image is moved the wrong way. p @ w_q multiplies"
                " a row, so w_q acts as its transpose does on a column.",
            ),
            (
                _best(p, (-signs).diag() @ forward),
                "the cosines have changed their sign. Which of sine and"
                " cosine does so if the angle does?",
            ),
        ],
        f"for n={n} the positions 0, 1 and 2 look most at"
        f" {favourite[:3].tolist()}, and should look at"
        f" {[n - 1, n - 2, n - 3]}.",
    )


def _best(p: Tensor, matrix: Tensor) -> Tensor:
    """Return where each row looks if this is the matrix of the queries."""
    return (p @ matrix @ p.T).argmax(dim=-1)


@quiz(6)
def quiz_key() -> str:
    """Compute the right letters."""
    return (
        _two_the()
        + _equal_distance()
        + _steps_together()
        + _first_unreached()
        + _order_before()
    )


def _two_the() -> str:
    """Question 1: the outputs of one word in two places."""
    layer = SelfAttention(6, 4)
    the, dog, bites, man = torch.randn(4, 6)
    apart = layer(torch.stack([the, dog, bites, the, man])[None])[0]
    near = layer(torch.stack([dog, the, the, bites, man])[None])[0]
    if is_near(apart[0], apart[3]):
        return "B"
    return "C" if is_near(near[1], near[2]) else "A"


def _equal_distance() -> str:
    """Question 2: two products at one distance."""
    p = sinusoidal_positions(110, 64).double()
    early, late = p[3] @ p[5], p[103] @ p[105]
    if is_near(early, late):
        return "C"
    return "A" if early > late else "B"


def _steps_together() -> str:
    """Question 3: which rotation two of them make."""
    both = _step(3, 16) @ _step(4, 16)
    steps = {"A": 7, "B": 12, "C": 1}
    return "".join(x for x, k in steps.items() if is_near(both, _step(k, 16)))


def _first_unreached() -> str:
    """Question 4: the first position without a row."""
    table = torch.randn(16, 2)
    for letter, position in {"A": 32, "B": 128, "C": 256}.items():
        try:
            stretched_positions(table, position + 1)
        except UserError:
            return letter
    return ""


def _order_before() -> str:
    """Question 5: a causal layer's last output, with others moved."""
    layer, x = SelfAttention(6, 4), torch.randn(1, 6, 6)
    order = [3, 0, 4, 1, 2, 5]
    mask = causal_mask(6)
    before, after = layer(x, mask)[0, -1], layer(x[:, order], mask)[0, -1]
    if is_near(after, torch.zeros(4)):
        return "C"
    return "B" if is_near(before, after) else "A"
