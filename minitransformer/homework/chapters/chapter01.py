"""Checks for chapter 1: looking back, and what it costs."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.attention import MultiHeadAttention
from minitransformer.counting import count_parameters
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
)

STATES = torch.tensor([[2.0, 0], [2, 1], [0, 2], [1, 2]], dtype=torch.float64)


@exercise("1.1")
def check_1_1(answer: Any) -> None:
    """Judge the context of the state (0, 1)."""
    found = numbers(answer)
    if found.shape == (4,):
        raise Wrong(
            "four numbers are weights, one for each place. The context is as"
            " wide as a state: two numbers."
        )
    found = numbers(answer, (2,))
    scores = STATES[:, 1]  # the product with (0, 1)
    if is_near(found, scores.softmax(0) @ STATES, 0.01):
        return
    winners = scores == scores.max()
    explain(
        found,
        [
            (
                STATES[:, 0].softmax(0) @ STATES,
                "that is the context of (1, 0), the state in the text. What"
                " are the scores of (0, 1)?",
            ),
            (
                scores.exp() @ STATES,
                "the powers do not add up to one yet: divide each by their"
                " sum.",
            ),
            (
                scores @ STATES,
                "the scores themselves are no weights: the softmax is"
                " missing.",
            ),
            (
                scores / scores.sum() @ STATES,
                "you divided the scores by their sum; the softmax takes"
                " powers of e first.",
            ),
            (
                STATES[winners].mean(0),
                "that is a choice of the best places. The others have weights"
                " above zero, too.",
            ),
            (
                STATES.mean(0),
                "that is the plain average, as if all scores were equal.",
            ),
        ],
        "write down the four scores, then the four weights, and check that"
        " the weights add up to one.",
        0.01,
    )


@exercise("1.2")
def check_1_2(answer: Any) -> None:
    """Judge a formula for the parameters of a GRU."""
    for _ in range(3):
        d_in, d = (int(n) for n in torch.randint(3, 60, (2,)))
        d_in += d_in == d
        found = numbers(call(answer, d_in, d), ())
        right = count_parameters(nn.GRU(d_in, d))
        if found != right:
            matrices = d * d_in + d * d
            explain(
                found,
                [
                    (
                        6 * d**2 + 6 * d,
                        "that holds only where the input is as wide as the"
                        " state. Which matrices meet the input?",
                    ),
                    (
                        6 * d_in**2 + 6 * d_in,
                        "that holds only where the input is as wide as the"
                        " state. Which matrices meet the input?",
                    ),
                    (
                        count_parameters(nn.GRU(d, d_in)),
                        "the two widths are swapped: d_in comes first, and is"
                        " that of the input.",
                    ),
                    (
                        3 * matrices,
                        "the matrices are right; the biases are missing.",
                    ),
                    (
                        3 * (matrices + d),
                        "PyTorch's GRU has two bias vectors for each part,"
                        " one for the input and one for the state.",
                    ),
                    (
                        4 * (matrices + 2 * d),
                        "that is an LSTM. A GRU has one part less.",
                    ),
                    (
                        matrices + 2 * d,
                        "that is one of the parts, a plain recurrent network;"
                        " a GRU has several of that size.",
                    ),
                ],
                f"for {d_in=} and {d=} it gives {found.item():,.0f}, and"
                f" nn.GRU has {right:,}.",
                0,
            )


@exercise("1.3")
def check_1_3(answer: Any) -> None:
    """Judge additive scores of one state, for all places."""
    for S in (5, 3):
        z, memory = torch.randn(4), torch.randn(S, 6)
        w_z, w_h, v = torch.randn(7, 4), torch.randn(7, 6), torch.randn(7)
        found = numbers(call(answer, z, memory, w_z, w_h, v))
        sums = w_z @ z + memory @ w_h.T  # (S, 7)
        right = sums.tanh() @ v  # (S,)
        if is_near(found, right):
            continue
        explain(
            found,
            [
                (
                    right.softmax(0),
                    "these are the weights; the scores are wanted, before the"
                    " softmax.",
                ),
                (
                    sums @ v,
                    "the tanh is missing. Without it the state z adds the"
                    " same number to every score, and chooses nothing.",
                ),
                (
                    (sums @ v).tanh(),
                    "the tanh comes too late: it belongs around the hidden"
                    " numbers, before v.",
                ),
                (
                    ((w_z @ z).tanh() + (memory @ w_h.T).tanh()) @ v,
                    "one tanh around the sum, not one around each part. Apart,"
                    " z adds the same number to every score.",
                ),
                (
                    (memory @ w_h.T).tanh() @ v,
                    "the state z is forgotten: it goes into the tanh, too.",
                ),
                (
                    sums.sigmoid() @ v,
                    "a sigmoid squeezes into 0 to 1; a tanh is wanted,"
                    " which keeps the sign.",
                ),
                (
                    right.sum(),
                    "that is one number: the scores are added up. Give one"
                    " for each place.",
                ),
                (
                    sums.tanh() * v,
                    "multiply by v and add up: one number is left for each"
                    " place.",
                ),
            ],
            otherwise(found, (S,))
            + " For each place h, it is v · tanh(W_z z + W_h h).",
        )


def otherwise(found: Tensor, shape: tuple[int, ...]) -> str:
    """Say whether the shape or the numbers are wrong."""
    if found.shape == shape:
        return "the shape is right, the numbers are not."
    return f"the shape is {tuple(found.shape)}, and should be {shape}."


@exercise("1.4")
def check_1_4(answer: Any) -> None:
    """Judge how many dilated convolutions join the first place and last."""
    cases = [(81, 3), (125, 5), (2, 2), (7, 7), (8, 7)]
    for k in range(2, 13):  # where logarithms of floats go wrong
        powers = [k**L for L in range(1, 13) if k**L <= 4096]
        cases += [(n + more, k) for n in powers for more in (0, 1)]
    cases += [
        (int(torch.randint(2, 500, ())), int(torch.randint(2, 7, ())))
        for _ in range(20)
    ]
    for n, k in cases:
        found = numbers(call(answer, n, k), ())
        right = dilated_layers(n, k)
        if found == right:
            continue
        text = f"for n={n} and k={k} it gives {found.item():g}"
        if found != found.round():
            raise Wrong(f"{text}, which is no whole number of layers.")
        if found == math.ceil((n - 1) / (k - 1)):
            raise Wrong(
                f"{text}: that is the stack without dilation, whose reach"
                " grows by a sum. Here it is multiplied by k in each layer."
            )
        if found == right + 1 and k**right == n:
            raise Wrong(
                f"{text}, one too many: to reach exactly n places is enough."
                " (If you compare with <, try <=. If you take logarithms,"
                " they are not exact: count in whole numbers.)"
            )
        if found < right:
            raise Wrong(
                f"{text}, too few: {int(found)} layers reach"
                f" {k ** int(found)} places. If you round, round up, and only"
                " what is exact: a loop over whole numbers is safest."
            )
        raise Wrong(f"{text}, too many: {right} layers reach {k**right}.")


def dilated_layers(n: int, k: int) -> int:
    """Count the layers by letting a 1 travel from the first place."""
    x = torch.zeros(1, 1, n)
    x[..., 0] = 1
    layers = 0
    while x[0, 0, -1] == 0:
        gap = k**layers
        padded = F.pad(x, ((k - 1) * gap, 0))
        x = F.conv1d(padded, torch.ones(1, 1, k), dilation=gap).sign()
        layers += 1
    return layers


@exercise("1.5")
def check_1_5(answer: Any) -> None:
    """Judge one step of dot attention for a padded batch."""
    B, S, D = 3, 6, 4
    z, memory = torch.randn(B, D), torch.randn(B, S, D)
    lengths = torch.tensor([6, 2, 4])
    found = numbers(call(answer, z, memory, lengths))
    real = torch.arange(S) < lengths[:, None]  # (B, S)
    scores = (memory @ z[:, :, None])[..., 0]  # (B, S)
    hidden = scores.masked_fill(~real, -math.inf)
    weights = hidden.softmax(1)
    right = mixed(weights, memory)
    if is_near(found, right):
        judge_large_padding(answer)
        return
    if found.isnan().any():
        raise Wrong(
            "there is nan in it: some softmax had no place left. Is your"
            " mask the wrong way round?"
        )
    one_more = torch.arange(S) <= lengths[:, None]  # (B, S)
    one_less = torch.arange(S) < lengths[:, None] - 1  # (B, S)
    zeroed = memory * real[..., None]
    explain(
        found,
        [
            (weights, "these are the weights; the context is wanted."),
            (
                mixed(scores.softmax(1), memory),
                "padding is looked at: lengths is not used. Hide the places"
                " behind each sentence's end before the softmax.",
            ),
            (
                mixed((scores * real).softmax(1), memory),
                "a score of 0 is not hidden: e^0 is 1. Which score has e^s ="
                " 0?",
            ),
            (
                mixed(scores.softmax(1) * real, memory),
                "hidden after the softmax, the weights no longer add up to"
                " one. Hide the scores instead.",
            ),
            (
                mixed(scores.softmax(0), memory),
                "the softmax runs over the batch, and lengths is not used.",
            ),
            (
                mixed(hidden.softmax(0), memory),
                "the softmax runs over the batch: the sentences compete."
                " Which dimension holds the places?",
            ),
            (
                mixed(scores * real, memory),
                "the softmax is missing: the weights must add up to one.",
            ),
            (
                mixed(
                    scores.masked_fill(~one_more, -math.inf).softmax(1), memory
                ),
                "one place of padding is seen. Places are counted from 0: the"
                " last real one is lengths - 1.",
            ),
            (
                mixed(
                    scores.masked_fill(~one_less, -math.inf).softmax(1), memory
                ),
                "the last real place is hidden. Places are counted from 0: it"
                " is lengths - 1.",
            ),
            (
                mixed(scores.masked_fill(real, -1e9).softmax(1), memory),
                "the mask is the wrong way round: it hides the real places.",
            ),
            (
                mixed((zeroed @ z[:, :, None])[..., 0].softmax(1), zeroed),
                "padding set to zeros still gets a score of 0, and e^0 is 1:"
                " it takes weight away. Hide its scores.",
            ),
            (
                mixed((hidden / math.sqrt(D)).softmax(1), memory),
                "that divides the scores, as chapter 2 will do. Here the"
                " match is the plain dot product.",
            ),
        ],
        otherwise(found, (B, D)) + " Wanted is a weighted sum of each"
        " sentence's own real states.",
    )


def judge_large_padding(answer: Any) -> None:
    """Try low scores and large padding: is its weight exactly 0?"""
    z = torch.randn(2, 4)
    z[:, 3] = 0
    toward = z / z.square().sum(1, keepdim=True)
    memory = torch.randn(2, 5, 4) - 60 * toward[:, None]  # scores near -60
    lengths = torch.tensor([5, 3])
    memory[1, 3:] = torch.tensor([0, 0, 0, 1e20])  # their scores are 0
    found = numbers(call(answer, z, memory, lengths))
    right = []
    for one, states, n in zip(z, memory, lengths.tolist(), strict=True):
        right.append((states[:n] @ one).softmax(0) @ states[:n])
    if not is_near(found, torch.stack(right), 1e-3):
        raise Wrong(
            "right for moderate numbers. But where real scores are near -60"
            " and padding is huge, something of the padding is left: which"
            " score has a weight of exactly 0, whatever the others are?"
        )


def mixed(weights: Tensor, memory: Tensor) -> Tensor:
    """Sum states ``(B, S, D)``, weighted by ``(B, S)``: ``(B, D)``."""
    return (weights[:, None] @ memory)[:, 0]


@quiz(1)
def answers_1() -> str:
    """Build what each question asks about, and see which choice it is."""
    _, last = nn.GRU(8, 256)(torch.randn(40, 8))
    h, z = torch.randn(2, 5)
    same = h.expand(4, 5)
    context = (same @ z).softmax(0) @ same
    contexts = [is_near(context, h), is_near(context, 4 * h), True]
    dense = [count_parameters(nn.Linear(n * 3, n * 3, False)) for n in (5, 10)]
    layers = [nn.Conv1d(64, 64, 3), MultiHeadAttention(64, 1), nn.GRU(64, 64)]
    sizes = [count_parameters(layer) for layer in layers]
    places = [
        [40, 256, 40 * 256].index(last.numel()),
        contexts.index(True),
        [40, 27, 4].index(dilated_layers(81, 3)),
        [1, 2, 4].index(dense[1] // dense[0]),
        sizes.index(min(sizes)),
    ]
    return "".join("ABC"[place] for place in places)
