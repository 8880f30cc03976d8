"""Homework 1: the softmax and the scores."""

import math
from typing import Any

import torch

from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    numbers,
)
from minitransformer.homework.hw1.tasks import (
    adds_up,
    divisors,
    divisors_in_front,
    in_front,
    scores,
    softmax,
)

NOT_A_NUMBER = "nan, 'not a number'"


@softmax.test(
    "every row adds up to one", 2, "With matrices: all queries at once"
)
def check_softmax_rows(answer: Any) -> None:
    """Tables of scores of an ordinary size."""
    for shape in ((4, 6), (3, 2)):
        table = torch.randn(shape)
        found = numbers(call(answer, table), shape)
        if adds_up(found):
            continue
        if adds_up(found, -2):
            raise Wrong(
                "every column adds up to one, and every row should: the"
                " softmax runs along the last dimension, over the keys."
            )
        if adds_up(found, (-2, -1)):
            raise Wrong(
                "the whole table adds up to one: each row needs a sum of its"
                " own."
            )
        powers = table.exp()
        not_divided = "the powers are not divided by the sum of their row."
        explain(
            found,
            [
                (powers, not_divided),
                (powers / table.amax(-1, keepdim=True).exp(), not_divided),
                (powers / table.max().exp(), not_divided),
                (table.log_softmax(-1), "these are the weights' logarithms."),
                (
                    table.sigmoid(),
                    "each score is turned into a weight by itself; those of a"
                    " row must share one whole.",
                ),
            ],
            f"the first row adds up to {found[0].sum():.3f}.",
        )


@softmax.test("weights are shares of powers of e", 2, "The question")
def check_softmax_powers(answer: Any) -> None:
    """The same tables, number by number."""
    for shape in ((4, 6), (3, 2)):
        table = torch.randn(shape)
        found = numbers(call(answer, table), shape)
        if is_near(found, table.softmax(-1)):
            continue
        explain(
            found,
            [
                (
                    table / table.sum(-1, keepdim=True),
                    "the scores themselves are divided by their sum. A score"
                    " may be negative: take e to its power first.",
                ),
                (
                    (-table).softmax(-1),
                    "the largest score gets the least weight: there is a"
                    " minus too many.",
                ),
                ((table * math.log(2)).softmax(-1), "take e, and not 2."),
            ],
            "every row adds up to one, but the weights are not those of"
            " equation (2.2).",
        )


@softmax.test(
    "the last of any number of dimensions",
    2,
    "With matrices: all queries at once",
)
def check_softmax_dimensions(answer: Any) -> None:
    """One row alone, a batch of tables, and heads."""
    for shape in ((7,), (2, 3, 5), (2, 4, 3, 5)):
        table = torch.randn(shape)
        found = numbers(in_front(answer, table), shape)
        mistakes = [
            (table.softmax(dim), f"with shape {shape} it runs over dim={dim}.")
            for dim in range(len(shape) - 1)
        ]
        if not is_near(found, table.softmax(-1)):
            explain(
                found,
                mistakes,
                f"with shape {shape} the rows along the last dimension are"
                " wrong.",
            )


@softmax.test("scores may be huge", 2, "Exercises")
def check_softmax_huge(answer: Any) -> None:
    """Rows near 1,000, near -1,000 and near 0, in one table."""
    table = torch.randn(3, 5) + torch.tensor([[1000.0], [-1000.0], [0.0]])
    found = numbers(call(answer, table), (3, 5))
    right = table.double().softmax(-1)
    if not is_near(found[0], right[0]):
        what = "wrong weights"
        if found[0].isnan().any():
            what = NOT_A_NUMBER
        raise Wrong(
            f"scores near 1,000 give {what}: e to such a power is too large"
            " for a float. Subtract the row's largest score first: that"
            " changes no weight. It is exercise 2.2."
        )
    if not is_near(found[1], right[1]):
        raise Wrong(
            "a row near -1,000 in a table with other rows comes out wrong:"
            " all its powers are 0. Subtract the largest score of the same"
            " row, and not of the whole table. One row alone is exercise"
            " 2.2."
        )
    if not is_near(found, right):
        raise Wrong(
            "a row near 0 beside rows that are huge comes out wrong. One row"
            " alone is exercise 2.2."
        )


