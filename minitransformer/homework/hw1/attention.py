"""Homework 1: attention as a function."""

import math
from typing import Any

import torch
from torch import Tensor

from minitransformer.attention import scaled_dot_product_attention
from minitransformer.homework.checking import (
    Wrong,
    explain,
    is_near,
    numbers,
)
from minitransformer.homework.hw1.tasks import (
    adds_up,
    attention,
    divisors,
    divisors_in_front,
    in_front,
)


def attend(answer: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a learner's attention gives: output and weights."""
    found = in_front(answer, *inputs)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong("two things are wanted: return output, weights.")
    query, key, value = inputs[:3]
    output, weights = numbers(found[0]), numbers(found[1])
    shapes = (
        (*query.shape[:-1], value.shape[-1]),
        (*query.shape[:-1], key.shape[-2]),
    )
    if (output.shape, weights.shape) == shapes[::-1] and (
        output.shape != weights.shape
    ):
        raise Wrong("the output comes first, then the weights.")
    for name, each, shape in zip(
        ("output", "weights"), (output, weights), shapes, strict=True
    ):
        if each.shape != shape:
            raise Wrong(
                f"the shape of the {name} is {tuple(each.shape)}, and should"
                f" be {shape}."
            )
    return output, weights


def draw(
    asking: int, answering: int, d_k: int, d_v: int, *front: int
) -> list[Tensor]:
    """Draw queries, keys and values."""
    T, S = asking, answering
    shapes = ((*front, T, d_k), (*front, S, d_k), (*front, S, d_v))
    return [torch.randn(shape) for shape in shapes]


@attention.test(
    "every row of weights adds up to one",
    2,
    "With matrices: all queries at once",
)
def check_attention_rows(answer: Any) -> None:
    """Without a mask: what is returned, its shapes and its sums."""
    for sizes in ((4, 6, 8, 8), (5, 2, 3, 3)):
        _, weights = attend(answer, *draw(*sizes))
        if adds_up(weights):
            continue
        if adds_up(weights, -2):
            raise Wrong(
                "the softmax runs over the queries: every column adds up to"
                " one, not every row."
            )
        if is_near(weights.sum(-1).diff(), torch.zeros(sizes[0] - 1)):
            raise Wrong(
                "every row of weights adds up to the same number, and not to"
                " one: the divisor belongs to the scores, before the softmax."
            )
        raise Wrong(
            f"the first row of weights adds up to {weights[0].sum():.3f}: are"
            " these scores, before the softmax?"
        )


@attention.test(
    "the output mixes the values",
    2,
    "See it: an output never leaves the values' triangle",
)
def check_attention_output(answer: Any) -> None:
    """Equal widths and lengths, so that each mix-up runs.

    The output is held against the weights that come with it.
    """
    for T, d in ((5, 4), (3, 6)):
        query, key, value = draw(T, T, d, d)
        output, weights = attend(answer, query, key, value)
        weights = weights.to(value.dtype)  # right or not: the next test's
        right = weights @ value
        if is_near(output, right):
            continue
        dots = query @ key.T / math.sqrt(d)
        explain(
            output,
            [
                (
                    weights @ key,
                    "the output is a mix of the keys. A key says what is"
                    " found; the value is what is handed over.",
                ),
                (weights @ query, "the output is a mix of the queries."),
                (
                    weights.T @ value,
                    "the weights are transposed before they mix the values.",
                ),
                (
                    right / math.sqrt(d),
                    "the output is divided by the root: that belongs to the"
                    " scores.",
                ),
                (dots @ value, "the scores mix the values; weights should."),
                (
                    (dots @ value).softmax(-1),
                    "the values are inside the softmax; it is taken of the"
                    " scores alone.",
                ),
            ],
            "the output is not the values, mixed by the weights that come with"
            " it.",
        )


@attention.test("the divisor is the root of the key width", 2, "Why the root")
def check_attention_divisor(answer: Any) -> None:
    """Sizes that differ, so that each wrong width shows."""
    for T, S, d_k, d_v in ((4, 6, 8, 3), (5, 2, 3, 7)):
        query, key, value = draw(T, S, d_k, d_v)
        _, weights = attend(answer, query, key, value)
        dots = query @ key.T
        if is_near(weights, (dots / math.sqrt(d_k)).softmax(-1)):
            continue
        wrong = [
            *divisors(dots, d_k),
            (
                dots / math.sqrt(d_v),
                "the divisor is the root of the values' width, and should be"
                " that of the keys.",
            ),
        ]
        explain(
            weights,
            [(each.softmax(-1), words) for each, words in wrong],
            "the weights are not the softmax of the scores.",
        )


def open_mask(queries: int, keys: int) -> Tensor:
    """Draw a mask that leaves each query a key, and hides one from each."""
    mask = torch.rand(queries, keys) < 0.5
    mask[:, 1], mask[:, -1] = True, False
    return mask


@attention.test("a hidden key has no weight", 4, "By hand: two routes")
def check_attention_mask(answer: Any) -> None:
    """A mask of ordinary scores, no row of which is empty."""
    for T, S in ((4, 6), (5, 5)):
        query, key, value = draw(T, S, 8, 3)
        mask = open_mask(T, S)
        output, weights = attend(answer, query, key, value, mask)
        right, expected = scaled_dot_product_attention(query, key, value, mask)
        hidden = weights[~mask]
        if not is_near(weights, expected) or hidden.any():
            explain_mask(weights, query @ key.T / math.sqrt(8), mask)
        if not is_near(output, right):
            raise Wrong(
                "the weights obey the mask and the output does not: mix the"
                " values with the weights that you return."
            )


def explain_mask(weights: Tensor, fits: Tensor, mask: Tensor) -> None:
    """Say what is wrong with masked weights.

    Args:
        weights: The learner's, ``(T, S)``.
        fits: The scores, ``(T, S)``.
        mask: ``(T, S)``; each row has true and false.
    """
    full = fits.softmax(-1)
    if not weights.isfinite().all():
        raise Wrong(
            "there is infinity or nan in the weights: minus infinity takes"
            " the place of hidden scores, before the softmax."
        )
    near_zero = (
        "the hidden scores are at 0, or near it, as -1e-9 is; and e to the"
        " power of 0 is 1. Which score gets the weight 0?"
    )
    explain(
        weights,
        [
            (
                full,
                "the mask has no effect: hidden keys get their weights all"
                " the same.",
            ),
            (
                fits.masked_fill(mask, -math.inf).softmax(-1),
                "the mask is turned round: True means may attend, and here"
                " just those keys are hidden.",
            ),
            (
                full * mask,
                "the zeros come after the softmax, so the rows no longer add"
                " up to one. Hide the scores, before it.",
            ),
            (fits.masked_fill(~mask, 0).softmax(-1), near_zero),
            (
                (fits + mask).softmax(-1),
                "the mask is added to the scores as 0 and 1; that hides"
                " nothing.",
            ),
        ],
        f"hidden keys have weights of up to {weights[~mask].max():.1g}, and"
        " should have exactly 0: which score is below all others?"
        if weights[~mask].any()
        else "hidden keys have no weight, and the others not the right ones.",
    )


@attention.test(
    "hidden scores may be huge", 4, "Floating point does not forget so neatly"
)
def check_attention_huge(answer: Any) -> None:
    """Hidden scores near 20,000, visible ones near -20,000."""
    T, S = 3, 6
    query, key, value = draw(T, S, 1, 4)
    mask = open_mask(1, S).expand(T, S).clone()
    query = 1 + query.abs() / 10
    key = torch.where(mask[:1].T, -2e4, 2e4) + key
    _, weights = attend(answer, query, key, value, mask)
    fits = query @ key.T
    right = fits.masked_fill(~mask, -math.inf).softmax(-1)
    if is_near(weights, right, 1e-3):
        return
    if weights.isnan().any():
        raise Wrong(
            "a hidden key has a huge score, and the row becomes nan: the"
            " softmax is taken with the hidden scores in it, and the rest"
            " rounds to 0, then 0/0. Hide the scores first."
        )
    if weights[~mask].any():
        raise Wrong(
            "the score that hides a key is a finite number, and here even"
            " the best visible score, about -20,000, is lower. Only minus"
            " infinity is below every score."
        )
    raise Wrong(
        "a hidden key with a huge score changes the weights of the others:"
        " hide the scores before the softmax."
    )


@attention.test(
    "a query without keys gives zeros", 4, "A query with nothing to look at"
)
def check_attention_nothing(answer: Any) -> None:
    """One query is left no key."""
    for row in (0, 2):
        query, key, value = draw(4, 5, 6, 3)
        mask = open_mask(4, 5)
        mask[row] = False
        output, weights = attend(answer, query, key, value, mask)
        right, expected = scaled_dot_product_attention(query, key, value, mask)
        if weights[row].isnan().any() or output[row].isnan().any():
            raise Wrong(
                "a query that may attend to no key gives nan: zero weights"
                " and a zero output are wanted."
            )
        if is_near(weights[row], torch.full((5,), 0.2)):
            raise Wrong(
                "a query without any key gets equal weights for all of them,"
                " though all are hidden. A large negative score such as -1e9"
                " does that: it drowns the others, and all are equal."
            )
        if weights[row].any():
            raise Wrong(
                "a query without any key still has weights: they must be 0."
            )
        if not is_near(weights, expected) or not is_near(output, right):
            raise Wrong(
                "a query without any key must give zeros, and leave the other"
                " queries alone."
            )


def explain_front(weights: Tensor, dots: Tensor) -> None:
    """Say what is wrong with a batch's weights, if sizes or axes are.

    Args:
        weights: The learner's, ``(B, T, S)``.
        dots: The scores before they are divided, ``(B, T, S)``.
    """
    if adds_up(weights, -2):
        raise Wrong(
            "with a sentence in front the softmax runs over the queries: every"
            " column adds up to one. That is dim=1, counted from the front, as"
            " soon as there is a batch; the keys are dim=-1."
        )
    for wrong, words in divisors_in_front(dots):
        if is_near(weights, wrong.softmax(-1)):
            raise Wrong(words)


@attention.test("any dimensions in front", 2, "In the library")
def check_attention_front(answer: Any) -> None:
    """A batch, a batch with heads, and masks that broadcast to them."""
    for front, shape in (
        ((2,), None),
        ((2,), (4, 5)),
        ((2,), (2, 1, 5)),
        ((3, 2), (3, 1, 1, 5)),
        ((3, 2), (3, 2, 4, 5)),
    ):
        inputs = draw(4, 5, 6, 3, *front)
        what = "no mask"
        if shape:
            mask = torch.rand(shape) < 0.5
            mask[..., 1] = True
            if len(shape) > 2:  # the last of them is left without any key
                mask.view(-1, shape[-1])[-1] = False
            inputs.append(mask)
            what = f"a mask of {shape}"
        found = attend(answer, *inputs)
        query, key, value, *masks = inputs
        right = scaled_dot_product_attention(
            query, key, value, masks[0] if masks else None
        )
        if not all(map(is_near, found, right)):
            if not shape and not is_near(found[1], right[1]):
                explain_front(found[1], query @ key.mT)
            if any(part.isnan().any() for part in found):
                raise Wrong(
                    f"with {what} a query without any key gives nan: zeros"
                    " are wanted, with dimensions in front too."
                )
            raise Wrong(
                f"queries of {tuple(inputs[0].shape)} and {what} give wrong"
                " numbers: each sentence and head must be computed as if it"
                " were alone."
            )
