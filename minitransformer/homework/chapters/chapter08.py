"""The checks of chapter 8, "Feed-forward"."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.attention import SelfAttention
from minitransformer.counting import count_parameters, matmul_flops
from minitransformer.feed_forward import FeedForward
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
)
from minitransformer.layers import DecoderLayer, EncoderLayer
from minitransformer.masks import causal_mask
from minitransformer.residual import layer_norm

MOST_UNITS = 4  # of the net that finds the larger of two


def _draw(*shape: int) -> Tensor:
    """Draw numbers in float64."""
    return torch.randn(*shape, dtype=torch.double)


def _weights(d: int, d_ff: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw the matrices and biases of a layer of width ``d``."""
    return _draw(d, d_ff), _draw(d_ff), _draw(d_ff, d), _draw(d)


@exercise("8.1")
def check_feed_forward(answer: Any) -> None:
    """Try tokens, sentences and batches, also where shapes hide mix-ups.

    The square one comes first: there a transposed matrix raises no error, and
    can be named.
    """
    for D, d_ff, shape in ((4, 4, (3,)), (5, 11, (3, 4)), (6, 9, ())):
        x = _draw(*shape, D)
        weights = _weights(D, d_ff)
        found = numbers(call(answer, x, *weights))
        w1, b1, w2, b2 = weights
        if not is_near(found, (x @ w1 + b1).relu() @ w2 + b2):
            _explain_feed_forward(found, x, *weights)


def _explain_feed_forward(
    found: Tensor, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor
) -> None:
    """Raise `Wrong` with what stands in the wrong place, or not at all."""
    inner = x @ w1 + b1
    right = inner.relu() @ w2 + b2
    half = " Between the two matrices, and nowhere else, negatives become 0."
    mistakes = [
        (
            inner @ w2 + b2,
            "the ReLU is missing: this is one linear map." + half,
        ),
        (right.relu(), "there is a ReLU on the output too." + half),
        (
            (inner @ w2 + b2).relu(),
            "the ReLU comes after the second matrix." + half,
        ),
        (
            (x @ w1).relu() @ w2 + b2,
            "b1 is missing. It is added before the ReLU.",
        ),
        (
            ((x @ w1).relu() + b1) @ w2 + b2,
            "b1 is added after the ReLU. Without it before, every unit bends"
            " at 0.",
        ),
        (inner.relu() @ w2, "b2 is missing."),
        ((x @ w1).relu() @ w2, "both biases are missing."),
        (x + right, "x is added. The residual connection stands outside."),
        (inner.softmax(-1) @ w2 + b2, "a softmax is not a ReLU."),
        (
            inner.sigmoid() @ w2 + b2,
            "a sigmoid is not a ReLU: that keeps positive numbers as they"
            " are.",
        ),
        (
            inner.abs() @ w2 + b2,
            "the ReLU gives 0 for a negative number, not its absolute value.",
        ),
        (
            F.gelu(inner) @ w2 + b2,
            "a GELU is not a ReLU: that gives exactly 0 for every negative"
            " number.",
        ),
        (
            F.leaky_relu(inner) @ w2 + b2,
            "a leaky ReLU lets some of a negative number through; a ReLU"
            " nothing.",
        ),
    ]
    if w1.shape[0] == w1.shape[1]:
        mistakes.append(
            (
                (x @ w1.T + b1).relu() @ w2.T + b2,
                "the matrices are transposed. Here they are (D, d_ff) and"
                " (d_ff, D), as in equation (8.2), not as nn.Linear keeps"
                " them.",
            )
        )
    explain(
        found,
        mistakes,
        f"for x of {tuple(x.shape)} and d_ff = {len(b1)} the numbers are not"
        " right. Widen, bend, narrow: three steps, in this order."
        if found.shape == x.shape
        else f"x has shape {tuple(x.shape)}, and the output"
        f" {tuple(found.shape)}: it must have the shape of x.",
        1e-6,
    )


@exercise("8.2")
def check_share(answer: Any) -> None:
    """Count in the package's layers, for several widths and ratios.

    Eight heads can share each of these widths: a learner may count there too.
    """
    for D, ratio in ((16, 4), (40, 2), (8, 1), (512, 4)):
        for decoder in (True, False):  # tells norms from biases
            found = numbers(call(answer, D, ratio * D, decoder), ())
            kind = DecoderLayer if decoder else EncoderLayer
            layer = kind(D, 2, ratio * D)
            part = count_parameters(layer.feed_forward)
            if not is_near(found, part / count_parameters(layer), 1e-7):
                _explain_share(found, D, ratio * D, decoder)


