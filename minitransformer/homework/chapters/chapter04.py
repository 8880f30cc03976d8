"""The checks of chapter 4, "Causal masking and dropout"."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minitransformer.attention import (
    SelfAttention,
    scaled_dot_product_attention,
)
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
)
from minitransformer.masks import causal_mask, from_lengths

NO_LEAK = "no leak"
Part = tuple[str, Callable[[Tensor], Tensor]]


# 4.1 ---


@exercise("4.1")
def check_row(answer: Any) -> None:
    """Compare with the causal weights of the third of four words."""
    found = numbers(answer)
    if found.shape == (3,):
        raise Wrong("a row has a weight for every key. What is the fourth?")
    found = numbers(answer, (4,))
    scores = torch.tensor([2.0, 6.0, 8.0, 4.0], dtype=torch.float64).log()
    full = scores.softmax(0)
    zeroed = full * torch.tensor([1, 1, 1, 0])
    right = zeroed / zeroed.sum()
    if is_near(found, right, 6e-3):
        return
    before = scores[:2].softmax(0)
    explain(
        found,
        [
            (full, "the fourth word is still seen. It comes later."),
            (
                [*right[:3], -torch.inf],
                "minus infinity is a score. What weight does it become?",
            ),
            (
                zeroed,
                "these don't add up to one: the fourth power is still in the"
                " sum you divide by.",
            ),
            (
                [*before, 0, 0],
                "the third word may see itself, too.",
            ),
            (
                [0, 0, 0, 1],
                "this word looks ahead. Causal means: itself and back.",
            ),
            (
                [2, 6, 8, 0],
                "these are powers. What must a row of weights add up to?",
            ),
            (
                [*(scores[:3] / scores[:3].sum()), 0],
                "the scores themselves are divided by their sum here. Take"
                " the powers, e to the score.",
            ),
        ],
        "which powers belong in the sum, and which does not?",
        6e-3,
    )


# 4.2 ---


@exercise("4.2")
def check_dropout(answer: Any) -> None:
    """Look at the rate, the coins and the scale."""
    p = 0.2
    x = torch.randn(200, 100, dtype=torch.float64)
    with _Watch() as watch:
        out = numbers(call(answer, x, p), x.shape)
    if watch.seen:
        raise Wrong("torch's own dropout is at work here: write yours.")
    fallen = out == 0
    _check_coins(fallen, p)
    _check_scale((out / x)[~fallen], p)
    if torch.equal(numbers(call(answer, x, p), x.shape) == 0, fallen):
        raise Wrong(
            "the same numbers are dropped in each call. Draw new coins each"
            " time, and set no seed inside."
        )
    _check_small(answer)
    batch = torch.randn(2, 20, 30, dtype=torch.float64)
    one, other = numbers(call(answer, batch, p), batch.shape) == 0
    if torch.equal(one, other):
        raise Wrong("all sentences of a batch share their coins.")
    line = torch.randn(50, dtype=torch.float64)
    if not is_near(numbers(call(answer, line, 0.0), line.shape), line):
        raise Wrong("with p = 0 nothing may change.")


class _Watch(TorchFunctionMode):
    """Notice a call of one of torch's own functions for dropout."""

    seen = False

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        """Run the function, and look at its name."""
        self.seen |= "dropout" in getattr(func, "__name__", "")
        return func(*args, **(kwargs or {}))


def _check_small(answer: Any) -> None:
    """Raise `Wrong` if count, rate or scale of 20 small draws are wrong."""
    x = torch.randn(10, 10, dtype=torch.float64)
    outs = torch.stack(
        [numbers(call(answer, x, 0.5), (10, 10)) for _ in range(20)]
    )
    counts = (outs == 0).sum((1, 2))
    share = float(counts.sum()) / outs.numel()
    if abs(share - 0.5) > 0.1:
        raise Wrong(
            f"with p = 0.5, {share:.0%} of the numbers are dropped. Is"
            " another p fixed in your code?"
        )
    if counts.min() == counts.max():
        raise Wrong(
            f"of 100 numbers exactly {int(counts[0])} are dropped every time."
            " Each number has a coin of its own, so the count varies."
        )
    factors = (outs / x).sum((1, 2)) / (100 - counts)
    if is_near(factors, 100 / (100 - counts)):
        raise Wrong(
            "survivors are scaled by how many there are this time. The scale"
            " that keeps the mean hangs on p alone: equation (4.2)."
        )
    if not is_near(factors, torch.full_like(factors, 2), 0.01):
        raise Wrong(
            "with p = 0.2 the scale is right, with p = 0.5 it is not. Is a"
            " number fixed in your code?"
        )


