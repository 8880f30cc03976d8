"""Homework 1: one head as a module."""

import math
from typing import Any

import torch
from torch import Tensor

from minitransformer.attention import scaled_dot_product_attention
from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    must_learn,
    numbers,
)
from minitransformer.homework.hw1.tasks import (
    draw_ids,
    self_attention,
)
from minitransformer.homework.tasks import LEARNS
from minitransformer.masks import causal_mask as triangle


def build(
    answer: Any, d_in: int, d_k: int, d_v: int
) -> tuple[Any, dict[str, Tensor]]:
    """Make a module with matrices that are drawn here."""
    module = call(answer, d_in, d_k, d_v)
    weights = {
        f"w_{role}.weight": torch.randn(width, d_in)
        for role, width in (("q", d_k), ("k", d_k), ("v", d_v))
    }
    call(module.load_state_dict, weights)
    return module, weights


def one_head(
    x: Tensor,
    matrices: dict[str, Tensor],
    mask: Tensor | None = None,
    roles: str = "qkv",
) -> Tensor:
    """Compute one head; ``roles`` says which matrix makes q, k and v.

    ``x`` among the roles stands for no matrix at all.
    """
    q, k, v = (
        x if role == "x" else x @ matrices[f"w_{role}.weight"].T
        for role in roles
    )
    return scaled_dot_product_attention(q, k, v, mask)[0]


@self_attention.test(
    "the output is as wide as a value", 3, "With matrices: the whole sentence"
)
def check_head_shape(answer: Any) -> None:
    """Three widths that differ."""
    for d_in, d_k, d_v in ((6, 4, 5), (3, 7, 2)):
        module = call(answer, d_in, d_k, d_v)
        found = call(module, torch.randn(2, 3, d_in))
        if isinstance(found, tuple | list):
            raise Wrong(
                "forward returns the output alone; leave the weights out."
            )
        shape, wanted = tuple(numbers(found).shape), (2, 3, d_v)
        widths: dict[tuple[int, ...], str] = {
            (2, 3, d_in): "as wide as the input: project the values, too.",
            (2, 3, d_k): "as wide as a key: the values need w_v's width, d_v.",
            (2, 3, 3): "that of the weights: mix the values with them.",
        }
        if shape != wanted:
            what = widths.get(shape, f"and should be {wanted}.")
            raise Wrong(f"the output's shape is {shape}, {what}")


