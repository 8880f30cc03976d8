"""Assignment 2, fourth part: attention from one sentence to another."""

from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import Wrong, explain, is_near, numbers
from minitransformer.homework.hw2 import slips
from minitransformer.homework.hw2.tasks import cross
from minitransformer.homework.hw2.tools import right_one, run, shaped

LENGTHS = (3, "Cross-attention: whose length has the output?")
PADDING = (4, "Padding: sentences of different lengths")


class Pair:
    """A target, a source with padding, and an attention between them.

    Args:
        sizes: ``B, T, S, H, d_k``.
        pad_id: What fills the source up.
        padded: Whether sentences differ in length; all are full if not.
    """

    def __init__(
        self,
        sizes: tuple[int, int, int, int, int],
        pad_id: int = 0,
        padded: bool = True,
    ):
        B, T, S, H, d_k = sizes
        D = H * d_k
        self.x, self.memory = torch.randn(B, T, D), torch.randn(B, S, D)
        self.module = right_one(slips.random_state(D, H, d_k), D, H)
        ids = torch.randint(4, 40, (B, S))
        ids[:, 0] = 0 if pad_id else 2  # an id like any other
        lengths = torch.randint(2, S - 1, (B, 1))
        lengths[-1] = S
        behind = torch.arange(S) >= lengths
        self.source = ids.masked_fill(behind & padded, pad_id)
        self.mask = (self.source != pad_id)[:, None, None]
        self.pad_id = pad_id

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend as a module would."""
        output: Tensor = self.module(query, key, value, mask)
        return output

    def found(self, answer: Any, *pad_id: int) -> Tensor:
        """Run a learner's function."""

        def module(
            query: Tensor,
            key: Tensor,
            value: Tensor,
            mask: Tensor | None = None,
        ) -> Tensor:
            return self.attend(query, key, value, mask)

        hint = (
            "queries come from x, keys and values from memory; the mask of"
            " the source is (B, 1, 1, S)"
        )
        inputs = module, self.x, self.memory, self.source, *pad_id
        return numbers(run(answer, *inputs, hint=hint))


@cross.test("the target asks, the memory answers", *LENGTHS)
def check_roles(answer: Any) -> None:
    """Give sentences without padding, as long as the target."""
    for sizes in ((1, 5, 5, 2, 4), (1, 4, 4, 3, 5)):
        pair = Pair(sizes, padded=False)
        x, memory, attend = pair.x, pair.memory, pair.attend
        found = pair.found(answer)
        shaped(found, x.shape, [])
        if is_near(found, attend(x, memory, memory), 1e-3):
            continue
        explain(
            found,
            [
                (
                    attend(memory, x, x),
                    "query and key have changed places: here the source asks"
                    " the target. The decoder's x asks, the memory has keys"
                    " and values.",
                ),
                (
                    attend(x, memory, x),
                    "the values come from x: what is averaged is the memory.",
                ),
                (
                    attend(x, x, memory),
                    "the keys come from x: keys and values both come from the"
                    " memory.",
                ),
                (
                    attend(x, x, x),
                    "that is self-attention: the memory is not looked at.",
                ),
                (
                    attend(x, memory, memory, ~pair.mask),
                    "nothing may be attended to, though the source has no"
                    " padding: True means may attend.",
                ),
            ],
            "without any padding in the source, the output should be that of"
            " the module with x as query and memory as key and value.",
            1e-3,
        )


@cross.test("the length is the target's", *LENGTHS)
def check_cross_length(answer: Any) -> None:
    """Give sources that are longer and shorter than the target."""
    for sizes in ((1, 4, 7, 3, 5), (1, 6, 5, 2, 4)):
        pair = Pair(sizes, padded=False)
        found = pair.found(answer)
        shaped(found, pair.x.shape, [])
        if not is_near(found, pair.attend(pair.x, pair.memory, pair.memory)):
            raise Wrong("with T other than S the numbers are not right.")


@cross.test("padding in the source is not attended to", *PADDING)
def check_padding(answer: Any) -> None:
    """Give padded sources, first as many as heads and as queries.

    A mask on the wrong axis raises no error then, and must be told by the
    numbers.
    """
    for sizes in ((3, 3, 6, 3, 4), (2, 5, 7, 3, 4)):
        pair = Pair(sizes)
        found = pair.found(answer)
        judge_padding(found, pair)


@cross.test("padding may have another id", *PADDING)
def check_pad_id(answer: Any) -> None:
    """Give sources in which 0 is a token and another id is padding."""
    pair = Pair((2, 5, 7, 3, 4), pad_id=3)
    found = pair.found(answer, 3)
    judge_padding(found, pair)


def judge_padding(found: Tensor, pair: Pair) -> None:
    """Say what was hidden in place of the padding."""
    x, memory, source = pair.x, pair.memory, pair.source
    B, T = x.shape[:2]
    right = pair.attend(x, memory, memory, pair.mask)
    if is_near(found, right, 1e-3):
        return

    def wrong(mask: Tensor | None, memory: Tensor = memory) -> Tensor:
        return pair.attend(x, memory, memory, mask)

    real = source != pair.pad_id
    mistakes = [
        (wrong(None), "the padding is attended to: no mask hides it."),
        (wrong(~pair.mask), "the mask is turned round: True = may attend."),
        (
            wrong(None, memory * real[..., None]),
            "the memory is set to 0 where there is padding, and a key of"
            " zeros still has a weight: hide it by a mask.",
        ),
        (
            wrong((source != 0)[:, None, None]),
            f"padding is {pair.pad_id} here, and 0 is a token like others:"
            " compare with pad_id.",
        ),
        (wrong(pair.mask[:1]), "the first sentence's mask serves all."),
    ]
    if pair.module.num_heads == B:
        mistakes.append(
            (
                wrong(real[:, None]),
                "the mask is (B, 1, S), and its B lines up with the heads:"
                " every head hides the padding of another sentence. (B, 1, 1,"
                " S) says what is meant.",
            )
        )
    if B == T:
        mistakes.append(
            (
                wrong(real),
                "the mask is (B, S), and its B lines up with the queries:"
                " every query hides the padding of another sentence. (B, 1,"
                " 1, S) says what is meant.",
            )
        )
    explain(
        found,
        mistakes,
        "with padding in the source the numbers are not right.",
        1e-3,
    )
