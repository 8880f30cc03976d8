"""Assignment 3, Add & Norm."""

from collections.abc import Callable
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
from minitransformer.homework.hw3.norm import (
    normal,
    tokens,
)
from minitransformer.homework.hw3.tasks import (
    a_chance,
    a_size,
    add_norm,
    hinted,
    parameters,
)
from minitransformer.homework.tasks import LEARNS

WHERE = "Where to put the norm"
Map = Callable[[Tensor], Tensor]

SHADOWED = {  # two things are called dropout
    "'float' object is not callable": "This is the number dropout, not your"
    " function: in __init__ the name stands for the number. Keep it as self.p,"
    " and call dropout in forward.",
    r"(not supported between|for -: '(int|float)' and).*'function'": "In"
    " forward, dropout is your function again; the number is what __init__"
    " kept, as self.p for instance.",
    "local variable 'dropout'": "A name that forward gives to something is its"
    " own from the first line on, and hides your function. Call the result"
    " something else.",
}


def name_of(norm_first: bool) -> str:
    """Name the order of norm and sublayer, as the book does."""
    return "pre-norm" if norm_first else "post-norm"


def constant(vector: Tensor) -> Map:
    """Return a sublayer that gives every token the same vector."""
    return lambda x: vector.expand(x.shape).to(x)


@add_norm.test("it keeps one norm, called norm", 7, WHERE)
def check_norm_kept(answer: Any) -> None:
    """Call a fresh module, and look at what it keeps."""
    for norm_first in (False, True):
        x = tokens()
        D = x.shape[-1]
        module = hinted(SHADOWED, answer, D, 0.0, norm_first)
        given = hinted(SHADOWED, module, x, lambda y: y.tanh())
        numbers(given, x.shape)
        parameters(module, {"norm.weight": (D,), "norm.bias": (D,)})


@add_norm.test(
    "the input goes past the sublayer", 7, "With matrices: the identity"
)
def check_residual(answer: Any) -> None:
    """Give it a sublayer that ignores its input, and two inputs."""
    for norm_first in (False, True):
        x = tokens()
        module = call(answer, x.shape[-1], 0.0, norm_first)
        given = constant(torch.randn(x.shape[-1]))
        one = numbers(call(module, x, given), x.shape)
        if is_near(one, numbers(call(module, x.flip(1), given), x.shape)):
            raise Wrong(
                f"in {name_of(norm_first)} the residual is missing: with a"
                " sublayer that gives the same for every input, the output is"
                " the same for every x. Add x to what the sublayer gives."
            )


def _orders(answer: Any, norm_first: bool) -> None:
    """Compare one order with what it should be, and with what others give."""
    x = tokens()
    D = x.shape[-1]
    # Unless asked for, nothing is dropped, and the norm comes last.
    module = call(answer, D, 0.0, True) if norm_first else call(answer, D)
    g, b, (M, shift) = torch.randn(D), torch.randn(D), torch.randn(2, D, D)
    call(module.load_state_dict, {"norm.weight": g, "norm.bias": b})

    def f(y: Tensor) -> Tensor:
        given: Tensor = (y @ M.to(y) / D**0.5).sin() * 2 + shift[0].to(y)
        return given

    def norm(y: Tensor) -> Tensor:
        return g * normal(y, 1e-5) + b

    found = numbers(call(module, x, f), x.shape)
    x = x.double()
    post, pre = norm(x + f(x)), x + f(norm(x))
    right, other = (pre, post) if norm_first else (post, pre)
    if is_near(found, right, 1e-3):
        return
    asked = (
        f"norm_first is {norm_first}, so {name_of(norm_first)} is asked for"
    )
    sides = (
        "the norm stands on the identity path too: x must be added as it is,"
        " not norm(x)."
    )
    explain(
        found,
        [
            (
                other,
                f"{asked}, and this is {name_of(not norm_first)}: the two have"
                " changed places.",
            ),
            (
                x + norm(f(x)),
                f"{asked}, and here what the sublayer gives is normalised and"
                " then x added."
                + (
                    " The norm belongs before the sublayer."
                    if norm_first
                    else " The norm belongs around the whole sum."
                ),
            ),
            (norm(x) + f(norm(x)), f"{asked}; {sides}"),
            (norm(x) + f(x), f"{asked}; {sides}"),
            (x + f(x), f"{asked}, and the norm is missing."),
            (
                norm(x + f(norm(x))),
                f"{asked}, and the norm is used twice: before the sublayer and"
                " after the sum.",
            ),
            (
                x + norm(f(norm(x))),
                f"{asked}, and the norm is used twice: before the sublayer and"
                " after it.",
            ),
        ],
        f"{asked}, and the numbers are not those of"
        f" {'x + f(norm(x))' if norm_first else 'norm(x + f(x))'}. Is"
        " hw3.LayerNorm correct?",
        1e-3,
    )