def _check_coins(fallen: Tensor, p: float) -> None:
    """Raise `Wrong` if not a share of ``p`` falls, each on its own coin."""
    share = float(fallen.double().mean())
    if fallen.all(dim=0).any() or fallen.all(dim=1).any():
        raise Wrong(
            "whole rows or columns are dropped together. Draw as many coins"
            " as x has numbers."
        )
    if share == 0:
        raise Wrong("with p = 0.2 no number is dropped.")
    if abs(share - (1 - p)) < 0.03:
        raise Wrong(
            f"of all numbers {share:.0%} are dropped with p = 0.2: p is the"
            " chance to be dropped, not to stay."
        )
    if abs(share - p) > 0.03:
        raise Wrong(f"with p = 0.2, {share:.0%} of the numbers are dropped.")


def _check_scale(factors: Tensor, p: float) -> None:
    """Raise `Wrong` if survivors are not multiplied by ``1 / (1 - p)``."""
    factor = factors.median()
    if not is_near(factors, factor.expand_as(factors), 1e-6):
        raise Wrong("survivors must all be multiplied by the same number.")
    if abs(float(factor) * (1 - p) - 1) < 0.01:
        return
    explain(
        factor,
        [
            (1, "survivors are not scaled, so the mean shrinks."),
            (1 / p, "survivors are divided by p: that is right for 0.5 only."),
            (
                1 - p,
                "survivors are multiplied by 1 - p, so the mean shrinks"
                " twice. Which way must they change to make up for the"
                " dropped?",
            ),
        ],
        f"survivors are multiplied by {float(factor):.2f} with p = 0.2. What"
        " keeps the mean?",
        1e-3,
    )


# 4.3 ---


@exercise("4.3")
def check_from_torch(answer: Any) -> None:
    """Try random masks, in which every mistake shows, of three sizes."""
    for B, T, S in ((1, 8, 8), (3, 8, 8), (2, 4, 6)):
        a = torch.rand(T, S) < 0.4
        p = torch.rand(B, S) < 0.4
        a[0, :2] = torch.tensor([True, False])
        p[:, :2] = torch.tensor([False, True])
        found = call(answer, a, p)
        _refuse_numbers(found)
        shape = getattr(found, "shape", None)
        if shape == (B, T, S):
            raise Wrong(
                "the shape is (B, T, S): one dimension is missing, that of"
                " the heads, of size 1."
            )
        if shape == (T, S):
            raise Wrong(
                "the shape is (T, S), so the sentences of a batch have no row"
                " each. Give key_padding_mask the shape (B, 1, 1, S) first."
            )
        mask = numbers(found, (B, 1, T, S))
        if not is_near(mask, ~a & ~p[:, None, None, :]):
            _explain_mask(mask, a, p)


def _explain_mask(mask: Tensor, a: Tensor, p: Tensor) -> None:
    """Raise `Wrong` with what is wrong with a joined mask."""
    keys = p[:, None, None, :]
    mistakes = [
        (a | keys, "this still says who is blocked."),
        (a & keys, "this says who is blocked by both of them."),
        (
            ~a | ~keys,
            "a key that only one of the two blocks gets through. It must pass"
            " both.",
        ),
        ((~a).expand(mask.shape), "the padding is not hidden."),
        ((~keys).expand(mask.shape), "attn_mask is not used."),
        (~a & keys, "the padding mask is still the wrong way up."),
        (a & ~keys, "attn_mask is still the wrong way up."),
    ]
    if a.shape[0] == a.shape[1]:  # else padding does not fit the queries
        queries = p[:, None, :, None]
        mistakes += [
            (
                ~a & ~queries,
                "padding hides queries here: rows instead of columns.",
            ),
            (
                ~a & ~queries & ~keys,
                "padded queries are hidden, too. Hide keys only: a row"
                " without any key ends in nan.",
            ),
        ]
    explain(
        mask, mistakes, "a key may be attended to if neither mask blocks it."
    )


