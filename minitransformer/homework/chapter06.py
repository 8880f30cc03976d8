"""The checks of chapter 6, "Positional encoding"."""

import math
from typing import Any

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

PLACES = 40  # of exercise 6.4


def _angles(t: float, width: int, power: float = 2.0) -> Tensor:
    """Return the angle of each hand of position ``t``, ``(D / 2,)``."""
    hands = torch.arange(width // 2, dtype=torch.double)
    return t * 10_000.0 ** (-power * hands / width)


def _encode(angle: Tensor) -> Tensor:
    """Set sine and cosine of each angle side by side, ``(D,)``."""
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten()


@exercise("6.1")
def check_encode(answer: Any) -> None:
    """Compare late and early positions of several widths."""
    for t, width in ((3, 10), (1, 4), (57, 16), (0, 6), (2_000, 64)):
        found = numbers(call(answer, t, width))
        right = _encode(_angles(t, width))
        if found.shape != right.shape:
            raise Wrong(
                f"for width={width} this has shape {tuple(found.shape)};"
                f" {width} numbers are wanted, two for each hand."
            )
        # float32 knows the angle of a late position to 1e-4 only.
        if not is_near(found, right, 5e-4):
            _explain_encode(found, t, width)


def _explain_encode(found: Tensor, t: int, width: int) -> None:
    """Raise `Wrong` with what is wrong with the angles or their order."""
    angle = _angles(t, width)
    hands = torch.arange(width // 2, dtype=torch.double)
    explain(
        found,
        [
            (
                _encode(_angles(t, width, 1.0)),
                "the exponent is i / D, which is 2 i / D if i counts hands:"
                " the hands slow down too little.",
            ),
            (
                _encode(_angles(t, width, 4.0)),
                "the exponent has the factor 2 twice. If i already goes in"
                " steps of two, it is i / D.",
            ),
            (
                torch.cat([angle.sin(), angle.cos()]),
                "all sines first and all cosines behind: as good, but another"
                " layout. Here the two numbers of a hand stand side by side.",
            ),
            (
                torch.stack([angle.cos(), angle.sin()], -1).flatten(),
                "sine and cosine have changed places: the sine comes first.",
            ),
            (
                _encode(angle.deg2rad()),
                "the angles are in radians already: nothing to convert.",
            ),
            (
                _encode(_angles(t + 1, width)),
                "this is the next position: positions count from 0.",
            ),
            (
                _encode(t * 10_000.0 ** (2 * hands / width)),
                "the hands get faster: divide by the power of 10,000, do not"
                " multiply by it.",
            ),
            (
                _encode(t * 1_000.0 ** (-2 * hands / width)),
                "the base is 10,000, not 1,000.",
            ),
        ],
        f"for t={t}, width={width} this begins with {found.tolist()[0]:.4f}"
        f" and {found.tolist()[1]:.4f}, and not all {width} numbers are right."
        " Compute t=1 with four features by hand and compare.",
        5e-4,
    )


def _step(k: float, width: int) -> Tensor:
    """Return the rotation by ``k`` positions, ``(D, D)``."""
    return _blocks_of(_angles(k, width))


@exercise("6.2")
def check_step(answer: Any) -> None:
    """Compare with the rotation; no other matrix moves every position."""
    for k, width in ((3, 8), (1, 4), (-5, 6), (40, 16)):
        found = numbers(call(answer, k, width), (width, width))
        right = _step(k, width)
        if not is_near(found, right):
            _explain_step(found, k, width)


def _explain_step(found: Tensor, k: int, width: int) -> None:
    """Raise `Wrong` with where this matrix leads instead."""
    right = _step(k, width)
    angle = _angles(k, width)
    signs = torch.ones(width, width, dtype=torch.double)
    rows = torch.arange(0, width, 2)
    signs[rows + 1, rows] = -1  # takes the minus away
    halves = torch.cat([torch.arange(0, width, 2), torch.arange(1, width, 2)])
    spread = torch.zeros(width, width, dtype=torch.double)
    spread[rows, rows] = spread[rows + 1, rows + 1] = angle.cos()
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
                right * signs,
                "a minus is missing: this is no rotation, and R.T @ R is not"
                " the identity.",
            ),
            (
                right[halves][:, halves],
                "the right blocks in the wrong layout: here sine and cosine"
                " of a hand stand side by side, not in two halves.",
            ),
            (
                _blocks_of(torch.full_like(angle, k)),
                "all hands turn equally fast. Each has an angle of its own.",
            ),
            (
                spread,
                "only the cosines are there: a sine goes over into the cosine"
                " beside it, so each block has four numbers.",
            ),
            (
                _blocks_of(_angles(k, width, 1.0)),
                "the exponent is i / D, and must be 2 i / D if i counts"
                " hands.",
            ),
            (
                _step(1, width),
                "this is one step, whatever k is.",
            ),
        ],
        f"for k={k}, width={width} this matrix moves p_0 to"
        f" {_short(found @ _encode(_angles(0, width)))}, and p_{k} begins"
        f" with {_short(_encode(_angles(k, width)))}.",
    )