@softmax.test(
    "minus infinity leaves no weight", 4, "With matrices: all rows at once"
)
def check_softmax_hidden(answer: Any) -> None:
    """Some scores of each row are minus infinity, one at least is not."""
    for size in (5, 8):
        table = torch.randn(3, size)
        hidden = torch.rand(3, size) < 0.5
        hidden[:, 2], hidden[:2, 0], hidden[2, 0] = False, True, False
        table = table.masked_fill(hidden, -math.inf)
        found = numbers(call(answer, table), (3, size))
        if found.isnan().any():
            raise Wrong(
                f"a row with some scores of minus infinity gives"
                f" {NOT_A_NUMBER}: e to the power of -inf is just 0."
            )
        if (found[hidden] != 0).any():
            raise Wrong("a score of minus infinity must get the weight 0.")
        if not is_near(found, table.softmax(-1)):
            raise Wrong(
                "a hidden score must not count in the sum of its row: the"
                " others share one whole."
            )


@softmax.test(
    "a row of minus infinities gives zeros",
    4,
    "A query with nothing to look at",
)
def check_softmax_nothing(answer: Any) -> None:
    """One row has no score but minus infinity, then every row."""
    for rows in ([1], [0, 1, 2]):
        table = torch.randn(3, 4)
        table[rows] = -math.inf
        found = numbers(call(answer, table), (3, 4))
        empty = found[rows]
        if empty.isnan().any():
            raise Wrong(
                f"a row of minus infinities gives {NOT_A_NUMBER}: its sum is"
                " 0, and 0/0 is none. Such a row must be zeros."
            )
        if is_near(empty, torch.full_like(empty, 0.25)):
            raise Wrong(
                "a row of minus infinities gives equal weights, to keys that"
                " are all hidden: it must be zeros."
            )
        if (empty != 0).any():
            raise Wrong("a row of minus infinities must be zeros.")
        if not is_near(found, table.softmax(-1).nan_to_num()):
            raise Wrong("one row without keys must leave the others alone.")


# scores ---


@scores.test(
    "a score for each query and key", 2, "With matrices: all queries at once"
)
def check_scores_pairs(answer: Any) -> None:
    """Square inputs, so that products the wrong way round run as well."""
    for n in (4, 3):
        query, key = torch.randn(2, n, n).unbind()
        found = numbers(in_front(answer, query, key), (n, n))
        mistakes = [
            (
                query @ key,
                "the keys must be transposed: row t, column s is the dot"
                " product of query t and key s, two rows.",
            ),
            (
                query.T @ key,
                "the queries are transposed, and the keys should be.",
            ),
            (
                key @ query.T,
                "rows and columns are exchanged: a row belongs to a query.",
            ),
            (
                query * key,
                "that multiplies number by number; a score is a sum of such"
                " products, one for each pair.",
            ),
        ]
        right = query @ key.T
        unit = found / found.norm()  # the divisor is the next test's
        if is_near(unit, right / right.norm()):
            continue
        if adds_up(found):
            raise Wrong("scores come before the softmax: leave it out here.")
        explain(
            unit,
            [(wrong / wrong.norm(), words) for wrong, words in mistakes],
            "row t, column s must hold the dot product of query t and key s,"
            " divided by the root of the width.",
        )


@scores.test("the divisor is the root of the key width", 2, "Why the root")
def check_scores_divisor(answer: Any) -> None:
    """Sizes that differ."""
    for T, S, d_k in ((3, 5, 7), (6, 2, 16)):
        query, key = torch.randn(T, d_k), torch.randn(S, d_k)
        found = numbers(in_front(answer, query, key), (T, S))
        dots = query @ key.T
        if not is_near(found, dots / math.sqrt(d_k)):
            explain(
                found,
                divisors(dots, d_k),
                f"the scores of {T} queries and {S} keys of width {d_k} differ"
                " from those of equation (2.1) before the softmax.",
            )


@scores.test("any dimensions in front", 2, "In the library")
def check_scores_front(answer: Any) -> None:
    """A batch, and a batch with heads."""
    for front in ((2,), (3, 2)):
        query, key = torch.randn(*front, 4, 6), torch.randn(*front, 5, 6)
        found = numbers(in_front(answer, query, key), (*front, 4, 5))
        dots = query @ key.mT
        if not is_near(found, dots / math.sqrt(6)):
            explain(
                found,
                divisors_in_front(dots) if len(front) == 1 else [],
                f"with {front} in front the scores are wrong: each sentence"
                " and head must be computed as if it were alone.",
            )
