"""Checks for chapter 2: scaled dot-product attention by hand."""

import math
from typing import Any

import torch
from torch import Tensor

from minitransformer.attention import scaled_dot_product_attention
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
)


@exercise("2.1")
def check_zero_query(answer: Any) -> None:
    """Check the output for a query of zeros."""
    output = numbers(answer)
    values = torch.tensor([[1.0, 2, 3], [2, 8, 0], [2, 6, 3]])
    if output.shape != (3,):
        raise Wrong(
            "an output is as wide as a value: three numbers in a row, and not"
            f" a shape of {tuple(output.shape)}."
        )
    if is_near(output, values.mean(dim=0), 0.02):
        return
    mistakes = [
        (
            torch.zeros(3),
            "the scores are zero, the weights are not. What is e^0?",
        ),
        (
            torch.ones(3),
            "these are the powers of e. Make weights of them, then mix.",
        ),
        (
            torch.full((3,), 1 / 3),
            "these are the weights. The output mixes the values with them.",
        ),
        (
            values.sum(dim=0),
            "that is the sum of the values. Weights must add up to one.",
        ),
        *(
            (value, "that is one of the values. Why should it win?")
            for value in values
        ),
    ]
    otherwise = "put the three scores into equation (2.2), then mix."
    explain(output, mistakes, otherwise, 0.02)


@exercise("2.2")
def check_softmax(answer: Any) -> None:
    """Check a softmax that must bear scores of any size."""
    scores = (3 * torch.randn(4, dtype=torch.float64)).tolist()
    weights = run_softmax(answer, scores)
    if not is_near(weights, softmax_of(scores)):
        explain_softmax(weights, scores)
    trials = [
        ([1000.0, 1001.0], "(1000, 1001) must get the weights of (0, 1)."),
        ([-1001.0, -1000.0], "(-1001, -1000) must get those of (0, 1)."),
        ([1001.0, 1000.0], "(1001, 1000) must get the weights of (1, 0)."),
        ([-1000.0, 1000.0, 0.0], "(-1000, 1000, 0) must get 0, 1 and 0."),
    ]
    for scores, words in trials:
        weights = run_softmax(answer, scores)
        if weights.isnan().any():
            raise Wrong(
                f"for {scores} it gives nan: infinity or zero divided by"
                " itself. Subtract something from the scores first."
            )
        if not is_near(weights, softmax_of(scores)):
            raise Wrong(words)


def run_softmax(function: Any, scores: list[float]) -> Tensor:
    """Run a learner's softmax, and say what an overflow means."""
    try:
        result = call(function, scores)
    except Wrong as wrong:
        if isinstance(wrong.__cause__, OverflowError):
            raise Wrong(
                f"for {scores} a power is too large for a float. Make the"
                " scores smaller first: all of them, by the same amount."
            ) from wrong
        if isinstance(wrong.__cause__, ZeroDivisionError):
            raise Wrong(
                f"for {scores} all powers are 0, and so is their sum. What"
                " must be subtracted so that one power stays at 1?"
            ) from wrong
        raise
    weights = numbers(result)
    if weights.shape != (len(scores),):
        raise Wrong(
            f"{len(scores)} scores went in, so {len(scores)} weights should"
            " come out."
        )
    return weights


def softmax_of(scores: list[float]) -> Tensor:
    """Return the right weights."""
    return torch.tensor(scores, dtype=torch.float64).softmax(dim=0)


def explain_softmax(weights: Tensor, scores: list[float]) -> None:
    """Say what is wrong with weights for scores of ordinary size."""
    given = torch.tensor(scores, dtype=torch.float64)
    not_divided = "the powers are not divided by their sum."
    mistakes = [
        (given.exp(), not_divided),
        ((given - given.max()).exp(), not_divided),
        (
            given / given.sum(),
            "you divide the scores themselves; equation (2.2) has powers.",
        ),
        (
            (given / given.max()).softmax(dim=0),
            "dividing the scores changes the weights. What does not?",
        ),
        (
            (given == given.max()).double(),
            "the best key takes all. The others must get their share.",
        ),
        (given.log_softmax(dim=0), "these are the weights' logarithms."),
    ]
    otherwise = (
        f"weights must add up to one; yours add up to {weights.sum():.3f}."
        if abs(weights.sum() - 1) > 1e-3
        else "they add up to one, but they are not those of equation (2.2)."
    )
    explain(weights, mistakes, otherwise)


@exercise("2.3")
def check_uniform_divisor(answer: Any) -> None:
    """Check the divisor for numbers that are uniform from -1 to 1."""
    divisor = numbers(answer, ())
    d_k, variance = 48, 1 / 3
    right = math.sqrt(d_k * variance**2)
    if is_near(divisor, right, 0.005):
        return
    mistakes = [
        (
            math.sqrt(d_k),
            "that is for numbers of variance 1. What is theirs?",
        ),
        (
            right**2,
            "that is the score's variance. Divide by which power of it?",
        ),
        (
            d_k * variance,
            "that counts the variance of one factor, and no root.",
        ),
        (
            math.sqrt(d_k * variance),
            "a product has variance 1/3 times 1/3, not 1/3.",
        ),
        (d_k, "dividing by the width leaves far too small a variance."),
        (1 / right, "you would multiply by that. Asked for is a divisor."),
    ]
    explain(divisor, mistakes, "begin with one number's variance.", 0.005)