def _blocks_of(angle: Tensor) -> Tensor:
    """Return the rotation by these angles, ``(D, D)``."""
    cos, sin = torch.diag(angle.cos()), torch.diag(angle.sin())
    block = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.double)
    one = torch.eye(2, dtype=torch.double)
    return torch.kron(cos, one) + torch.kron(sin, block)


def _short(vector: Tensor) -> str:
    """Write the first numbers of a vector."""
    return "(" + ", ".join(f"{x:.3f}" for x in vector.tolist()[:4]) + ", ...)"


@exercise("6.3")
def check_stretch(answer: Any) -> None:
    """Stretch tables of several sizes, by several a."""
    for n, width, max_len, a in (
        (5, 3, 23, 0.4),
        (4, 6, 16, 0.25),
        (7, 2, 5, 0.3),
    ):
        table = torch.randn(n, width)
        found = numbers(call(answer, table, max_len, a))
        if found.shape != (max_len, width):
            raise Wrong(
                f"for a table of {(n, width)} and max_len={max_len} the shape"
                f" is {tuple(found.shape)}, and should be {(max_len, width)}."
            )
        t = torch.arange(max_len)
        coarse, fine = t // n, t % n
        rows = table.double()
        u = (rows - a * rows[0]) / (1 - a)
        right = a * u[coarse] + (1 - a) * u[fine]
        if not is_near(found, right):
            _explain_stretch(found, rows, max_len, a)


def _explain_stretch(
    found: Tensor, table: Tensor, max_len: int, a: float
) -> None:
    """Raise `Wrong` with the part of equation (6.6) that is missing."""
    n, t = len(table), torch.arange(max_len)
    coarse, fine = t // n, t % n
    u = (table - a * table[0]) / (1 - a)
    undivided = table - a * table[0]
    fixed = (table - 0.4 * table[0]) / 0.6

    def mix(u: Tensor, a: float) -> Tensor:
        return a * u[coarse] + (1 - a) * u[fine]

    explain(
        found,
        [
            (
                mix(table, a),
                "the rows of the table are mixed themselves, so the first n"
                " positions are no longer what they were. Make u first.",
            ),
            (
                mix(u, 1 - a),
                "a and 1 - a have changed places: a belongs to the digit that"
                " changes every n positions.",
            ),
            (
                mix(undivided, a),
                "u is not divided by 1 - a.",
            ),
            (
                mix((table - a) / (1 - a), a),
                "u takes a itself away, and not a times the first row.",
            ),
            (
                mix(fixed, 0.4),
                "a is a fixed number. Use the argument.",
            ),
            (
                u[coarse] + u[fine],
                "the two entries are added up, and not mixed: the shares are"
                " a and 1 - a.",
            ),
            (
                table[fine],
                "this begins the table anew every n positions, so position n"
                " can't be told from position 0.",
            ),
        ],
        f"for n={n}, a={a} the positions 0 and {max_len - 1} begin with"
        f" {found[0, 0]:.3f} and {found[-1, 0]:.3f}; they should begin with"
        f" {mix(u, a)[0, 0]:.3f} and {mix(u, a)[-1, 0]:.3f}.",
    )


@exercise("6.4")
def check_look_back(answer: Any) -> None:
    """Attend over the bare encodings, and see where the weight goes."""
    for k, width in ((3, 32), (1, 64), (7, 48)):
        found = call(answer, k, width)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise Wrong("return two matrices: w_q, w_k.")
        refuse_stub(found)
        w_q, w_k = (numbers(matrix, (width, width)) for matrix in found)
        p = sinusoidal_positions(PLACES, width).double()
        scores = (p @ w_q) @ (p @ w_k).T / math.sqrt(width)  # (T, T)
        weights = scores.softmax(dim=-1)
        if not weights.isfinite().all():
            raise Wrong("some weights are not numbers: a factor is too large.")
        if weights.diagonal(-k).min() <= 0.9:
            _explain_look_back(weights, k)


def _explain_look_back(weights: Tensor, k: int) -> None:
    """Raise `Wrong` with where the rows look instead."""
    favourite = weights.argmax(dim=-1)
    rows = torch.arange(PLACES)
    inner = slice(k, PLACES - k)
    if weights.std() < 1e-6:
        raise Wrong(
            "every position looks at all others equally: the scores do not"
            " depend on the positions."
        )
    if (favourite[inner] == (rows + k)[inner]).all():
        raise Wrong(
            f"position t looks at t + {k}, which comes after. p @ w_q"
            " multiplies a row, so w_q acts as its transpose does on a"
            " column."
        )
    if (favourite == rows).all():
        raise Wrong(
            "each position looks at itself: the query of t must be the"
            f" encoding of t - {k}, not its own."
        )
    if (favourite[k:] == (rows - k)[k:]).all():
        least = weights.diagonal(-k).min()
        raise Wrong(
            f"each position looks most at the right one, but with a weight of"
            f" {least:.2f} in the worst row. Make the scores larger."
        )
    raise Wrong(
        f"for k={k} position {PLACES // 2} looks most at"
        f" {favourite[PLACES // 2]}, and should look at {PLACES // 2 - k}."
    )


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
