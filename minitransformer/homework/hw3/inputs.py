"""Assignment 3, what enters a layer: positions and embeddings."""

import math
from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    numbers,
)
from minitransformer.homework.hw3.tasks import (
    a_size,
    embed,
    row,
    sinusoidal,
)

BY_HAND = "By hand: four features"
CLOCKS = "The idea, by way of wrong ones"
ADDED = "Where they are added"
NEAR = 5e-4  # float32 knows the angle of position 100 to about 1e-5


def angles(length: int, width: int, power: float = 2.0) -> Tensor:
    """Return the angle of each hand at each position, ``(T, D / 2)``."""
    t = torch.arange(length, dtype=torch.double)[:, None]
    hands = torch.arange(width // 2, dtype=torch.double)
    return t * 10_000 ** (-power * hands / width)


def in_turns(angle: Tensor) -> Tensor:
    """Set sine and cosine of each angle side by side, ``(T, D)``."""
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def _a_table(answer: Any) -> Tensor:
    """Ask for a table of some length and width, and see to its shape."""
    length, half = a_size(4, 40), a_size(3, 16)
    if length == 2 * half:
        length += 1
    found = numbers(call(answer, length, 2 * half))
    if found.shape == (2 * half, length):
        raise Wrong(
            f"for {length} positions of width {2 * half} the shape is"
            f" {tuple(found.shape)}: the table lies on its side. A position is"
            " a row."
        )
    if found.shape != (length, 2 * half):
        raise Wrong(
            f"for {length} positions of width {2 * half} the shape is"
            f" {tuple(found.shape)}, and should be {(length, 2 * half)}."
        )
    return found


@sinusoidal.test("a row for each position", 6, BY_HAND)
def check_table(answer: Any) -> None:
    """Ask for tables of several sizes, and look at their shapes."""
    for _ in range(3):
        _a_table(answer)


@sinusoidal.test("position 0 is 0, 1, 0, 1 and so on", 6, BY_HAND)
def check_first_row(answer: Any) -> None:
    """Look at the first row: which is a sine, and where counting starts."""
    for _ in range(2):
        found = _a_table(answer)
        half = found.shape[1] // 2
        zeros, ones = torch.zeros(half), torch.ones(half)
        right = torch.stack([zeros, ones], dim=1).flatten()
        if is_near(found[0], right, NEAR):
            continue
        halves = (
            "all sines stand in one half and all cosines in the other. Here"
            " they take turns: the sine of hand i at feature 2i, its cosine"
            " beside it."
        )
        explain(
            found[0],
            [
                (
                    right.flip(0),
                    "sine and cosine have changed places: even features have"
                    " the sine, and sin 0 = 0.",
                ),
                (torch.cat([zeros, ones]), halves),
                (torch.cat([ones, zeros]), halves),
                (
                    in_turns(angles(2, 2 * half))[1],
                    "your first row is the one of position 1. Positions count"
                    " from 0.",
                ),
                (
                    torch.zeros(2 * half),
                    "position 0 has zeros alone, so the cosines are missing.",
                ),
                (
                    torch.ones(2 * half),
                    "position 0 has ones alone, so the sines are missing.",
                ),
            ],
            f"the first row begins with {row(found[0])}. At position 0 every"
            " angle is 0, and sin 0 = 0, cos 0 = 1.",
            NEAR,
        )


@sinusoidal.test("the first hand turns by one radian a position", 6, CLOCKS)
def check_first_hand(answer: Any) -> None:
    """Look at the two columns of the fastest hand."""
    for _ in range(2):
        found = _a_table(answer)
        length, width = found.shape
        t = torch.arange(length, dtype=torch.double)[:, None]
        if is_near(found[:, :2], in_turns(t), NEAR):
            continue
        explain(
            found[:, :2],
            [
                (
                    in_turns(t.deg2rad()),
                    "the angles are taken for degrees. They are radians"
                    " already: nothing to convert.",
                ),
                (
                    in_turns(2 * math.pi * t),
                    "the first hand makes a whole turn at each step, so all"
                    " positions look alike to it. It should turn by one"
                    " radian.",
                ),
                (
                    in_turns(t / length),
                    "the positions are divided by the length, so the same"
                    " position differs from sentence to sentence.",
                ),
                (
                    in_turns(-t),
                    "the hands turn backwards: the sine of position 1 should"
                    " be above 0.",
                ),
                *(
                    (
                        torch.cat([t.sin(), other.cos()], dim=1),
                        "sine and cosine of one hand have different speeds."
                        " Features 2i and 2i + 1 have the same angle.",
                    )
                    for other in (
                        t * 10_000 ** (-1 / width),
                        t * 10_000 ** (-2 / width),
                    )
                ),
                (
                    in_turns(t * 10_000 ** (-2 / width)),
                    "your first hand is the second. Hands count from 0, and"
                    " the speed of hand 0 is 1.",
                ),
            ],
            f"features 0 and 1 of position 1 are {row(found[1, :2])}, and"
            " should be (0.841, 0.540), the sine and cosine of 1.",
            NEAR,
        )


@sinusoidal.test("each hand has its own speed", 6, CLOCKS)
def check_all_hands(answer: Any) -> None:
    """Compare the whole table, now that its first hand is right."""
    for _ in range(2):
        found = _a_table(answer)
        length, width = found.shape
        angle = angles(length, width)
        if is_near(found, in_turns(angle), NEAR):
            continue
        t, hands = torch.arange(length)[:, None], torch.arange(width // 2)
        rule = "The exponent must be 2i / D, where i counts the hands."
        # Only the first angles: float32 does not know those of fast hands.
        if is_near(found[:3, 2:4], in_turns(angles(3, width, -2.0))[:, 2:4]):
            raise Wrong(
                "the hands get faster: the speed is 1 divided by the power of"
                " 10,000."
            )
        hand = int((found - in_turns(angle)).abs().amax(0).argmax()) // 2
        explain(
            found,
            [
                (
                    in_turns(angles(length, width, 1.0)),
                    "the exponent is i / D, and should be 2i / D, if i counts"
                    " the hands: now every wavelength is the root of what it"
                    " should be.",
                ),
                (
                    in_turns(angles(length, width, 4.0)),
                    "the exponent has the factor 2 twice. If i goes in steps"
                    " of two already, it is i / D.",
                ),
                (
                    in_turns(t * torch.ones(width // 2)),
                    "all hands turn equally fast.",
                ),
                (
                    in_turns(
                        t * 10_000 ** (-2 * hands.double() / (width - 2))
                    ),
                    f"the last hand has the speed 1/10,000. {rule} D is the"
                    " whole width.",
                ),
                (
                    in_turns(t * 1_000 ** (-2 * hands.double() / width)),
                    "the base is 1,000, and should be 10,000.",
                ),
                (
                    in_turns(t * math.e ** (-2 * hands.double() / width)),
                    "the base is e: a factor log(10,000) is missing in the"
                    " exponent.",
                ),
            ],
            f"of D = {width}, hand {hand} is not right: at position 1 it is"
            f" {row(found[1, 2 * hand : 2 * hand + 2])}, and should be"
            f" {row(in_turns(angle)[1, 2 * hand : 2 * hand + 2])}. {rule}",
            NEAR,
        )


def _sentences() -> tuple[Tensor, Tensor, int]:
    """Draw ids ``(B, T)``, a table ``(V, D)``, and how many positions."""
    B, T, D = a_size(2, 3), a_size(5, 8), a_size(9, 14)
    V = a_size(40, 60)
    return torch.randint(V, (B, T)), torch.randn(V, D), T + a_size(2, 6)


@embed.test("the rows of the table, times the root of the width", 6, ADDED)
def check_scaled(answer: Any) -> None:
    """Embed with positions that are all zero."""
    for _ in range(3):
        ids, table, count = _sentences()
        (B, T), (V, D) = ids.shape, table.shape
        zeros = torch.zeros(max(count, V), D)
        found = numbers(_embedded(answer, ids, table, zeros), (B, T, D))
        rows = table[ids].double()
        if is_near(found, rows * math.sqrt(D)):
            continue
        explain(
            found,
            [
                (
                    rows,
                    "the rows are not scaled: multiply them by the root of"
                    " d_model, or the positions drown them.",
                ),
                (rows * D, "the factor is D, and should be its root."),
                (
                    rows / math.sqrt(D),
                    "the rows are divided by the root of D. Attention divides"
                    " its scores; an embedding is multiplied.",
                ),
                (
                    rows * math.sqrt(V),
                    "the factor is the root of the number of kinds V, and"
                    " should be that of the width D.",
                ),
                (
                    rows * math.sqrt(T),
                    "the factor is the root of the length T, and should be"
                    " that of the width D.",
                ),
            ],
            f"with positions of zeros, token {ids[0, 1]} of the first sentence"
            f" becomes {row(found[0, 1])}, and should be its row of the table"
            f" times the root of {D}, {row(rows[0, 1] * math.sqrt(D))}.",
        )


def _embedded(
    answer: Any, ids: Tensor, table: Tensor, positions: Tensor
) -> Any:
    """Run the answer, and mind what a table of positions too long does."""
    try:
        return call(answer, ids, table, positions)
    except Wrong as wrong:
        if "size of tensor" in str(wrong):
            raise Wrong(
                f"the positions do not fit the tokens. There are"
                f" {len(positions)} rows, and a sentence has {ids.shape[1]}"
                " tokens: take the first T rows, where T is dimension 1 of"
                f" ids. ({wrong})"
            ) from None
        raise


@embed.test("each token gets the row of its position", 6, ADDED)
def check_placed(answer: Any) -> None:
    """Embed with random positions, more of them than tokens."""
    for _ in range(3):
        ids, table, count = _sentences()
        (B, T), D = ids.shape, table.shape[1]
        positions = torch.randn(max(count, len(table)), D)
        found = numbers(_embedded(answer, ids, table, positions), (B, T, D))
        p, tokens = positions.double(), table[ids].double() * math.sqrt(D)
        if is_near(found, tokens + p[:T]):
            continue
        explain(
            found,
            [
                (
                    tokens + p[:B, None],
                    "positions are counted along the batch: all tokens of a"
                    " sentence have the same, and each sentence another.",
                ),
                (tokens, "the positions are not added."),
                (
                    tokens + p[:T] * math.sqrt(D),
                    "the positions are multiplied by the root of D too. Scale"
                    " the tokens first, then add.",
                ),
                (
                    tokens + p[1 : T + 1],
                    "the first token gets row 1. Positions count from 0.",
                ),
                (
                    tokens + p[-T:],
                    "that takes the last T rows of the positions. The first"
                    " token stands at position 0.",
                ),
                (
                    tokens + p[ids],
                    "the rows of the positions are looked up by the ids. A"
                    " place does not depend on which token stands there.",
                ),
                (
                    tokens + p[0],
                    "every token gets the row of position 0.",
                ),
                (tokens * p[:T], "add the positions; do not multiply."),
            ],
            "the tokens are right without positions, and wrong with them:"
            f" added to the second token is {row((found - tokens)[0, 1])}, and"
            f" row 1 of the positions is {row(p[1])}.",
        )
