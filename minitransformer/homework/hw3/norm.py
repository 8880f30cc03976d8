"""Assignment 3, layer normalisation."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    must_learn,
    numbers,
)
from minitransformer.homework.hw3.tasks import (
    LOST,
    a_chance,
    a_size,
    hinted,
    layer_norm,
    parameters,
    row,
)
from minitransformer.homework.tasks import LEARNS

NORM = "Norm: by hand"
SHARED = "Which numbers share a mean?"


def normal(
    x: Tensor,
    eps: float,
    dims: tuple[int, ...] = (-1,),
    correction: int = 0,
) -> Tensor:
    """Normalise over any dimensions, without scale and shift."""
    x = x.double()
    variance = x.var(dims, correction=correction, keepdim=True)
    return (x - x.mean(dims, keepdim=True)) / (variance + eps).sqrt()


OTHERS = (
    (
        (1,),
        "the mean runs over the positions of a sentence. Each token has its"
        " own, over its features: the last dimension.",
    ),
    (
        (0,),
        "the mean runs over the sentences of a batch. Each token has its own,"
        " over its features: the last dimension.",
    ),
    (
        (0, 1),
        "each feature has its mean over all tokens of the batch: that is batch"
        " norm. Here each token has its own, over its features.",
    ),
    (
        (1, 2),
        "all tokens of a sentence share one mean. Each token has its own: take"
        " the last dimension only.",
    ),
    (
        (0, 1, 2),
        "all tokens of the batch share one mean. Each token has its own: take"
        " the last dimension only.",
    ),
)


def tokens(size: float = 2.0) -> Tensor:
    """Draw a batch ``(B, T, D)``, each token with another mean."""
    B, T, D = a_size(2, 3), a_size(4, 6), a_size(7, 12)
    return size * (torch.randn(B, T, D) + torch.randn(B, T, 1) + 0.5)


def over_others(x: Tensor) -> Iterable[tuple[Tensor, str]]:
    """Give ``x`` normalised over wrong dimensions, and what to say of it."""
    for dims, words in OTHERS:
        for correction in (0, 1):
            yield normal(x, 1e-5, dims, correction), words


def spread_of_others(x: Tensor) -> Iterable[tuple[Tensor, str]]:
    """Give ``x`` divided by deviations over wrong dimensions, and words."""
    x = x.double()
    centred = x - x.mean(-1, keepdim=True)
    for dims, _ in OTHERS:
        for correction, y in product((0, 1), (x, centred)):
            variance = y.var(dims, correction=correction, keepdim=True)
            yield (
                centred / variance.sqrt(),
                "the mean is each token's own, and the variance is not: take"
                " it over the last dimension too.",
            )


@layer_norm.test("a scale of ones and a shift of zeros", 7, NORM)
def check_parameters(answer: Any) -> None:
    """Call a fresh norm, and look at what it keeps."""
    for _ in range(2):
        x = tokens()
        D = x.shape[-1]
        module = call(answer, D)
        numbers(hinted(LOST, module, x), x.shape)
        found = parameters(module, {"weight": (D,), "bias": (D,)})
        if not is_near(found["weight"], torch.ones(D)):
            raise Wrong("before any training the scale, weight, is 1.")
        if not is_near(found["bias"], torch.zeros(D)):
            raise Wrong("before any training the shift, bias, is 0.")


@layer_norm.test("every token has mean 0", 7, SHARED)
def check_mean(answer: Any) -> None:
    """Look at the mean of each token behind a fresh norm."""
    for _ in range(2):
        x = tokens()
        found = numbers(call(call(answer, x.shape[-1]), x), x.shape)
        if found.mean(-1).abs().max() < 1e-3:
            continue
        power = x.double().square().mean(-1, keepdim=True)
        deviation = x.double().std(-1, correction=0, keepdim=True)
        explain(
            found,
            [
                *over_others(x),
                *spread_of_others(x),
                (
                    x / power.sqrt(),
                    "the mean is not subtracted: this is RMSNorm.",
                ),
                (
                    x / deviation,
                    "the mean is not subtracted from what is divided.",
                ),
                (x, "the result is x as it was."),
            ],
            "the mean of the first token's features is"
            f" {found[0, 0].mean():.3f}, and should be 0.",
            1e-3,
        )


@layer_norm.test("every token has variance 1", 7, NORM)
def check_variance(answer: Any) -> None:
    """Look at the variance of each token behind a fresh norm."""
    for _ in range(2):
        x = tokens()
        found = numbers(call(call(answer, x.shape[-1]), x), x.shape)
        if is_near(found, normal(x, 1e-5), 1e-3):
            continue
        centred = x.double() - x.double().mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        mistakes = [
            (
                normal(x, 1e-5, correction=1),
                "the variance is divided by D - 1. Torch's var() and std() do"
                " that unless told otherwise; the norm divides by D.",
            ),
            (
                centred / variance,
                "this divides by the variance itself: the root is missing.",
            ),
            (centred, "the mean is subtracted, and nothing is divided."),
            (
                centred / centred.square().sum(-1, keepdim=True).sqrt(),
                "the squares are added up, and should be averaged: the"
                " variance is their mean.",
            ),
            (
                centred / x.double().square().mean(-1, keepdim=True).sqrt(),
                "the variance is taken before the mean is subtracted: the"
                " squares must be those of the centred numbers.",
            ),
        ]
        explain(
            found,
            [*mistakes, *spread_of_others(x)],
            "the variance of the first token's features is"
            f" {found[0, 0].var(correction=0):.3f}, and should be 1.",
            1e-3,
        )


@layer_norm.test("eps stands below the root", 7, NORM)
def check_eps(answer: Any) -> None:
    """Try small tokens, and an eps that is not small beside them."""
    for _ in range(2):
        x, eps = tokens(0.4), a_chance(0.1, 0.4)
        D = x.shape[-1]
        found = numbers(call(call(answer, D, eps), x), x.shape)
        if not is_near(found, normal(x, eps), 1e-3):
            _explain_eps(found, x, eps)
        small = tokens(0.02)
        found = numbers(call(call(answer, small.shape[-1]), small))
        if not is_near(found, normal(small, 1e-5), 1e-2):
            raise Wrong(
                "small tokens come out wrong where eps is not given: it is"
                " 1e-5 then."
            )
        same = torch.full((1, 1, D), 3.0)
        found = numbers(call(call(answer, D), same), same.shape)
        if not is_near(found, torch.zeros(1, 1, D), 1e-2):
            raise Wrong(
                "a token whose features are all equal should become zeros, and"
                f" becomes {row(found)}."
            )


def _explain_eps(found: Tensor, x: Tensor, eps: float) -> None:
    """Raise `Wrong` with the place where eps stands instead."""
    centred = x.double() - x.double().mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    outside = "eps is added outside the root. It belongs to the variance."
    explain(
        found,
        [
            (centred / (variance.sqrt() + eps), outside),
            (
                normal(x, 1e-5),
                "eps is a fixed 1e-5, or there is none. Keep the one that"
                " __init__ is given.",
            ),
            (normal(x, eps**2), "eps is squared before it is added."),
            (
                centred / variance.clamp(min=eps).sqrt(),
                "eps is a lower limit of the variance here. It is added to"
                " it, always.",
            ),
            (normal(x, 0.0) + eps, "eps is added to the result."),
        ],
        f"with eps = {eps} the first token becomes {row(found[0, 0])}, and"
        f" should be {row(normal(x, eps)[0, 0])}. Add eps to the variance,"
        " below the root.",
        1e-3,
    )


@layer_norm.test("each feature has a scale and a shift of its own", 7, NORM)
def check_scale(answer: Any) -> None:
    """Load random parameters, and compare everything."""
    for _ in range(2):
        x = tokens()
        D = x.shape[-1]
        module = call(answer, D)
        call(module, x)
        g, b = torch.randn(2, D)
        call(module.load_state_dict, {"weight": g, "bias": b})
        found = numbers(call(module, x), x.shape)
        n = normal(x, 1e-5)
        if is_near(found, g * n + b, 1e-3):
            continue
        explain(
            found,
            [
                (n, "weight and bias are not used."),
                (g * n, "the bias is not used."),
                (n + b, "the weight is not used."),
                (
                    g * (n + b),
                    "the bias is added before the weight multiplies. It comes"
                    " last.",
                ),
                (
                    (1 + g) * n + b,
                    "the weight has a 1 added to it. It is 1 at first, and"
                    " multiplies as it is.",
                ),
                (b * n + g, "weight and bias have changed places."),
            ],
            "with weights other than 1 and biases other than 0 the result is"
            " wrong: it should be weight * norm + bias, feature by feature.",
            1e-3,
        )


@layer_norm.test("any number of dimensions in front", 7, SHARED)
def check_dimensions(answer: Any) -> None:
    """Try a single token, and a batch of heads."""
    D = a_size(7, 12)
    for front in ((), (a_size(4, 6),), (2, 3, a_size(4, 6))):
        x = 2 * torch.randn(*front, D) + 1
        try:
            found = numbers(call(call(answer, D), x), x.shape)
        except Wrong as wrong:
            if "Dimension out of range" not in str(wrong):
                raise
            found = torch.zeros(x.shape)
        if not is_near(found, normal(x, 1e-5), 1e-3):
            raise Wrong(
                f"for (B, T, D) it is right, and for x of {tuple(x.shape)} it"
                " is not. The features are the last dimension, dim=-1,"
                " however many stand in front."
            )


@layer_norm.test(*LEARNS)
def check_gradient(answer: Any) -> None:
    """Look where the gradient of its output ends."""
    x = tokens()
    must_learn(call(answer, x.shape[-1]), x)
