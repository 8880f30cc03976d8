"""The checks of chapter 7, "Add & Norm"."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.config import TransformerConfig
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
)
from minitransformer.model import Transformer
from minitransformer.residual import LayerNorm, layer_norm

Map = Callable[[Tensor], Tensor]


@exercise("7.1")
def check_layer_norm(answer: Any) -> None:
    """Try several shapes, a large eps, and tokens of different sizes."""
    for shape, eps in (((3, 6), 0.3), ((2, 3, 5), 0.02), ((7,), 0.3)):
        x = 2 * torch.randn(shape) + 1
        scale, shift = torch.randn(2, shape[-1])
        try:
            found = numbers(call(answer, x, scale, shift, eps))
        except Wrong as wrong:
            if "size of tensor" in str(wrong):
                raise Wrong(
                    f"{wrong}. Each token has one mean and one variance: did"
                    " you keep their dimension?"
                ) from None
            raise
        right = layer_norm(x, scale, shift, eps)
        if not is_near(found, right):
            _explain_norm(found, x, scale, shift, eps)


def _explain_norm(
    found: Tensor, x: Tensor, scale: Tensor, shift: Tensor, eps: float
) -> None:
    """Raise `Wrong` with the detail that differs."""

    def over(dims: tuple[int, ...], correction: int) -> Tensor:
        centred = x - x.mean(dims, keepdim=True)
        variance = x.var(dims, correction=correction, keepdim=True)
        return scale * centred / (variance + eps).sqrt() + shift

    mean = x.mean(-1, keepdim=True)
    centred = x - mean
    variance = x.var(-1, correction=0, keepdim=True)
    unbiased = x.var(-1, keepdim=True)
    root = (variance + eps).sqrt()
    mistakes = [
        (
            scale * centred / (unbiased + eps).sqrt() + shift,
            "the variance is divided by D - 1. Torch's var() and std() do"
            " that unless told otherwise; the norm divides by D.",
        ),
        (
            scale * centred / (variance.sqrt() + eps) + shift,
            "eps is added outside the root. It belongs to the variance.",
        ),
        (
            scale * centred / (unbiased.sqrt() + eps) + shift,
            "eps is added outside the root, and the variance is divided by"
            " D - 1. Look at equation (7.2) again.",
        ),
        (
            scale * centred / unbiased.sqrt() + shift,
            "there is no eps, and the variance is divided by D - 1. Look at"
            " equation (7.2) again.",
        ),
        (
            scale * centred / (variance + eps) + shift,
            "this divides by the variance; the root is missing.",
        ),
        (
            scale * centred / (variance + 1e-5).sqrt() + shift,
            "eps is a fixed 1e-5, or there is none. Take the one given.",
        ),
        (centred / root, "scale and shift are not used."),
        (scale * centred / root, "the shift is not used."),
        (centred / root + shift, "the scale is not used."),
        (
            scale * (centred / root + shift),
            "the shift is added before the scale multiplies. It comes last.",
        ),
        (
            (scale * centred + shift) / root,
            "the shift is divided by the root too. It comes last.",
        ),
        (
            scale * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
            + shift,
            "the mean is not subtracted: this is RMSNorm with a shift.",
        ),
        (
            scale * x / root + shift,
            "the mean is missing above the line: what is divided must be"
            " centred too.",
        ),
    ]
    if x.ndim > 1:
        others = [
            (
                tuple(range(x.ndim)),
                "all tokens share one mean. Each token has its own: take the"
                " last dimension only.",
            ),
            (
                (-2,),
                "the mean runs over the tokens. It must run over the numbers"
                " of one token, the last dimension.",
            ),
            (
                (-2, -1),
                "all tokens of a sentence share one mean. Each token has its"
                " own.",
            ),
            (
                tuple(range(x.ndim - 1)),
                "this is batch norm: each feature has its mean over all"
                " tokens. Here each token has its own.",
            ),
        ]
        mistakes += [
            (over(dims, correction), words)
            for dims, words in others
            for correction in (0, 1)
        ]
    explain(
        found,
        mistakes,
        f"for x of {tuple(x.shape)} the result, of {tuple(found.shape)}, is"
        " not right. Follow the steps by hand: mean, centred numbers,"
        " variance, root.",
    )


@exercise("7.2")
def check_count(answer: Any) -> None:
    """Compare with what a whole Transformer has."""
    for (encoder, decoder), width in (((6, 3), 12), ((5, 2), 4), ((3, 6), 8)):
        for norm_first in (False, True):
            found = numbers(
                call(answer, encoder, decoder, width, norm_first), ()
            )
            if not is_near(
                found, _norm_numbers(encoder, decoder, width, norm_first)
            ):
                _explain_count(found, encoder, decoder, width, norm_first)


def _norm_numbers(
    encoder: int, decoder: int, width: int, norm_first: bool
) -> int:
    """Count the parameters of the norms of a real model."""
    model = Transformer(
        TransformerConfig(
            source_vocab_size=5,
            d_model=width,
            num_heads=1,
            num_encoder_layers=encoder,
            num_decoder_layers=decoder,
            d_ff=3,
            norm_first=norm_first,
        )
    )
    return sum(
        parameter.numel()
        for module in model.modules()
        if isinstance(module, LayerNorm)
        for parameter in module.parameters()
    )


def _explain_count(
    found: Tensor, encoder: int, decoder: int, width: int, norm_first: bool
) -> None:
    """Raise `Wrong` with the norms that are missing, or too many."""
    wraps = 2 * encoder + 3 * decoder
    last = 2 * norm_first
    mistakes: list[tuple[int, str]] = [
        (
            (wraps + last) * width,
            "a norm has two numbers for each feature, not one.",
        ),
        (
            2 * (wraps + last),
            "scale and shift are vectors: as many numbers as a token has.",
        ),
        (wraps + last, "this counts the norms, not their numbers."),
        (
            2 * (2 * encoder + 2 * decoder + last) * width,
            "a decoder layer has three sublayers, and one norm for each.",
        ),
        (
            2 * (3 * encoder + 2 * decoder + last) * width,
            "these are three norms for an encoder layer and two for a decoder"
            " layer. Which of them has the three sublayers?",
        ),
        (
            2 * (3 * encoder + 3 * decoder + last) * width,
            "an encoder layer has two sublayers, and one norm for each.",
        ),
        (
            2 * (encoder + decoder + last) * width,
            "every sublayer has its norm, not every layer.",
        ),
    ]
    if norm_first:
        mistakes += [
            (2 * wraps * width, "in pre-norm, the last norms are missing."),
            (
                2 * (wraps + 1) * width,
                "two stacks, two sums that nobody has normalised: there is"
                " only one last norm in your count.",
            ),
        ]
    else:
        mistakes += [
            (
                2 * (wraps + extra) * width,
                "in post-norm, each sum is normalised already: there are no"
                " last norms.",
            )
            for extra in (1, 2)
        ]
    explain(
        found,
        mistakes,
        f"for {encoder} and {decoder} layers of width {width},"
        f" norm_first={norm_first}, this gives {found:g}. How many sublayers"
        " are there, and how many numbers has one norm?",
    )


@exercise("7.3")
def check_add_norm(answer: Any) -> None:
    """Try both places, with norms and sublayers of several sizes."""
    for width, norm_first in product((5, 8), (False, True)):
        norm = LayerNorm(width)
        with torch.no_grad():
            norm.weight.normal_()
            norm.bias.normal_()
        sublayer = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        x = 3 * torch.randn(2, 3, width) + 1
        found = numbers(call(answer, x, sublayer, norm, norm_first))
        post, pre = norm(x + sublayer(x)), x + sublayer(norm(x))
        if not is_near(found, pre if norm_first else post):
            _explain_add_norm(found, x, sublayer, norm, norm_first)


def _explain_add_norm(
    found: Tensor, x: Tensor, f: Map, norm: Map, norm_first: bool
) -> None:
    """Raise `Wrong` with what stands in the wrong place."""
    post, pre = norm(x + f(x)), x + f(norm(x))
    name = "pre-norm" if norm_first else "post-norm"
    explain(
        found,
        [
            (
                post if norm_first else pre,
                f"for norm_first={norm_first} this is the other arrangement.",
            ),
            (
                norm(x) + f(norm(x)),
                "what is added is norm(x), and not x: the identity path goes"
                " through the norm.",
            ),
            (
                norm(x + f(norm(x))),
                "there are two norms. Each arrangement has one, before the"
                " sublayer or behind the sum.",
            ),
            (
                x + norm(f(x)),
                "the norm stands between the sublayer and the sum. It belongs"
                + (
                    " before the sublayer."
                    if norm_first
                    else " behind the sum."
                ),
            ),
            (
                x + f(_norm(x)) if norm_first else _norm(x + f(x)),
                "the arrangement is right, and the norm is another: take the"
                " one that is given, which has its own scale and shift.",
            ),
            (norm(x) + f(x), "x is normalised, and nothing else is."),
            (x + f(x), "the norm is missing."),
            (f(norm(x)), "the sum is missing: nothing is added to x."),
            (norm(f(x)), "the sum is missing: nothing is added to x."),
            (
                x + f(norm(x)) + f(x),
                "the sublayer runs twice; it should run once.",
            ),
        ],
        f"this is not {name}. Follow the arrows of the figure from below: what"
        " goes around, what goes through, and where is the norm?",
    )


@exercise("7.4")
def check_sharing(answer: Any) -> None:
    """Show norms over every choice of dimensions, with scale and shift."""
    x = 2 * torch.randn(3, 4, 5) + 1

    def says(norm: Map) -> tuple[int, ...]:
        found = call(answer, norm, x)
        if isinstance(found, int) and not isinstance(found, bool):
            found = (found,)
        try:
            dims = sorted(int(d) % 3 for d in found)
        except (TypeError, ValueError):
            raise Wrong(
                "return the dimensions as a tuple, such as (0, 1); this is"
                f" {type(found).__name__}."
            ) from None
        return tuple(dict.fromkeys(dims))

    for dims, name in _SHARED.items():
        for centred in (True, False):
            norm = partial(_norm_over, dims=dims, centred=centred)
            found = says(norm)
            if found == dims:
                continue
            wanted = f"{name} shares a mean over {dims}; you say {found}."
            if found == tuple(sorted({0, 1, 2} - set(dims))):
                raise Wrong(
                    f"{wanted} These are the dimensions over which it does"
                    " *not* share one."
                )
            if not centred:
                raise Wrong(
                    f"a norm with no mean to subtract, over {dims}, is taken"
                    f" for {found}. Don't look at means."
                )
            raise Wrong(
                f"{wanted} A learned shift can hide a mean of 0, so look at"
                " what depends on what."
            )


_SHARED = {
    (2,): "layer norm",
    (0, 1): "batch norm",
    (1, 2): "a norm over (T, D)",
    (1,): "a norm over the tokens of a sentence",
    (0, 1, 2): "a norm over everything",
    (0,): "a norm over the sentences",
    (0, 2): "a norm over all sentences at one position",
}


def _norm_over(x: Tensor, dims: tuple[int, ...], centred: bool) -> Tensor:
    """Normalise over ``dims``, then scale and shift the features."""
    if centred:
        x = x - x.mean(dims, keepdim=True)
    x = x / (x.square().mean(dims, keepdim=True) + 1e-5).sqrt()
    features = torch.arange(x.shape[-1])
    return x * (1 + features) + 2 - features


@exercise("7.5")
def check_find_broken(answer: Any) -> None:
    """Hide each kind of break among layers that look odd, and are sound."""
    for number, (name, broken) in enumerate(_BREAKS.items()):
        for place in (3, 0, 2):
            count = 5 + number % 2
            layers = [
                _sound(size) for size in (0.02, 1.0, 30.0, 0.3, 5.0, 1.0)
            ]
            layers = layers[:count]
            layers[place] = partial(broken, _sublayer(1.0))
            x = 2 * torch.randn(2, 3, 8) + 1
            found = numbers(call(answer, layers, x), ())
            if not (found % 1 == 0 and -count <= found < count):
                raise Wrong(
                    f"return the number of a layer, from 0 to {count - 1};"
                    f" this is {found:g}."
                )
            if found % count != place:
                raise Wrong(
                    f"among {count} layers, layer {place} computes {name}, and"
                    f" you say {int(found)}. A sublayer may add little or"
                    " much, and something to any input; look for what a sound"
                    " layer does with x whatever its sublayer is."
                )


def _sublayer(size: float) -> Map:
    """Return a small net whose outputs have about the given size.

    It has a bias: otherwise it would add nothing to a token of equal numbers,
    which its norm turns into zeros.
    """
    w = torch.randn(8, 8) * size / 8**0.5
    bias = torch.randn(8) * size

    def sublayer(x: Tensor) -> Tensor:
        return x.tanh() @ w + bias

    return sublayer


def _sound(size: float) -> Map:
    """Return a layer in pre-norm."""
    sublayer = _sublayer(size)
    return lambda x: x + sublayer(_norm(x))


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


_BREAKS: dict[str, Callable[[Map, Tensor], Tensor]] = {
    "sublayer(norm(x))": lambda f, x: f(_norm(x)),
    "norm(x) + sublayer(norm(x))": lambda f, x: _norm(x) + f(_norm(x)),
    "norm(x + sublayer(norm(x)))": lambda f, x: _norm(x + f(_norm(x))),
    "x / 2 + sublayer(norm(x))": lambda f, x: x / 2 + f(_norm(x)),
}


@quiz(7)
def key() -> str:
    """Compute the five letters."""
    return (
        _count_means()
        + _three_layers()
        + _what_is_ignored()
        + _growth()
        + _whose_outputs_change()
    )


def _count_means() -> str:
    """Question 1: into how many groups layer norm divides a batch."""
    x = torch.randn(8, 20, 64)
    other = x.clone()
    other[0, 0, 0] += 1.0
    group = int((_norm(other) != _norm(x)).sum())
    return {64: "A", 160: "B", 8: "C"}[x.numel() // group]


def _three_layers() -> str:
    """Question 2: the slope of three layers x + 0.1 x."""
    x = torch.tensor(1.0, dtype=torch.double, requires_grad=True)
    y = x
    for _ in range(3):
        y = y + 0.1 * y
    (slope,) = torch.autograd.grad(y, x)
    choices = {"A": 1.331, "B": 0.001, "C": 1.3}
    return "".join(
        letter for letter, value in choices.items() if is_near(slope, value)
    )


def _what_is_ignored() -> str:
    """Question 3: which norm does not see 3 x + 7."""
    x = torch.randn(9, 64)
    blind = [
        is_near(norm(3 * x + 7), norm(x), 1e-3)
        for norm in (nn.RMSNorm(64), nn.LayerNorm(64))
    ]
    return {(True, False): "A", (True, True): "B", (False, True): "C"}[
        blind[0], blind[1]
    ]


def _growth() -> str:
    """Question 4: how the sum grows with four times the layers."""
    x = torch.randn(50, 64)
    sizes = []
    for depth in (50, 200):
        y = x
        for _ in range(depth):
            w = torch.randn(64, 64) / 8
            y = y + _norm(y) @ w
        sizes.append(y.std().item())
    ratio = sizes[1] / sizes[0]
    choices = {"A": ratio > 3, "B": 1.6 < ratio < 2.4, "C": ratio < 1.2}
    return "".join(letter for letter, right in choices.items() if right)


def _whose_outputs_change() -> str:
    """Question 5: which norm lets one token change the others."""
    x = torch.randn(2, 4, 8)
    other = x.clone()
    other[0, 0] += torch.randn(8)
    batch_norm = nn.BatchNorm1d(8)
    changed = [
        not is_near(norm(other)[:, 1:], norm(x)[:, 1:])
        for norm in (lambda x: batch_norm(x.mT).mT, _norm)
    ]
    return {(True, False): "A", (False, True): "B", (True, True): "C"}[
        changed[0], changed[1]
    ]