@self_attention.test(
    "three projections without bias", 3, "In the library: matrices that learn"
)
def check_head_names(answer: Any) -> None:
    """What a saved module holds."""
    d_in, d_k, d_v = 6, 4, 5
    module = call(answer, d_in, d_k, d_v)
    try:
        state = call(module.state_dict)
    except AttributeError:
        raise Wrong("derive the class from nn.Module.") from None
    wanted = {
        "w_q.weight": (d_k, d_in),
        "w_k.weight": (d_k, d_in),
        "w_v.weight": (d_v, d_in),
    }
    found = {name: tuple(value.shape) for name, value in state.items()}
    if any(name.endswith("bias") for name in found):
        raise Wrong("the projections have a bias: pass bias=False.")
    if found.keys() != wanted.keys():
        raise Wrong(
            f"it has {', '.join(sorted(found)) or 'no matrices'}, and should"
            f" have {', '.join(wanted)}: three nn.Linear, set in __init__."
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise Wrong(
                f"{name} has shape {found[name]}, and should have {shape}:"
                " queries and keys are d_k wide, values d_v."
            )


@self_attention.test(
    "each projection has its role", 3, "What does each projection buy?"
)
def check_head_roles(answer: Any) -> None:
    """Matrices are loaded, first of equal widths, so that mix-ups run."""
    for widths in ((6, 6, 6), (7, 4, 5), (5, 3, 9)):
        module, matrices = build(answer, *widths)
        x = torch.randn(2, 5, widths[0]) / 2
        found = numbers(call(module, x), (2, 5, widths[2]))
        if is_near(found, one_head(x, matrices), 1e-3):
            continue
        explain(
            found,
            head_mistakes(x, matrices),
            f"with d_in, d_k, d_v = {widths} the output differs from attention"
            " over w_q(x), w_k(x) and w_v(x).",
            1e-3,
        )


def head_mistakes(
    x: Tensor, matrices: dict[str, Tensor]
) -> list[tuple[Tensor, str]]:
    """Return wrong outputs of one head, and what to say of them."""
    (d_k, d_in), d_v = (
        matrices["w_q.weight"].shape,
        len(matrices["w_v.weight"]),
    )
    q, k, v = (x @ matrices[f"w_{role}.weight"].T for role in "qkv")
    dots = q @ k.mT
    right = math.sqrt(d_k)
    mistakes = [
        (
            (dots / divisor).softmax(dim) @ v,
            words,
        )
        for divisor, dim, words in (
            (
                math.sqrt(d_in),
                -1,
                "the divisor is the root of the input's width, and should be"
                " that of the keys, d_k.",
            ),
            (
                math.sqrt(d_v),
                -1,
                "the divisor is the root of the values' width, and should be"
                " that of the keys, d_k.",
            ),
            (1.0, -1, "the divisor is missing."),
            (d_k, -1, "the divisor is d_k itself, and should be its root."),
            (right, -2, "the softmax runs over the queries."),
            (right, 0, "the softmax runs over the sentences of the batch."),
        )
    ]
    if d_in == d_k == d_v:
        turned = {name: matrix.T for name, matrix in matrices.items()}
        mistakes += [
            (one_head(x, matrices, roles=roles), words)
            for roles, words in (
                ("qkx", "the values are x itself: project them with w_v."),
                ("qkk", "the keys are used as values: those need w_v."),
                ("xkv", "the queries are x itself: project them with w_q."),
                ("qxv", "the keys are x itself: project them with w_k."),
                ("xxv", "queries and keys are x itself: project them."),
                ("xxx", "nothing is projected: x is used in all three roles."),
                ("kqv", "w_q and w_k are exchanged."),
                ("qqv", "w_q makes the keys; they have w_k."),
                ("kkv", "w_k makes the queries; they have w_q."),
            )
        ]
        mistakes.append(
            (
                one_head(x, turned),
                "the matrices are transposed. nn.Linear stores them so that"
                " x @ weight.T is wanted; calling w_q(x) does it.",
            )
        )
    return mistakes


@self_attention.test("it obeys a mask", 4, "A module, a buffer, a flag")
def check_head_mask(answer: Any) -> None:
    """A causal mask, one for padding, both, and one with an empty row."""
    B, T = 2, 5
    keys = draw_ids(B, T, 0)[:, None] != 0
    lonely = triangle(T)
    lonely[2] = False
    for mask in (triangle(T), keys, keys & triangle(T), lonely):
        module, matrices = build(answer, 6, 4, 3)
        x = torch.randn(B, T, 6) / 2
        found = numbers(call(module, x, mask), (B, T, 3))
        if is_near(found, one_head(x, matrices, mask), 1e-3):
            continue
        if mask is lonely and found.isnan().any():
            raise Wrong(
                "a token that may attend to nothing gives nan, and should"
                " give zeros, as your attention does."
            )
        explain(
            found,
            [
                (
                    one_head(x, matrices),
                    "the mask has no effect: hand it on to your attention.",
                ),
                (
                    one_head(x, matrices, ~mask),
                    "the mask is turned round: True means may attend.",
                ),
                (
                    one_head(x, matrices, mask & triangle(T)),
                    "the future is hidden, too: only the mask that is given"
                    " counts.",
                ),
            ],
            f"with a mask of {tuple(mask.shape)} the output is wrong.",
            1e-3,
        )


@self_attention.test(*LEARNS)
def check_head_gradient(answer: Any) -> None:
    """Look where the gradient of its output ends."""
    must_learn(call(answer, 6, 4, 5), torch.randn(2, 3, 6))
