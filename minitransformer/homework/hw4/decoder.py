"""Checks of homework 4: a decoder layer."""

from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import (
    call,
    must_learn,
)
from minitransformer.homework.hw4.layers import (
    BEHIND,
    PARTS,
    POST_NORM,
    PRE_NORM,
    SIZES,
    Slip,
    judge,
    normed_streams,
    quiet,
)
from minitransformer.homework.hw4.tasks import (
    compare_names,
    decoder_layer,
    draw_ids,
    hand_over,
    jittered,
    run,
    their_names,
)
from minitransformer.homework.hw4.twins import EVERY
from minitransformer.homework.hw4.twins import decoder_layer as decoder_twin
from minitransformer.homework.tasks import LEARNS
from minitransformer.layers import DecoderLayer
from minitransformer.masks import causal_mask, padding_mask


def decoder_case(
    answer: Any, sizes: tuple[int, int, int], length: int, *still: str
) -> tuple[Tensor, tuple[DecoderLayer, Tensor, Tensor, Tensor, Tensor]]:
    """Run a learner's decoder layer with our weights.

    Args:
        answer: The class.
        sizes: Of the layer.
        length: Of the target, ``T``; the source's is 7. Where both are equal,
            mistaking one for the other raises no error.
        still: Sublayers to quieten.
    """
    T, D = length, sizes[0]
    ours = jittered(DecoderLayer(*sizes, norm_first=True))
    quiet(ours, *still)
    source_mask = padding_mask(draw_ids(3, 7))
    target_mask = causal_mask(T).expand(3, 1, T, T).clone()
    x, memory = torch.randn(3, T, D), torch.randn(3, 7, D)
    module = call(answer, *sizes)
    hand_over(module, their_names(ours))
    inputs = (x, memory, target_mask, source_mask)
    return run(module, (3, T, D), *inputs), (ours, *inputs)


@decoder_layer.test(
    "its weights have the names of the table", 9, "A decoder layer"
)
def check_decoder_names(answer: Any) -> None:
    """Run it once, fresh, and look at its names."""
    for D, H, d_ff in SIZES:
        module = call(answer, D, H, d_ff)
        x, memory = torch.randn(2, 5, D), torch.randn(2, 5, D)
        target_mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
        source_mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
        run(module, (2, 5, D), x, memory, target_mask, source_mask)
        compare_names(module, their_names(DecoderLayer(D, H, d_ff)))


@decoder_layer.test(
    "sublayers that return constants are added to x", 7, PRE_NORM
)
def check_decoder_stream(answer: Any) -> None:
    """Quieten all three sublayers: what remains is the stream."""
    parts = ("self_attention", "cross_attention", "feed_forward")
    missing = [
        (
            "no residual",
            (number,),
            f"the residual connection around the {part.replace('_', '-')} is"
            " missing: what it returns is added to x.",
        )
        for number, part in enumerate(parts, 1)
    ]
    left_out = [
        ("left out", (number,), f"the {part.replace('_', '-')} is left out.")
        for number, part in enumerate(parts, 1)
    ]
    found, inputs = decoder_case(answer, SIZES[0], 7, *parts)
    judge(
        found,
        decoder_twin,
        inputs,
        [
            ("post-norm", EVERY, POST_NORM),
            *normed_streams(3),
            ("norm behind", EVERY, BEHIND),
            *missing,
            *left_out,
            (
                "no residual",
                EVERY,
                "the residual connections are missing: what a sublayer"
                " returns is added to x.",
            ),
        ],
        "with w_o and linear2 set to constants, so that the sublayers"
        " return their last bias, x + all three is wanted. Something else"
        " is done to x on the way.",
    )