def _refuse_numbers(mask: Any) -> None:
    """Raise `Wrong` if a tensor is not boolean."""
    if isinstance(mask, Tensor) and mask.dtype != torch.bool:
        raise Wrong(
            f"the mask is {mask.dtype}. Ours are torch.bool, such as a"
            " comparison gives."
        )


# 4.4 ---


@dataclass(frozen=True, slots=True)
class _Plant:
    """A model with a leak, or without, and what to say if it is missed."""

    parts: list[Part]
    right: tuple[str, int, int] | str
    missed: str = ""
    shape: tuple[int, int, int] = (2, 6, 3)


def _past(x: Tensor) -> Tensor:
    return x.cumsum(1)


def _next(x: Tensor) -> Tensor:
    """Let every position see the next, half as strongly."""
    return x + F.pad(x[:, 1:], (0, 0, 0, 1)) / 2


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(1, keepdim=True)


def _balanced(x: Tensor) -> Tensor:
    """Leak numbers that add up to zero."""
    ahead = _next(x) - x
    return torch.cat([x + ahead, x - ahead], dim=-1)


def _contrast(x: Tensor) -> Tensor:
    """Leak the difference of two later numbers."""
    ahead = _next(x) - x
    return x + ahead - ahead.roll(1, -1)


def _faint(x: Tensor) -> Tensor:
    return x + 1e-12 * x.flip(1)


def _in_second(x: Tensor) -> Tensor:
    """Leak in the second sentence only."""
    return torch.cat([x[:1], _next(x[1:])])


def _late(x: Tensor) -> Tensor:
    """Let position 2 see position 4, and no other look ahead."""
    ahead = torch.zeros_like(x)
    ahead[:, 2] = x[:, 4]
    return _past(x) + ahead


def _plants() -> list[_Plant]:
    """Return models, easy ones first."""
    return [
        _Plant([("add up", _past), ("sine", torch.sin)], NO_LEAK),
        _Plant(
            [("sine", torch.sin), ("shift", _next)],
            ("shift", 0, 1),
            "each position sees the next one. Does your detector look at"
            " s > t, and at every part?",
            (3, 4, 2),
        ),
        _Plant(
            [("centre", _centred), ("shift", _next)],
            ("centre", 0, 1),
            "a mean over all positions is subtracted from each.",
            (1, 7, 4),
        ),
        _Plant(
            [("add up", _past), ("late", _late)],
            ("late", 2, 4),
            "position 2 sees position 4, and no other looks ahead. Try every"
            " pair.",
        ),
        _Plant(
            [("balance", _balanced), ("sine", torch.sin)],
            ("balance", 0, 1),
            "the numbers of each output add up to the same whatever comes"
            " later. Take the derivative of one number at a time.",
        ),
        _Plant(
            [("contrast", _contrast), ("sine", torch.sin)],
            ("contrast", 0, 1),
            "an output uses the difference of two later numbers, so its"
            " derivatives add up to 0. Look at each, and don't add them up.",
        ),
        _Plant(
            [("sine", torch.sin), ("second", _in_second)],
            ("second", 0, 1),
            "only the second sentence of the batch leaks. Probe all of them.",
        ),
        _Plant(
            [("sine", torch.sin), ("faint", _faint)],
            ("faint", 0, 5),
            "the derivative is 1e-12. Without a leak it is exactly 0, so no"
            " tolerance is needed.",
        ),
    ]


@exercise("4.4")
def check_detector(answer: Any) -> None:
    """Plant leaks, and see whether they are found and named."""
    for plant in _plants():
        x = torch.randn(plant.shape, dtype=torch.float64)
        found = _as_triple(call(answer, plant.parts, x))
        if found != plant.right:
            _explain_find(found, plant)


def _as_triple(answer: Any) -> tuple[str, int, int] | str:
    """Return what was found in a form that can be compared."""
    if isinstance(answer, str):
        if answer.strip().lower() == NO_LEAK:
            return NO_LEAK
    else:
        try:
            name, t, s = answer
            return str(name), int(t), int(s)
        except (TypeError, ValueError):
            pass
    raise Wrong(
        f'return a triple (name, t, s), or "{NO_LEAK}"; this is {answer!r}.'
    )


