"""Homework 1: the two masks."""

from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
)
from minitransformer.homework.hw1.tasks import (
    causal_mask,
    draw_ids,
    padding_mask,
)
from minitransformer.masks import causal_mask as triangle


def boolean(found: Any) -> Tensor:
    """Return a mask, or raise `Wrong` if it is none."""
    if not isinstance(found, Tensor):
        raise Wrong(f"a tensor is wanted, and this is {type(found).__name__}.")
    if found.dtype != torch.bool:
        raise Wrong(
            f"a mask is boolean, and this one is {found.dtype}: True and"
            " False, not numbers."
        )
    return found


@padding_mask.test("true means: may attend", 4, "One idea, many conventions")
def check_padding_meaning(answer: Any) -> None:
    """The mask, whatever its shape, as long as it has as many numbers."""
    for B, S in ((2, 5), (3, 4)):
        ids = draw_ids(B, S, 0)
        found = boolean(call(answer, ids, 0))
        if found.numel() != B * S:
            continue  # the next test's
        if torch.equal(found.reshape(B, S), ids == 0):
            raise Wrong(
                "the mask is turned round: it is True where the padding"
                " stands, and True means: may attend."
            )


@padding_mask.test(
    "a column for each key", 4, "Padding: sentences of different lengths"
)
def check_padding_shape(answer: Any) -> None:
    """The shape, which says whose padding is hidden."""
    for B, S in ((2, 5), (3, 4)):
        ids = draw_ids(B, S, 0)
        found = boolean(call(answer, ids, 0))
        shape, wanted = tuple(found.shape), (B, 1, S)
        if shape == wanted:
            continue
        if shape == (B, S, 1):
            raise Wrong(
                f"the shape {shape} has a row for each position: that hides"
                " queries. It is the keys that are hidden: a column for each,"
                f" {wanted}."
            )
        if shape == (B, S, S):
            raise Wrong(
                f"the shape is {shape}, and should be {wanted}: mask keys, not"
                " queries. One row for all of them will do."
            )
        if shape == (B, S):
            raise Wrong(
                f"the shape is {shape}. To broadcast over the queries it"
                f" needs a dimension for them: {wanted}."
            )
        if shape == (B, 1, 1, S):
            raise Wrong(
                f"the shape is {shape}, and should be {wanted}: there are no"
                " heads yet, and no dimension for them."
            )
        raise Wrong(f"the shape is {shape}, and should be {wanted}.")


@padding_mask.test(
    "the padding's id is given", 4, "Padding: sentences of different lengths"
)
def check_padding_id(answer: Any) -> None:
    """Other ids than 0, and 0 as an ordinary one."""
    for pad_id in (0, 7, 3):
        ids = draw_ids(3, 6, pad_id)
        ids[0, 1] = 0 if pad_id else 9  # an ordinary token
        found = boolean(call(answer, ids, pad_id))[:, 0]
        if torch.equal(found, ids != pad_id):
            continue
        if pad_id and torch.equal(found, ids != 0):
            raise Wrong(
                f"here padding has the id {pad_id}, and 0 is a word: compare"
                " with pad_id."
            )
        raise Wrong(
            f"for the ids {ids.tolist()} with pad_id={pad_id} the mask is"
            " wrong."
        )


@padding_mask.test(
    "padding may stand on the left", 4, "A query with nothing to look at"
)
def check_padding_left(answer: Any) -> None:
    """Padding in front, as in generated text, and a row of nothing else."""
    ids = draw_ids(3, 6, 9, left=True)
    ids[0] = 9
    found = boolean(call(answer, ids, 9))[:, 0]
    if not torch.equal(found, ids != 9):
        raise Wrong(
            "with padding on the left the mask is wrong: look at every id,"
            " and not at the length or at where the first padding stands."
        )


@causal_mask.test(
    "a square of true and false", 4, "With matrices: all rows at once"
)
def check_causal_shape(answer: Any) -> None:
    """Shape and type."""
    for size in (4, 7):
        found = boolean(call(answer, size))
        if found.shape != (size, size):
            raise Wrong(
                f"the shape is {tuple(found.shape)}, and should be"
                f" {(size, size)}: a row for each query, a column for each"
                " key."
            )


@causal_mask.test("no position sees what comes later", 4, "The question")
def check_causal_future(answer: Any) -> None:
    """All above the diagonal is false."""
    for size in (6, 3):
        found = boolean(call(answer, size))
        if not found.triu(1).any():
            continue
        right = triangle(size)
        mistakes = [
            (
                ~right,
                "the mask is turned round: it is True where the future is,"
                " and True means: may attend.",
            ),
            (
                right.T,
                "that is the upper triangle: position t would see itself and"
                " what comes later. Rows are queries, columns are keys.",
            ),
            (
                torch.ones(size, size).tril(1) > 0,
                "each position sees one key too many, the next: the very word"
                " that it is to guess.",
            ),
            (torch.ones(size, size) > 0, "that hides nothing."),
        ]
        explain(
            found.int(),
            [(wrong.int(), words) for wrong, words in mistakes],
            f"position {int(found.triu(1).any(1).int().argmax())} of {size}"
            " sees a later one.",
        )


@causal_mask.test(
    "every position sees itself and all before it",
    4,
    "With loops: attend to what is there",
)
def check_causal_past(answer: Any) -> None:
    """The diagonal, and all below it, for other sizes."""
    for size in (5, 1, 2, 9):
        found = boolean(call(answer, size))
        if not found.diagonal().all():
            raise Wrong(
                "a position does not see itself: with that, the first has"
                " no key at all. The diagonal must be True."
            )
        if not torch.equal(found, triangle(size)):
            raise Wrong(
                f"of {size} positions, some do not see all that come before"
                " them."
            )