@decoder_layer.test(
    "no target token sees a later one", 4, "A leak that the loss hides"
)
def check_decoder_future(answer: Any) -> None:
    """Quieten all but the self-attention."""
    found, inputs = decoder_case(
        answer, SIZES[1], 7, "cross_attention", "feed_forward"
    )
    judge(
        found,
        decoder_twin,
        inputs,
        [
            (
                "open",
                (),
                "the self-attention sees the future: it does not use the"
                " target mask.",
            ),
            (
                "source's",
                (),
                "the self-attention uses the source mask: its keys are"
                " the target, so the target mask is its own.",
            ),
            (
                "memory",
                (),
                "the self-attention looks at the memory: queries, keys"
                " and values are all made from the target here.",
            ),
            (
                "other order",
                (),
                "the cross-attention comes first; the target looks at"
                " itself before it looks at the source.",
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
                "the self-attention reads x as it is, without norm1.",
            ),
            (
                "other norm",
                (1,),
                "the self-attention reads norm2(x); its norm is norm1.",
            ),
        ],
        "the self-attention sublayer differs from ours." + PARTS,
    )


@decoder_layer.test(
    "the target asks, and the memory answers", 9, "A decoder layer"
)
def check_cross(answer: Any) -> None:
    """Quieten the feed-forward part; first with equal lengths."""
    for sizes, T in ((SIZES[0], 7), (SIZES[1], 5)):
        found, inputs = decoder_case(answer, sizes, T, "feed_forward")
        slips: list[Slip] = [
            (
                "normed memory",
                (),
                "norm2 is applied to the memory as well: it is for x alone,"
                " and the memory is taken as it comes.",
            ),
            (
                "seen",
                (),
                "the cross-attention sees the source's padding: it needs the"
                " source mask.",
            ),
            (
                "early query",
                (),
                "the query of the cross-attention is made from the layer's"
                " input; it should be x after the self-attention.",
            ),
            (
                "no norm",
                (2,),
                "the cross-attention's query is x as it is, without norm2.",
            ),
            (
                "other norm",
                (2,),
                "the cross-attention's query is norm3(x); its norm is norm2.",
            ),
        ]
        if T == 7:  # otherwise these raise an error
            slips += [
                (
                    "swapped",
                    (),
                    "the memory asks and the target answers: queries are made"
                    " from the target, keys and values from the memory.",
                ),
                (
                    "target only",
                    (),
                    "the cross-attention looks at the target: its keys and"
                    " values are made from the memory.",
                ),
                (
                    "target's values",
                    (),
                    "the keys of the cross-attention are the memory's, and"
                    " its values are not.",
                ),
                (
                    "target's keys",
                    (),
                    "the values of the cross-attention are the memory's, and"
                    " its keys are not.",
                ),
                (
                    "target's",
                    (),
                    "the cross-attention uses the target mask: its keys are"
                    " the source, so the source mask is its own.",
                ),
            ]
        judge(
            found,
            decoder_twin,
            inputs,
            slips,
            "the self-attention is right; the cross-attention sublayer"
            " differs from ours." + PARTS,
        )


@decoder_layer.test("the feed-forward part comes last", 9, "A decoder layer")
def check_decoder_whole(answer: Any) -> None:
    """Let all three work."""
    for sizes, T in ((SIZES[0], 5), (SIZES[1], 8)):
        found, inputs = decoder_case(answer, sizes, T)
        judge(
            found,
            decoder_twin,
            inputs,
            [
                (
                    "no norm",
                    (3,),
                    "the feed-forward part reads x as it is, without norm3.",
                ),
                (
                    "other norm",
                    (3,),
                    "the feed-forward part reads norm1(x); its own norm is"
                    " norm3.",
                ),
            ],
            "both attentions are right; the feed-forward sublayer differs"
            " from ours: it reads x, with both attentions added, through"
            " norm3." + PARTS,
        )


@decoder_layer.test(*LEARNS)
def check_decoder_gradient(answer: Any) -> None:
    """Look where the gradient of its output ends."""
    D = SIZES[0][0]
    masks = causal_mask(4)[None, None], torch.ones(1, 1, 1, 5).bool()
    inputs = torch.randn(2, 4, D), torch.randn(2, 5, D), *masks
    must_learn(call(answer, *SIZES[0]), *inputs)