def _explain_share(found: Tensor, d: int, d_ff: int, decoder: bool) -> None:
    """Raise `Wrong` with what was counted too much or too little."""
    attentions, norms = (2, 3) if decoder else (1, 2)
    matrices, biases = 2 * d * d_ff, d_ff + d
    feed = matrices + biases
    attend = attentions * (4 * d * d + 4 * d)
    rest = attend + norms * 2 * d
    other = (3 - attentions) * (4 * d * d + 4 * d) + (5 - norms) * 2 * d
    square = attentions * 4 * d * d
    four = 8 * d * d + 5 * d  # the net, were d_ff = 4 d
    explain(
        found,
        [
            (feed / (feed + attend), "the norms are missing: they learn too."),
            (
                matrices / (matrices + square),
                "this leaves out biases and norms. It is near, and the exact"
                " share is wanted.",
            ),
            (
                matrices / (matrices + rest),
                "the biases of the feed-forward net are missing.",
            ),
            (
                feed / (feed + square + norms * 2 * d),
                "the biases of the attention are missing.",
            ),
            (
                feed / (feed + other),
                "this is the share in a layer of the other kind: look at"
                " `decoder`. A decoder layer has two attentions and three"
                " norms.",
            ),
            (
                four / (four + rest),
                "this is the share for d_ff = 4 * d_model. Here d_ff may be"
                " anything.",
            ),
            (
                feed / (feed + square),
                "the biases of the attention are missing, and so are the"
                " norms.",
            ),
            (
                feed / (feed + attend + 4 * d),
                "a norm is missing: there is one for each sublayer, and a"
                " decoder layer has three.",
            ),
            (
                (matrices + 2 * d_ff) / (matrices + 2 * d_ff + rest),
                "the second bias is as wide as what comes out: d_model"
                " numbers.",
            ),
            (
                (matrices + 2 * d) / (matrices + 2 * d + rest),
                "the first bias is as wide as what comes out: d_ff numbers.",
            ),
            (
                feed / (feed + attend + norms * d),
                "a norm has a scale and a shift: two numbers for each"
                " feature.",
            ),
            (feed / rest, "a share is of the whole layer, itself included."),
            (rest / (feed + rest), "this is the share of all the others."),
            (feed, "this is the count. Divide it by that of the layer."),
            (
                100 * feed / (feed + rest),
                "a share is wanted, between 0 and 1, not a percentage.",
            ),
        ],
        f"for d_model = {d}, d_ff = {d_ff}, decoder={decoder} this gives"
        f" {found:g}. Write down the shape of every matrix, bias and norm.",
        1e-7,
    )


@exercise("8.3")
def check_larger(answer: Any) -> None:
    """Let the learner's net say which of two numbers is the larger."""
    parts = call(answer) if callable(answer) else answer
    if not isinstance(parts, tuple | list) or len(parts) != 4:
        raise Wrong("return four things: w1, b1, w2, b2.")
    w1 = numbers(parts[0])
    if w1.ndim != 2 or w1.shape[0] != 2:
        raise Wrong(
            f"w1 has shape {tuple(w1.shape)}: it needs two rows, one for a"
            " and one for b, and a column for each unit."
        )
    d_ff = w1.shape[1]
    if d_ff > MOST_UNITS:
        raise Wrong(
            f"these are {d_ff} units; at most {MOST_UNITS} are allowed."
        )
    b1, w2 = numbers(parts[1], (d_ff,)), numbers(parts[2])
    if w2.shape != (d_ff, 1) and w2.shape != (d_ff,):
        raise Wrong(
            f"w2 has shape {tuple(w2.shape)}: it needs a row for each of the"
            f" {d_ff} units, and one column."
        )
    b2 = numbers(parts[3], ())

    def net(x: Tensor) -> Tensor:
        return (x @ w1 + b1).relu() @ w2.reshape(d_ff) + b2

    grid = torch.arange(-6.0, 7.0, dtype=torch.double)
    x = torch.cat([torch.cartesian_prod(grid, grid), 10 * _draw(500, 2)])
    right = x.amax(dim=1)
    if not is_near(net(x), right, 1e-3):
        _explain_larger(net(x), x)
    # A bias that hides the ReLU from these is too small for some of those.
    for size in (1e3, 1e6, 1e9, 1e12, 1e15, 1e18):
        far = (net(size * x) / size - right).abs()
        if far.max() > 1e-3:
            a, b = (size * x[int(far.argmax())]).tolist()
            raise Wrong(
                "right for small numbers, but not for any: at"
                f" a = {a:.3g}, b = {b:.3g} it fails. A large bias only moves"
                " the place where the ReLU cuts off."
            )


