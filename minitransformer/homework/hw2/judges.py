"""Tell one wrong multi-head attention from another, for assignment 2."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import Wrong, explain, is_near, numbers
from minitransformer.homework.hw2 import slips
from minitransformer.homework.hw2.slips import State
from minitransformer.homework.hw2.tools import output_of, right_one

INTERLEAVED = (
    "the heads are interleaved: head h has the features h, h + H and so on,"
    " and should have d_k neighbours."
)


def explain_numbers(
    found: Tensor, state: State, inputs: tuple[Tensor, ...], num_heads: int
) -> None:
    """Raise `Wrong` with the mistake that gives ``found``."""
    query, key, value = inputs
    D, H = query.shape[-1], num_heads
    root = math.sqrt(D // H)
    bare = state | {"w_o.weight": torch.eye(D), "w_o.bias": torch.zeros(D)}

    def wrong(state: State = state, **slip: Any) -> Tensor:
        return slips.multi_head(state, query, key, value, H, **slip)

    def fed(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return slips.multi_head(state, query, key, value, H)

    explain(
        found,
        [
            (
                wrong(divisor=math.sqrt(D)),
                f"the scores are divided by the root of {D}, the width of the"
                f" model. A head's keys are {D // H} wide: divide by the root"
                " of d_k.",
            ),
            (wrong(divisor=1.0), "the divisor, the root of d_k, is missing."),
            (wrong(divisor=root**2), "the divisor is d_k, not its root."),
            (
                wrong(bare),
                "w_o is forgotten: the heads stand side by side, and nothing"
                " mixes them.",
            ),
            (
                fed(query, key, key),
                "w_v is applied to the key: values are made from the value.",
            ),
            (
                fed(query, key, query),
                "w_v is applied to the query: values are made from the value.",
            ),
            (
                fed(query, value, value),
                "w_k is applied to the value: keys are made from the key.",
            ),
            (
                fed(query, query, query),
                "everything is made from the query; keys and values have"
                " inputs of their own.",
            ),
            (fed(key, query, value), "query and key have changed places."),
            (
                wrong(split=slips.cut, merge=slips.join),
                "the split is a reshape alone, and so is the way back: a head"
                " then holds pieces of few tokens.",
            ),
            (
                wrong(split=slips.cut),
                "the split is a reshape alone: a head then holds pieces of"
                " few tokens. Cut the width, then exchange two dimensions.",
            ),
            (
                wrong(merge=slips.join),
                "the heads are split rightly and merged wrongly: exchange the"
                " two dimensions back before you join.",
            ),
            (
                wrong(split=slips.unturned, merge=slips.flattened),
                "the heads were not brought to the front: attention runs"
                " between the heads of one token, and no token sees another.",
            ),
            (
                wrong(split=slips.interleaved, merge=slips.woven),
                INTERLEAVED,
            ),
            (wrong(split=slips.interleaved), INTERLEAVED),
            (
                wrong(merge=slips.woven),
                "the heads are shuffled into one another before w_o: each"
                " head's numbers stay together.",
            ),
            (
                wrong(split=slips.shared),
                "every head uses the first stretch of the width: head h"
                " begins at feature h * d_k.",
            ),
            (
                wrong(split=slips.crossed),
                "the width is cut into d_k heads of width H: the number of"
                " heads comes first.",
            ),
            (
                wrong(split=slips.whole),
                "that is one head of the full width: the split is missing.",
            ),
            (
                wrong(axis=1),
                "the softmax runs over the heads; it belongs to the keys.",
            ),
            (
                wrong(axis=-2),
                "the softmax runs over the queries; every row must add up to"
                " one.",
            ),
            (
                wrong(slips.turned(state, slips.LAYERS)),
                "the weights are transposed: nn.Linear stores (out, in), and"
                " calling it multiplies as it should.",
            ),
        ],
        "the shape is right and the numbers are not. Write the shape beside"
        " each line, and compare with the table of shapes.",
        1e-3,
    )


def judge_masks(
    module: Any, state: State, sizes: tuple[int, int, int, int, int]
) -> None:
    """Compare with the package's module under masks of all shapes that fit.

    Args:
        module: The learner's, with the weights of ``state``.
        state: As many heads of keys as of queries.
        sizes: ``B, T, S, H, d_k``.
    """
    B, T, S, H, d_k = sizes
    query = torch.randn(B, T, H * d_k)
    key, value = torch.randn(2, B, S, H * d_k)
    right = right_one(state, H * d_k, H)

    def wrong(weigh: Callable[[Tensor], Tensor]) -> Tensor:
        return slips.masked_wrongly(state, query, key, value, H, weigh)

    for shape in ((T, S), (B, 1, T, S), (B, 1, 1, S), (B, H, T, S)):
        mask = torch.rand(shape) < 0.6
        mask[..., 0], mask[..., 1] = True, False  # something for everyone
        hint = (
            f"a mask of shape {shape} fits the scores, {(B, H, T, S)}, as it"
            " is: it needs no new dimension"
        )
        found = output_of(module, query, key, value, mask, hint=hint)
        numbers(found, query.shape)
        if is_near(found, right(query, key, value, mask), 1e-3):
            continue

        def lowered(s: Tensor, mask: Tensor = mask) -> Tensor:
            return s.masked_fill(~mask, 0.0).softmax(-1)

        def late(s: Tensor, mask: Tensor = mask) -> Tensor:
            return s.softmax(-1) * mask

        def added(s: Tensor, mask: Tensor = mask) -> Tensor:
            return (s + mask).softmax(-1)

        first_for_all = [
            (
                right(query, key, value, first),
                f"with a mask of shape {shape} the first {name}'s mask serves"
                " all of them.",
            )
            for name, first in (
                ("sentence", mask[:1]),
                ("head", mask[:, :1]),
            )
            if mask.ndim == 4
        ]
        explain(
            found,
            [
                (
                    right(query, key, value),
                    "the mask has no effect: fill the scores with minus"
                    " infinity where it is False, before the softmax.",
                ),
                (
                    right(query, key, value, ~mask),
                    "the mask is turned round: True means may attend.",
                ),
                (
                    right(query, key, value, torch.zeros_like(mask)),
                    "with a mask every weight is 0: what is hidden before the"
                    " softmax and what is set to 0 after it must be the same"
                    " keys, those where the mask is False.",
                ),
                (
                    wrong(lowered),
                    "a score of 0 does not hide a key, since e^0 = 1: fill"
                    " with minus infinity.",
                ),
                (
                    wrong(late),
                    "the mask comes after the softmax, so the weights no"
                    " longer add up to one: fill the scores before it.",
                ),
                (
                    wrong(added),
                    "the mask is added as ones and zeros, and hides nothing:"
                    " fill the scores with minus infinity where it is False.",
                ),
                *first_for_all,
            ],
            f"without a mask it is right, with a mask of shape {shape} it is"
            " not.",
            1e-3,
        )


def judge_dropped(found: Tensor, whole: Tensor, p: float) -> None:
    """Say what became of weights of which a share of ``p`` is to be dropped.

    Args:
        found: The weights after dropout, ``(B, H, T, S)``.
        whole: The weights before.
        p: The chance of being dropped.
    """
    seen = whole > 0.02
    gone = seen & (found.abs() < 1e-3)
    sums = found.sum(-1)

    def kept_as(factor: float) -> bool:
        return is_near(found[seen & ~gone], factor * whole[seen & ~gone], 2e-3)

    if not gone.any() and kept_as(1.0):
        raise Wrong(
            "in training mode nothing is dropped: hand the weights through"
            " dropout before they meet the values."
        )
    if gone.any() and kept_as(1.0):
        raise Wrong(
            "the weights that stay do not grow: divide them by 1 - dropout,"
            " so that they keep their sum on average."
        )
    if gone.any() and kept_as(1 / p):
        raise Wrong(
            f"of the weights a share of {1 - p:.1f} is dropped, and"
            f" dropout={p} is the chance of being dropped, not of staying."
        )
    if (sums - 1).abs().lt(2e-3).float().mean() > 0.8:
        raise Wrong(
            "the rows still add up to one in training mode: drop after the"
            " softmax, and do not make the rows add up again."
        )
    if not gone.any() or not kept_as(1 / (1 - p)):
        raise Wrong(
            "in training mode it is not the weights that are dropped: each of"
            " them, alone, becomes 0 or is divided by 1 - dropout, before it"
            " meets the values."
        )
    share = gone[seen].float().mean().item()
    if abs(share - p) > 0.1:
        raise Wrong(
            f"with dropout={p} a share of {share:.2f} of the weights is"
            " dropped."
        )
    for axis, name in enumerate(("sentence", "head", "query", "key")):
        first = gone.narrow(axis, 0, 1)
        both = seen & seen.narrow(axis, 0, 1)
        if not ((gone != first) & both).any():
            raise Wrong(
                f"the same draw serves every {name}: each weight has a chance"
                " of its own."
            )
