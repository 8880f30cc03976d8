"""Checks of homework 4: an encoder layer, and what both layers share."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.homework.checking import (
    call,
    explain,
    is_near,
    must_learn,
)
from minitransformer.homework.hw4.tasks import (
    compare_names,
    draw_ids,
    encoder_layer,
    hand_over,
    jittered,
    run,
    their_names,
)
from minitransformer.homework.hw4.twins import EVERY
from minitransformer.homework.hw4.twins import encoder_layer as encoder_twin
from minitransformer.homework.tasks import LEARNS
from minitransformer.layers import EncoderLayer
from minitransformer.masks import padding_mask

SIZES = ((12, 3, 20), (16, 2, 9))
PARTS = " If the layer looks right, check its parts as homework 2 and 3 do."
PRE_NORM = "Where to put the norm"
Slip = tuple[str, Sequence[int], str]

POST_NORM = (
    "that is post-norm, with the norm behind the sum; this layer is pre-norm,"
    " x + sublayer(norm(x))."
)
NORMED = (
    "what you add to is normed too: the stream itself goes round the norm, x"
    " and not norm(x)."
)
BEHIND = (
    "the norm stands behind the sublayer; it belongs before it, on what the"
    " sublayer reads."
)


def quiet(ours: Any, *parts: str) -> None:
    """Make sublayers return a constant, their last bias, at every place."""
    for part in parts:
        sublayer = getattr(ours, part)
        last = sublayer.linear2 if "feed" in part else sublayer.w_o
        nn.init.zeros_(last.weight)


def normed_streams(count: int) -> list[Slip]:
    """List where the normed stream may be added to: once, or every time."""
    places = [EVERY, *((number,) for number in range(1, count + 1))]
    return [("normed stream", at, NORMED) for at in places]


def judge(
    found: Tensor,
    twin: Callable[..., Tensor],
    inputs: Sequence[Any],
    slips: Iterable[Slip],
    otherwise: str,
) -> None:
    """Raise `Wrong` unless a layer gave what its twin does.

    Args:
        found: What the learner's layer gave.
        twin: Takes ``inputs``, a slip, and where it is made.
        inputs: Our layer, and its inputs.
        slips: What may be wrong, where, and what to say of it.
        otherwise: What to say if it is none of them.
    """
    if is_near(found, twin(*inputs)):
        return
    mistakes = [(twin(*inputs, slip, at), words) for slip, at, words in slips]
    explain(found, mistakes, otherwise)


def encoder_case(
    answer: Any, sizes: tuple[int, int, int], *still: str
) -> tuple[Tensor, tuple[EncoderLayer, Tensor, Tensor]]:
    """Run a learner's encoder layer with our weights.

    Returns:
        What it gave, and our layer with the inputs.
    """
    ours = jittered(EncoderLayer(*sizes, norm_first=True))
    quiet(ours, *still)
    # Some padding in each row, so that a mask turned round leaves a key.
    mask = padding_mask(F.pad(draw_ids(3, 6), (0, 1)))
    x = torch.randn(3, 7, sizes[0])
    module = call(answer, *sizes)
    hand_over(module, their_names(ours))
    return run(module, (3, 7, sizes[0]), x, mask), (ours, x, mask)


@encoder_layer.test(
    "its weights have the names of the table", 9, "An encoder layer"
)
def check_encoder_names(answer: Any) -> None:
    """Run it once, fresh, and look at its names."""
    for D, H, d_ff in SIZES:
        module = call(answer, D, H, d_ff)
        mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
        run(module, (2, 5, D), torch.randn(2, 5, D), mask)
        compare_names(module, their_names(EncoderLayer(D, H, d_ff)))


@encoder_layer.test(
    "sublayers that return constants are added to x", 7, PRE_NORM
)
def check_encoder_stream(answer: Any) -> None:
    """Quieten both sublayers: what remains is the stream."""
    found, inputs = encoder_case(
        answer, SIZES[0], "self_attention", "feed_forward"
    )
    judge(
        found,
        encoder_twin,
        inputs,
        [
            ("post-norm", EVERY, POST_NORM),
            *normed_streams(2),
            ("norm behind", EVERY, BEHIND),
            (
                "no residual",
                (1,),
                "the residual connection around the attention is missing:"
                " what it returns is added to x.",
            ),
            (
                "no residual",
                (2,),
                "the residual connection around the feed-forward part is"
                " missing: what it returns is added to x.",
            ),
            (
                "no residual",
                EVERY,
                "both residual connections are missing: what a sublayer"
                " returns is added to x.",
            ),
            ("left out", (1,), "the attention's output is not added."),
            ("left out", (2,), "the feed-forward part is left out."),
        ],
        "with w_o and linear2 set to constants, so that both sublayers"
        " return their last bias, x + both is wanted. Something else is"
        " done to x on the way.",
    )


@encoder_layer.test(
    "the words attend to each other, padding aside", 9, "An encoder layer"
)
def check_encoder_attention(answer: Any) -> None:
    """Quieten the feed-forward part."""
    found, inputs = encoder_case(answer, SIZES[1], "feed_forward")
    judge(
        found,
        encoder_twin,
        inputs,
        [
            ("no mask", (), "the mask is not used: padding is seen."),
            (
                "turned mask",
                (),
                "the mask is turned round: true means may attend.",
            ),
            (
                "bare keys",
                (),
                "queries are normed, keys and values are not: all three"
                " are made from the normed x.",
            ),
            (
                "no norm",
                (1,),
                "the attention reads x as it is, without norm1.",
            ),
            (
                "other norm",
                (1,),
                "the attention reads norm2(x); its norm is norm1.",
            ),
        ],
        "the attention sublayer differs from ours." + PARTS,
    )


@encoder_layer.test(
    "the feed-forward part reads what attention made", 9, "An encoder layer"
)
def check_encoder_whole(answer: Any) -> None:
    """Let both work."""
    for sizes in SIZES:
        found, inputs = encoder_case(answer, sizes)
        judge(
            found,
            encoder_twin,
            inputs,
            [
                (
                    "in parallel",
                    (),
                    "the feed-forward part reads the layer's input; it should"
                    " read x with the attention's output added.",
                ),
                (
                    "no norm",
                    (2,),
                    "the feed-forward part reads x as it is, without norm2.",
                ),
                (
                    "other norm",
                    (2,),
                    "the feed-forward part reads norm1(x); its own norm is"
                    " norm2.",
                ),
                ("no relu", (), "the feed-forward part has no ReLU inside."),
            ],
            "attention is right; the feed-forward sublayer differs from ours."
            + PARTS,
        )


@encoder_layer.test(*LEARNS)
def check_encoder_gradient(answer: Any) -> None:
    """Look where the gradient of its output ends."""
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    must_learn(call(answer, *SIZES[0]), torch.randn(2, 5, SIZES[0][0]), mask)