def _explain_larger(found: Tensor, x: Tensor) -> None:
    """Raise `Wrong` with where the net fails."""
    larger, smaller = x.amax(dim=1), x.amin(dim=1)
    explain(
        found,
        [
            (smaller, "this is the smaller of the two."),
            (larger - smaller, "this is how far the two are apart."),
            (x.sum(dim=1), "this is their sum."),
            (x[:, 0], "this is always a."),
            (x[:, 1], "this is always b."),
            (
                larger.relu(),
                "where both are negative this gives 0. A unit never is below"
                " 0, so a negative number takes a second unit with the signs"
                " turned.",
            ),
            (
                (x[:, 0] - x[:, 1]).relu() + x[:, 1].relu(),
                "right as long as b is not negative: relu(b) is not b. A"
                " negative number takes a second unit with the signs turned.",
            ),
            (
                (x[:, 1] - x[:, 0]).relu() + x[:, 0].relu(),
                "right as long as a is not negative: relu(a) is not a. A"
                " negative number takes a second unit with the signs turned.",
            ),
        ],
        _first_miss(found, x),
        1e-3,
    )


def _first_miss(found: Tensor, x: Tensor) -> str:
    """Show one pair for which the net is wrong, small numbers first."""
    wrong = (found - x.amax(dim=1)).abs() > 1e-3
    order = x.abs().sum(dim=1) + 1e3 * ~wrong
    i = int(order.argmin())
    a, b = x[i].tolist()
    return f"for a = {a:g}, b = {b:g} your net says {found[i]:.3g}."


@exercise("8.4")
def check_contributions(answer: Any) -> None:
    """Compare what each unit says with the right words, unit by unit."""
    for D, d_ff in ((4, 7), (6, 3), (5, 5)):
        x = _draw(D)
        w1, b1, w2, _ = _weights(D, d_ff)
        found = numbers(call(answer, x, w1, b1, w2))
        right = (x @ w1 + b1).relu()[:, None] * w2
        if not is_near(found, right, 1e-6):
            _explain_contributions(found, x, w1, b1, w2)


def _explain_contributions(
    found: Tensor, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor
) -> None:
    """Raise `Wrong` with what was taken for a unit's share."""
    score = x @ w1 + b1
    said = score.relu()
    explain(
        found,
        [
            (said @ w2, "this is the sum over the units. Leave it out."),
            ((said[:, None] * w2).T, "this is transposed: a row for a unit."),
            (
                score[:, None] * w2,
                "a unit whose score is negative says nothing: the ReLU is"
                " missing.",
            ),
            (
                score.softmax(0)[:, None] * w2,
                "this is attention: a softmax makes the units compete. Here"
                " each has its own ReLU.",
            ),
            (
                (x @ w1).relu()[:, None] * w2,
                "the bias of each key is missing from its score.",
            ),
            (w2, "these are the values. How loud is each of them for this x?"),
            (said, "this is how loud each unit is. What does it say?"),
            (
                (score[:, None] * w2).relu(),
                "the ReLU belongs to the score, not to the product: a value"
                " may be negative.",
            ),
        ],
        f"for D = {len(x)} and {len(b1)} units this has shape"
        f" {tuple(found.shape)}, and should be {tuple(w2.shape)}: a row for"
        " each unit."
        if found.shape != w2.shape
        else "the shape is right, and the numbers are not. Each row is one"
        " number times the unit's value.",
        1e-6,
    )


@exercise("8.5")
def check_depends(answer: Any) -> None:
    """Show layers whose every dependence is known; some are traps."""
    for name, layer, x, right, hint in _layers():
        found = call(answer, layer, x)
        found = numbers(found, right.shape) != 0
        if torch.equal(found, right):
            continue
        if right.T.equal(found):
            raise Wrong(
                f"for {name} rows and columns have changed places: row t is"
                " the output at t."
            )
        _explain_depends(name, found, right, hint)


def _explain_depends(
    name: str, found: Tensor, right: Tensor, hint: str
) -> None:
    """Raise `Wrong` with what was seen and is not there, or was missed."""
    if (found & ~right).any():
        t, s = (found & ~right).nonzero()[0].tolist()
        raise Wrong(
            f"for {name} the output at {t} does not depend on the token at"
            f" {s}, and your function says it does. What exactly is compared?"
        )
    t, s = (~found & right).nonzero()[0].tolist()
    raise Wrong(
        f"for {name} the output at {t} depends on the token at {s}, and your"
        f" function does not notice. {hint}"
    )


_Case = tuple[str, Callable[[Tensor], Tensor], Tensor, Tensor, str]


