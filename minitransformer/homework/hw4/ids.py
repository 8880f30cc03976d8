"""Checks of homework 4: what is read, what is predicted, who sees whom."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    numbers,
)
from minitransformer.homework.hw4.tasks import draw_ids, masks, shift, two
from minitransformer.masks import causal_mask, padding_mask

SHIFTED = "Teacher forcing"


# What the decoder reads, and its labels ---


def shifted(answer: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Run a learner's ``shift``; both results are ``(B, T + 1)``."""
    wanted = (len(ids), ids.shape[1] + 1)
    parts = two(call(answer, ids), "what is read, and the labels")
    reads, labels = (numbers(part) for part in parts)
    for name, part in (("what is read", reads), ("the labels", labels)):
        if part.shape == ids.shape:
            raise Wrong(
                f"{name}: the shape is {tuple(part.shape)}, and should be"
                f" {wanted}. The first word is predicted too, from BOS, and"
                " so is the end: one column more than there are words."
            )
        if part.shape != wanted:
            raise Wrong(
                f"{name}: the shape is {tuple(part.shape)}, and should be"
                f" {wanted}."
            )
    return reads, labels


@shift.test("what is read and what is predicted are ids", 9, SHIFTED)
def check_pair(answer: Any) -> None:
    """Look at shapes and kinds alone."""
    ids = draw_ids(4, 7)
    shifted(answer, ids)
    for part in call(answer, ids):
        if isinstance(part, Tensor) and part.is_floating_point():
            raise Wrong(
                f"ids are whole numbers, and these are {part.dtype}: an"
                " embedding could not look them up."
            )


@shift.test("no place reads its own label", 9, "Common mistakes")
def check_shifted(answer: Any) -> None:
    """Look for a target that is not shifted, or shifted the wrong way."""
    for rows, longest in ((3, 6), (5, 8)):
        reads, labels = shifted(answer, draw_ids(rows, longest))
        if is_near(reads, labels):
            raise Wrong(
                "nothing is shifted: each place reads the very token that it"
                " must predict, and the model will learn to copy."
            )
        if (labels[:, 0] == BOS_ID).all() and (reads == EOS_ID).any():
            raise Wrong("what is read and what is predicted are swapped.")


@shift.test("every row is read from BOS on", 9, SHIFTED)
def check_bos(answer: Any) -> None:
    """Look for BOS where it belongs, and where it does not."""
    for rows, longest in ((3, 6), (5, 8)):
        reads, labels = shifted(answer, draw_ids(rows, longest))
        if not (reads == BOS_ID).any():
            raise Wrong(
                "BOS is left out: from what should the decoder predict the"
                " first word? It reads BOS, then the words."
            )
        if not (reads[:, 0] == BOS_ID).all():
            raise Wrong("every row must begin by reading BOS.")
        if (labels == BOS_ID).any():
            raise Wrong("BOS is among the labels; it is only read.")


@shift.test("the last label of each sentence is EOS", 9, SHIFTED)
def check_eos(answer: Any) -> None:
    """Look for EOS right behind the words, before the padding."""
    for rows, longest in ((3, 6), (5, 8)):
        ids = draw_ids(rows, longest)
        _, labels = shifted(answer, ids)
        ends = labels == EOS_ID
        if not ends.any(dim=1).all():
            raise Wrong(
                "some row never predicts EOS: a model so trained would not"
                " know how to end."
            )
        if (ends.sum(dim=1) > 1).any():
            raise Wrong("a sentence ends once: some row has EOS twice.")
        lengths = (ids != PAD_ID).sum(dim=1)
        if (ends[:, -1] & (lengths < longest)).any():
            raise Wrong(
                "EOS stands behind the padding: it must follow the last word"
                " of each row, wherever that is."
            )
        if not (ends.double().argmax(dim=1) == lengths).all():
            raise Wrong(
                "EOS does not stand where the words end: it is the label of"
                " the last word."
            )


@shift.test("each place predicts the word after the one it reads", 9, SHIFTED)
def check_words(answer: Any) -> None:
    """Compare with what is wanted, but for what is read above PAD."""
    for rows, longest in ((3, 6), (5, 8), (2, 4)):
        ids = draw_ids(rows, longest)
        reads, labels = shifted(answer, ids)
        ends = (ids != PAD_ID).sum(dim=1)
        wanted = F.pad(ids, (0, 1), value=PAD_ID)
        wanted[torch.arange(rows), ends] = EOS_ID
        if not is_near(labels, wanted):
            raise Wrong(
                "the labels must be the words, then EOS, then PAD, in each"
                f" row; for {ids[0].tolist()} that is {wanted[0].tolist()}."
            )
        real = wanted != PAD_ID
        right = F.pad(ids, (1, 0), value=BOS_ID)
        if not is_near(reads[real], right[real]):
            raise Wrong(
                "the shift is by one: where word t is to be predicted, word"
                " t - 1 is read, and BOS before the first."
            )
        if not ((reads == PAD_ID) | (reads == EOS_ID))[~real].all():
            raise Wrong("behind its words a short row may read EOS and PAD.")