def _explain_find(found: tuple[str, int, int] | str, plant: _Plant) -> None:
    """Raise `Wrong` for a leak that was missed, made up or misnamed."""
    if isinstance(found, str):
        raise Wrong(f"a leak was missed: {plant.missed}")
    name, t, s = found
    if isinstance(plant.right, str):
        if s == t:
            raise Wrong("a position may see itself: that is no leak.")
        if s < t:
            raise Wrong(
                "a position may see earlier ones: only s > t is a leak."
            )
        raise Wrong(f"there is no leak in the first model, and yet {found}.")
    if (t, s) == plant.right[:0:-1]:
        raise Wrong(
            "t and s have changed places: t is the output, s the later input."
        )
    if name != plant.right[0]:
        raise Wrong(
            f"part {name!r} is named, and the first that leaks is"
            f" {plant.right[0]!r}. Judge each part by its own input."
        )
    if t >= s:
        raise Wrong(f"({t}, {s}) is no leak: s must be later than t.")
    if (t, s) < plant.right[1:]:
        raise Wrong(
            f"part {name!r} alone has no leak at ({t}, {s}). Differentiate by"
            " the part's own input, not by the model's."
        )
    raise Wrong(
        f"the part is right, the place is not: of its leaks, ({t}, {s}) is"
        " not the one with the smallest t, and then the smallest s."
    )


# The quiz ---


@quiz(4)
def key() -> str:
    """Compute the five letters: build what is asked about, and look."""
    return (
        _first_row()
        + _exactly_half()
        + _who_needs_padding()
        + _upside_down()
        + _one_layer()
    )


def _first_row() -> str:
    """Question 1: the first row of causal weights, for two draws."""
    rows = []
    for _ in range(2):
        x = torch.randn(5, 4)
        _, weights = scaled_dot_product_attention(x, x, x, causal_mask(5))
        rows.append(weights[0])
    if not is_near(rows[0], rows[1]):
        return "A"
    return "C" if is_near(rows[0], [1, 0, 0, 0, 0]) else "B"


def _exactly_half() -> str:
    """Question 2: in which share of draws exactly 18 of 36 fall."""
    fallen = (F.dropout(torch.ones(5_000, 36), 0.5) == 0).sum(1)
    share = float((fallen == 18).double().mean())
    choices = {"A": 1.0, "B": 1 / 8, "C": 1 / 2}
    return min(choices, key=lambda letter: abs(choices[letter] - share))


def _who_needs_padding() -> str:
    """Question 3: whose output changes with what stands in the padding."""
    source, target = torch.randn(6, 4), torch.randn(3, 4)
    other = source.clone()
    other[4:] = torch.randn(2, 4)
    real = from_lengths(torch.tensor([4]), 6)[0, 0, 0]
    attentions: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
        "encoder": lambda x: (x, x),
        "decoder": lambda x: (target, target),
        "cross": lambda x: (target, x),
    }
    needs = set()
    for name, attention in attentions.items():
        outputs = []
        for memory in (source, other):
            query, keys = attention(memory)
            output, _ = scaled_dot_product_attention(query, keys, keys)
            outputs.append(output[real] if name == "encoder" else output)
        if not is_near(outputs[0], outputs[1]):
            needs.add(name)
    choices = {
        "A": {"encoder"},
        "B": {"encoder", "cross"},
        "C": {"cross", "decoder"},
    }
    return "".join(c for c, names in choices.items() if names == needs)


def _upside_down() -> str:
    """Question 4: what torch's module makes of our causal mask."""
    module = nn.MultiheadAttention(4, 1, batch_first=True)
    x = torch.randn(1, 4, 4)
    _, weights = module(x, x, x, attn_mask=causal_mask(4))
    seen = tuple((weights[0, 0] > 0).tolist())
    choices = {
        (False, True, True, True): "A",
        (True, False, False, False): "B",
        (True, True, True, True): "C",
    }
    return choices[seen]


def _one_layer() -> str:
    """Question 5: the last output of one layer, without its mask."""
    layer, x = SelfAttention(4, 4), torch.randn(1, 5, 4)
    masked, bare = layer(x, causal_mask(5))[0, -1], layer(x)[0, -1]
    if bare.isnan().any():
        return "A"
    return "C" if is_near(bare, masked) else "B"