def _layers() -> list[_Case]:
    """Make layers, inputs, who depends on whom, and what may be overlooked."""
    T, D = 5, 4
    x = _draw(T, D)
    net = FeedForward(D, 16).double()
    attention = SelfAttention(D, D).double()
    scale, shift = torch.ones(D), torch.zeros(D)
    every = torch.ones(T, T, dtype=torch.bool)
    own = torch.eye(T, dtype=torch.bool)
    before = own.roll(1, dims=0)

    def feed(x: Tensor) -> Tensor:
        found: Tensor = x + net(x)
        return found

    def attend(x: Tensor) -> Tensor:
        return layer_norm(x + attention(x), scale, shift)

    def causal(x: Tensor) -> Tensor:
        found: Tensor = x + attention(x, causal_mask(len(x)))
        return found

    def shifted(x: Tensor) -> Tensor:
        return x.roll(1, dims=0)

    def opposite(x: Tensor) -> Tensor:  # the sum over features never moves
        return torch.stack([x[:, 0], -x[:, 0]], dim=1)

    def inside(x: Tensor) -> Tensor:  # the first and the last never move
        still = 0 * x[:, 0] + 1
        return torch.stack([still, x[:, 0], still], dim=1)

    def difference(x: Tensor) -> Tensor:  # the sum of the slopes is 0
        return x[:, :1] - x[:, 1:2]

    def last(x: Tensor) -> Tensor:
        return x + x[-1, D - 1]

    def faint(x: Tensor) -> Tensor:  # lost in an absolute tolerance
        return 1e-9 * x

    to_last = own.clone()
    to_last[:, -1] = True
    outputs = "Look at every feature of the output by itself."
    inputs = (
        "Change every feature of the token, one at a time or each by another"
        " amount, and add up no slopes: they may cancel."
    )
    both = f"{outputs} {inputs}"
    longer = _draw(7, 6)
    running = torch.ones(7, 7, dtype=torch.bool).tril()
    return [
        ("x + FeedForward(x)", feed, x, own, both),
        (
            "a layer that returns a feature and its negative",
            opposite,
            x,
            own,
            f"{outputs} Their sum may stay where it is.",
        ),
        (
            "a layer with a feature between two constants",
            inside,
            x,
            own,
            f"{outputs} One of them won't do for all.",
        ),
        (
            "a layer that returns the difference of two features",
            difference,
            x,
            own,
            inputs,
        ),
        ("self-attention with Add & Norm", attend, x, every, both),
        ("x + causal self-attention", causal, x, every.tril(), both),
        ("a layer that hands each token on", shifted, x, before, both),
        (
            "a layer that adds a feature of the last token",
            last,
            x,
            to_last,
            inputs,
        ),
        (
            "a layer with tiny outputs",
            faint,
            x,
            own,
            "Its numbers are tiny, and they count: compare exactly, without a"
            " tolerance.",
        ),
        (
            "a layer on seven tokens",
            lambda x: x.cumsum(dim=0),
            longer,
            running,
            both,
        ),
    ]


@quiz(8)
def key() -> str:
    """Compute the five letters: build what is asked about, and look."""
    return _doubled() + _without_relu() + _half() + _reach() + _harmless()


def _doubled() -> str:
    """Question 1: what twice as many tokens double."""
    net = FeedForward(8, 32)
    short, long = (matmul_flops(net, torch.zeros(n, 8)) for n in (10, 20))
    sizes = {tuple(p.shape) for p in net.parameters()}
    more_weights = any({10, 20} & set(shape) for shape in sizes)
    more_work = long == 2 * short
    return {(True, True): "A", (False, False): "B", (False, True): "C"}[
        more_weights, more_work
    ]


def _without_relu() -> str:
    """Question 2: the rank of the product of both matrices."""
    w1, _, w2, _ = _weights(8, 32)
    rank = int(torch.linalg.matrix_rank(w1 @ w2))
    return {8: "A", 16: "B", 32: "C"}[rank]


def _half() -> str:
    """Question 3: the share of an encoder layer at twice the width."""
    layer = EncoderLayer(64, 4, 128)
    part = count_parameters(layer.feed_forward) / count_parameters(layer)
    choices = {"A": 1 / 3, "B": 1 / 2, "C": 2 / 3}
    return min(choices, key=lambda letter: abs(choices[letter] - part))


def _reach() -> str:
    """Question 4: what one feature of one token changes."""
    net = FeedForward(4, 64).double()
    x = _draw(3, 4)
    moved = x.clone()
    moved[1, 0] += 1
    changed = (net(moved) != net(x)).nonzero().tolist()
    tokens = len({token for token, _ in changed})
    features = len({feature for _, feature in changed})
    return {(3, 4): "A", (1, 1): "B", (1, 4): "C"}[tokens, features]


def _harmless() -> str:
    """Question 5: which change leaves the output as it is."""
    x = _draw(5, 4)
    w1, b1, w2, b2 = _weights(4, 9)
    order = torch.randperm(9)
    kept = (x @ w1 + b1).relu() @ w2 + b2
    choices = {
        "A": (x @ w1[:, order] + b1[order]).relu() @ w2[order] + b2,
        "B": (x @ w1 + b1 + 1.0).relu() @ w2 + b2,
        "C": (x @ (2 * w1) + b1).relu() @ w2 + b2,
    }
    return "".join(k for k, found in choices.items() if is_near(found, kept))