@add_norm.test("post-norm normalises the sum", 7, WHERE)
def check_post_norm(answer: Any) -> None:
    """Compare post-norm, without dropout."""
    for _ in range(2):
        _orders(answer, norm_first=False)


@add_norm.test("pre-norm normalises what goes in", 7, WHERE)
def check_pre_norm(answer: Any) -> None:
    """Compare pre-norm, without dropout."""
    for _ in range(2):
        _orders(answer, norm_first=True)


def _with_coins(
    answer: Any, norm_first: bool
) -> tuple[Any, Tensor, Tensor, float]:
    """Make a module that drops, few features, many tokens, what is given."""
    D, p = a_size(5, 6), a_chance(0.25, 0.4)
    module = call(answer, D, p, norm_first)
    x = 2 * torch.randn(4, 50, D)
    given = (1 + torch.rand(D)) * torch.randn(D).sign()
    return module, x, given, p


@add_norm.test("dropout falls on what the sublayer gives", 7, WHERE)
def check_dropout(answer: Any) -> None:
    """Compare each token with all ways in which its coins may fall."""
    for norm_first in (False, True):
        module, x, c, p = _with_coins(answer, norm_first)
        call(module.train)
        found = numbers(call(module, x, constant(c)), x.shape)
        D = len(c)
        coins = torch.tensor(list(product((0.0, 1.0), repeat=D))).double()
        kept, scale = coins[:, None, None], 1 / (1 - p)
        x, c = x.double(), c.double()

        def norm(y: Tensor, after: bool = not norm_first) -> Tensor:
            return normal(y, 1e-5) if after else y

        def fits(*candidates: Tensor, found: Tensor = found) -> bool:
            """Say whether each token is one of the candidates for it."""
            return any(
                bool(((each - found).abs().amax(-1).amin(0) < 2e-3).all())
                for each in candidates
            )

        if fits(norm(x + kept * c * scale)):
            continue
        where = f"in {name_of(norm_first)}, with dropout {p}"
        for candidates, words in (
            (
                [norm(x + c)[None]],
                "nothing that the sublayer gives is dropped.",
            ),
            (
                [norm(x + kept * c), norm(x + kept * c / p)],
                "what is left of the sublayer's output is not divided by"
                " 1 - p. Use your dropout.",
            ),
            (
                [norm(kept * (x + c) * scale), norm(kept * (x + c))],
                "dropout falls on the sum, so x itself is lost in places. Drop"
                " before you add.",
            ),
            (
                [kept * norm(x + c) * scale, kept * norm(x + c)],
                "dropout falls on what the norm gives. Drop before you add.",
            ),
            (
                [norm(kept * x * scale + c)],
                "dropout falls on x. The identity path is never broken: drop"
                " what the sublayer gives.",
            ),
        ):
            if fits(*candidates):
                raise Wrong(f"{where}, {words}")
        raise Wrong(
            f"{where}, the result is none that dropout on the sublayer's"
            " output can give."
        )


@add_norm.test("after training nothing is dropped", 7, WHERE)
def check_eval(answer: Any) -> None:
    """Call ``eval()``, and compare; then train on."""
    for norm_first in (False, True):
        module, x, c, p = _with_coins(answer, norm_first)
        call(module, x, constant(c))
        call(module.eval)
        found = numbers(call(module, x, constant(c)), x.shape)
        right = x.double() + c
        if not is_near(
            found, right if norm_first else normal(right, 1e-5), 1e-3
        ):
            raise Wrong(
                f"in {name_of(norm_first)}, after eval(), with dropout {p},"
                " numbers are still dropped or scaled. Hand on self.training."
            )
        call(module.train)
        again = numbers(call(module, x, constant(c)), x.shape)
        if is_near(again, found):
            raise Wrong(
                "after eval() and then train() nothing is dropped any more."
                " Look at self.training in every call, not once."
            )


@add_norm.test(*LEARNS)
def check_gradient(answer: Any) -> None:
    """Look where the gradient of its output ends, norm last."""
    x = tokens()
    must_learn(call(answer, x.shape[-1]), x, constant(x[0, 0]))