# Who may look at whom ---


def made(answer: Any, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Run a learner's ``masks``; the results have the shapes asked for."""
    pair = two(call(answer, source, target), "the source and the target mask")
    B, S = source.shape
    T = target.shape[1]
    shapes = {"source": (B, 1, 1, S), "target": (B, 1, T, T)}
    for (name, shape), mask in zip(shapes.items(), pair, strict=True):
        numbers(mask)
        if tuple(mask.shape) != shape:
            raise Wrong(
                f"the {name} mask has shape {tuple(mask.shape)}, and should"
                f" have {shape}: sentences, heads, queries, keys."
            )
        if mask.dtype != torch.bool:
            raise Wrong(
                f"the {name} mask is {mask.dtype}, and should be torch.bool:"
                " ~ and masked_fill would not do what you mean."
            )
    return pair


def draw_pair() -> tuple[Tensor, Tensor]:
    """Draw ids of a source and of a target that begins with BOS."""
    return draw_ids(3, 7), F.pad(draw_ids(3, 5), (1, 0), value=BOS_ID)


@masks.test(
    "the masks are boolean, of the shapes asked for", 9, "The three masks"
)
def check_shapes(answer: Any) -> None:
    """Look at shapes and kinds alone."""
    made(answer, *draw_pair())
    made(answer, draw_ids(4, 6), draw_ids(4, 8))


@masks.test(
    "the source mask hides padding, and nothing else",
    4,
    "Padding: sentences of different lengths",
)
def check_source(answer: Any) -> None:
    """Compare with the padding mask, over a few batches."""
    for _ in range(3):
        source, target = draw_pair()
        found, _ = made(answer, source, target)
        right = padding_mask(source)
        if is_near(found, right):
            continue
        explain(
            found,
            [
                (
                    ~right,
                    "the source mask is turned round: true means may attend,"
                    " and PAD may not be attended to.",
                ),
                (
                    torch.ones_like(right),
                    "the source mask hides nothing: where the id is PAD it"
                    " must be false.",
                ),
                (
                    right & (source != EOS_ID)[:, None, None],
                    "EOS is a token like any other, and is not hidden.",
                ),
            ],
            "the source mask must be false where the id is PAD, and true"
            " elsewhere.",
        )


@masks.test(
    "no target token sees a later one", 4, "A leak that the loss hides"
)
def check_causal(answer: Any) -> None:
    """Use a target without padding, so that only the future is hidden."""
    for T in (5, 8):
        target = torch.randint(4, 60, (3, T))
        _, found = made(answer, draw_ids(3, 7), target)
        right = causal_mask(T).expand(3, 1, T, T)
        if is_near(found, right):
            continue
        explain(
            found,
            [
                (
                    torch.ones_like(right),
                    "the target mask hides no future: a place sees the token"
                    " that it must predict.",
                ),
                (
                    right.mT,
                    "the target mask shows the future and hides the past:"
                    " row t is a query, and may see the columns 0 to t.",
                ),
                (
                    ~right,
                    "the target mask is turned round: true means may attend.",
                ),
                (
                    right & ~torch.eye(T, dtype=torch.bool),
                    "a token may see itself: it is read, and what is to be"
                    " predicted comes after it. So the diagonal is true.",
                ),
            ],
            "in a target without padding, row t may see the columns 0 to t,"
            " and no other.",
        )


@masks.test("the target mask hides padding too", 9, "The three masks")
def check_target(answer: Any) -> None:
    """Use padded targets, over a few batches."""
    for _ in range(3):
        source, target = draw_pair()
        _, found = made(answer, source, target)
        T = target.shape[1]
        keys = padding_mask(target)
        right = causal_mask(T) & keys
        if is_near(found, right):
            continue
        explain(
            found,
            [
                (
                    causal_mask(T).expand(right.shape),
                    "the target's padding is not hidden: join the causal mask"
                    " and the padding mask by &.",
                ),
                (
                    right & keys.mT,
                    "the rows of padding are emptied: a query that is left no"
                    " key gives nan. Hide keys, the columns, and no rows.",
                ),
                (
                    causal_mask(T) | keys,
                    "the two masks are joined by |, so that either lets a"
                    " token be seen. Both must allow it: &.",
                ),
            ],
            "row t may see column s if s is not after t, and not PAD.",
        )