@exercise("2.4")
def check_exponent(answer: Any) -> None:
    """Check the exponent that both matrices are multiplied by."""
    exponent = numbers(answer, ())
    if is_near(exponent, -0.25):
        return
    mistakes = [
        (-0.5, "both factors meet in one score, so this divides by d_k."),
        (0.25, "this makes the scores larger. Which sign must p have?"),
        (-1, "this divides each score by d_k twice over."),
    ]
    factor = torch.pow(64, 2 * exponent) * 8
    otherwise = (
        f"for d_k = 64 the scores are {factor:.2g} times what they should be."
    )
    explain(exponent, mistakes, otherwise)


@exercise("2.5")
def check_attention(answer: Any) -> None:
    """Check attention from memory, at two widths."""
    for d_k, d_v in ((16, 4), (9, 7)):
        query, key = torch.randn(2, 3, d_k), torch.randn(2, 5, d_k)
        value = torch.randn(2, 5, d_v)
        output = run_attention(answer, query, key, value)
        right, _ = scaled_dot_product_attention(query, key, value)
        if is_near(output, right):
            continue
        if d_k == 9:
            raise Wrong(
                "right at width 16, wrong at width 9: is a number written"
                " down that should come from a shape?"
            )
        explain_attention(output, query, key, value)


def run_attention(
    function: Any, query: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    """Run a learner's attention; look at the output's shape only."""
    try:
        result = call(function, query, key, value)
    except Wrong as wrong:
        if isinstance(wrong.__cause__, RuntimeError):
            raise Wrong(
                f"{wrong} Does it swap the last two dimensions of the keys,"
                " and only those (key.mT)?"
            ) from wrong
        raise
    output = numbers(result[0] if isinstance(result, tuple) else result)
    (B, T, _), S = query.shape, key.shape[1]
    wanted = (B, T, value.shape[2])
    if output.shape == (B, T, S):
        raise Wrong("that is the shape of the weights. Mix the values.")
    if output.shape != wanted:
        raise Wrong(
            f"the shape is {tuple(output.shape)}, and should be {wanted}: a"
            " row for each query, as wide as a value."
        )
    return output


def explain_attention(
    output: Tensor, query: Tensor, key: Tensor, value: Tensor
) -> None:
    """Name the wrong formula that gives this output."""
    d_k, d_v = query.shape[-1], value.shape[-1]
    dots = query @ key.mT  # (B, T, S)
    right = dots / math.sqrt(d_k)
    raw = dots.softmax(-1) @ value
    by_width = (dots / d_k).softmax(-1) @ value
    by_value = (dots / math.sqrt(d_v)).softmax(-1) @ value
    by_count = (dots / math.sqrt(key.shape[1])).softmax(-1) @ value
    by_more = (dots * math.sqrt(d_k)).softmax(-1) @ value
    mistakes = [
        (raw, "the divisor is missing."),
        (by_width, "divide by the *root* of the width."),
        (by_value, "the root of the values' width; the keys' is right."),
        (by_count, "the root of the number of keys; their width is right."),
        (by_more, "multiplied by the root; divide by it."),
        (right.softmax(-2) @ value, "the softmax runs over the queries."),
        (right.softmax(0) @ value, "the softmax runs over the batch."),
        (raw / math.sqrt(d_k), "divide before the softmax, not after it."),
        (right @ value, "the softmax is missing."),
        ((right @ value).softmax(-1), "the values are inside the softmax."),
    ]
    otherwise = (
        "the shape is right, the weights are not those of equation (2.1). Do"
        " their rows add up to one? What are scores divided by?"
    )
    explain(output, mistakes, otherwise)


def letter(*facts: bool) -> str:
    """Return the letter of the one choice that is a fact."""
    (place,) = [i for i, fact in enumerate(facts) if fact]
    return "ABC"[place]


@quiz(2)
def compute_key() -> str:
    """Do what each question asks, and see which answer it gives."""
    q, k, v = torch.randn(5, 11), torch.randn(7, 11), torch.randn(7, 13)
    output, weights = scaled_dot_product_attention(q, k, v)
    best = weights.amax(dim=-1)

    sharp = scaled_dot_product_attention(10 * q, k, v)[1].amax(dim=-1)
    louder = letter(
        is_near(sharp, best),
        bool((sharp > best).all()),
        bool((sharp < best).all()),
    )

    shifts = torch.randn(5, 1, 11)  # each is added to all keys
    moved = scaled_dot_product_attention(q, k + shifts, v.expand(5, 7, 13))[1]
    changes = (moved - weights).abs().amax(dim=(1, 2)) > 1e-4
    evener = bool((moved.amax(dim=-1) < best - 1e-4).all())
    mixed = bool(changes.any()) and not evener
    shifted = letter(not changes.any(), evener, mixed)

    found = tuple(weights.shape), tuple(output.shape)
    choices = ((5, 7), (5, 11)), ((7, 5), (7, 13)), ((5, 7), (5, 13))
    shapes = letter(*(found == choice for choice in choices))

    dots = torch.randn(1000, 256) @ torch.randn(256, 1000) / 8
    spread = letter(*(is_near(dots.std(), s, 0.1) for s in (2, 4, 16)))

    twice, same = scaled_dot_product_attention(q, k, 2 * v)
    doubled = letter(
        is_near(same, 2 * weights),
        bool((same.amax(dim=-1) > best + 1e-4).all()),
        is_near(same, weights) and is_near(twice, 2 * output),
    )
    return louder + shifted + shapes + spread + doubled
