"""Checks for chapter 5: multi-head attention."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.attention import (
    MultiHeadAttention,
    scaled_dot_product_attention,
)
from minitransformer.counting import count_parameters
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
    refuse_stub,
)
from minitransformer.masks import causal_mask

DRAWING = {
    "X": (2, 4),
    "W_Q": (3, 4),
    "Q": (2, 3),
    "heads": (2, 24),
    "W_O": (24, 4),
    "Z": (2, 4),
}


@exercise("5.1")
def check_5_1(answer: Any) -> None:
    """Check which shape of a drawing is wrong, and the right one.

    Args:
        answer: A name of the drawing, and two sizes.
    """
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise Wrong("a name and a shape are wanted, such as ('X', (2, 4)).")
    name, shape = answer
    if not isinstance(name, str) or name not in DRAWING:
        raise Wrong(
            f"there is no {name!r} in the drawing: choose one of"
            f" {', '.join(DRAWING)}."
        )
    refuse_stub(shape)
    found = numbers(shape, (2,)).tolist()
    if not all(size.is_integer() and size > 0 for size in found):
        raise Wrong("the sizes of a shape are whole numbers above zero.")
    sizes = tuple(int(size) for size in found)
    if sizes == DRAWING[name]:
        raise Wrong("that is what the drawing says already.")
    shapes = DRAWING | {name: sizes}
    for left, right, product in (("X", "W_Q", "Q"), ("heads", "W_O", "Z")):
        (n, inner), (rows, p) = shapes[left], shapes[right]
        if inner != rows:
            raise Wrong(
                f"with that, {left} has {inner} columns and {right} has"
                f" {rows} rows, so {left} @ {right} can't be computed."
            )
        if (n, p) != shapes[product]:
            raise Wrong(
                f"with that, {left} @ {right} has shape {(n, p)}, and the"
                f" drawing has {shapes[product]} for {product}."
            )
    if shapes["heads"] != (shapes["Q"][0], 8 * shapes["Q"][1]):
        raise Wrong("eight heads side by side are eight times as wide as one.")


@exercise("5.2")
def check_5_2(answer: Any) -> None:
    """Check a count of parameters, for heads of any width.

    Args:
        answer: Takes ``d_model, num_heads, d_k, bias``; returns the count.
    """
    for sizes in ((12, 3, 4), (10, 2, 5), (4, 8, 3), (7, 2, 5)):
        for bias in (False, True):
            judge_count(answer, *sizes, bias)


def judge_count(
    answer: Any, d_model: int, num_heads: int, d_k: int, bias: bool
) -> None:
    """Hold one count against layers that are really built."""
    found = numbers(call(answer, d_model, num_heads, d_k, bias), ())
    inner = num_heads * d_k
    sides = [(d_model, inner)] * 3 + [(inner, d_model)]
    layers = nn.ModuleList(nn.Linear(*side, bias) for side in sides)
    right = count_parameters(layers)
    if found == right:
        return
    weights, biases = 4 * d_model * inner, 3 * inner + d_model
    sizes = f"({d_model}, {num_heads}, {d_k}, {bias})"
    explain(
        found,
        [
            (
                3 * d_model * inner + bias * 3 * inner,
                f"for {sizes} W_O is missing: the heads must get back to the"
                " width of the model.",
            ),
            (
                3 * d_model * inner + d_model**2 + bias * biases,
                f"for {sizes} look at W_O: it leads from all heads side by"
                " side, and these need not be as wide as the model.",
            ),
            (
                weights if bias else weights + biases,
                f"for {sizes} look at the biases: they count if, and only if,"
                " bias is true.",
            ),
            (
                weights + bias * 4 * inner,
                f"for {sizes} a bias is as long as its layer's output, and"
                " W_O's output is not as wide as the heads together.",
            ),
            (
                weights + bias * 4 * d_model,
                f"for {sizes} a bias is as long as its layer's output, and"
                " only W_O's is as wide as the model.",
            ),
            (
                weights + bias * 3 * inner,
                f"for {sizes} the bias of W_O is missing.",
            ),
            (
                4 * d_model**2 + bias * 4 * d_model,
                f"for {sizes} num_heads * d_k need not be d_model: what are"
                " the two sides of each matrix?",
            ),
            (
                num_heads * (weights + bias * biases),
                f"for {sizes} the heads are counted twice: num_heads * d_k is"
                " the width of all of them together.",
            ),
            (
                4 * d_model * d_k + bias * (3 * d_k + d_model),
                f"for {sizes} that is one head; there are {num_heads}.",
            ),
        ],
        f"for {sizes} it gives {found.item():g}, and layers of these sizes"
        f" hold {right}.",
    )


@exercise("5.3")
def check_5_3(answer: Any) -> None:
    """Check a function that puts heads side by side again.

    Args:
        answer: Takes ``(B, H, T, d_k)``; returns ``(B, T, H·d_k)``.
    """
    B, H, T, d_k = 2, 3, 5, 7
    heads = torch.randn(B, H, T, d_k)
    found = numbers(call(answer, heads))
    right = torch.cat(heads.unbind(1), dim=-1)
    if is_near(found, right):
        return
    turned = heads.permute(0, 1, 3, 2)
    explain(
        found,
        [
            (
                heads.reshape(B, T, H * d_k),
                "the shape is right and the numbers are not: a reshape alone"
                " reads on inside one head. Which two dimensions must change"
                " places first?",
            ),
            (
                heads.permute(0, 2, 3, 1).flatten(-2),
                "the heads are shuffled into one another, number by number:"
                " each head's numbers must stay together.",
            ),
            (
                turned.flatten(1, 2),
                "the tokens stand last: (B, T, D) is wanted.",
            ),
            (
                heads.transpose(1, 2),
                "the tokens are in the right place; now make one dimension of"
                " the last two.",
            ),
            (
                heads.sum(1),
                "that adds the heads up; they are to stand side by side.",
            ),
            (
                heads.mean(1),
                "that averages the heads; they are to stand side by side.",
            ),
        ],
        f"the shape is {tuple(found.shape)}; heads side by side have"
        f" {(B, T, H * d_k)}."
        if found.shape != right.shape
        else "the shape is right, and the numbers stand in other places. Row"
        " t must hold row t of head 1, then of head 2, and so on.",
    )


@exercise("5.4")
def check_5_4(answer: Any) -> None:
    """Check a repaired class, in float32 and in float16.

    Args:
        answer: The class, made with ``d_model, num_heads``.
    """
    T, d_model, num_heads = 5, 12, 3
    if isinstance(answer, nn.Module):
        raise Wrong("hand over the class itself, not an instance of it.")
    try:
        module = call(answer, d_model, num_heads)
    except Wrong as wrong:
        if isinstance(wrong.__cause__, NameError):
            raise Wrong(
                f"{wrong.__cause__}. A class must call itself by its own"
                " name, or say super() without any."
            ) from None
        raise
    if not isinstance(module, nn.Module):
        raise Wrong("the class must remain a torch nn.Module.")
    right = MultiHeadAttention(d_model, num_heads)
    try:
        right.load_state_dict(module.state_dict())
    except RuntimeError:
        raise Wrong(
            "keep the four layers w_q, w_k, w_v, w_o of width d_model, with"
            " their biases."
        ) from None
    # Large numbers: a fill that is not low enough must show.
    x, mask = 5 * torch.randn(2, T, d_model), causal_mask(T)
    found = numbers(call(module, x, mask))
    if not is_near(found, right(x, x, x, mask)):
        turned = right(x, x, x, ~mask)[:, :-1]  # the last row is left no key
        if is_near(found[:, :-1], turned):
            raise Wrong("the mask is turned round: True means may attend.")
        explain(
            found,
            [
                (
                    right(x, x, x),
                    "the mask has no effect: fill the scores where it says"
                    " False, before the softmax.",
                ),
                (
                    zero_filled(right, x, mask),
                    "a score of 0 is not hidden, since e^0 = 1. Which score"
                    " has a weight of 0?",
                ),
            ],
            "it runs, and gives other numbers than MultiHeadAttention with"
            " the same weights. Change nothing but the three bugs.",
        )
    x = x / 5
    try:
        found = numbers(call(module.half(), x.half(), mask))
    except Wrong as wrong:
        if "overflow" in str(wrong):
            raise Wrong(
                "in float16 the fill does not fit: its largest number is"
                " 65,504. Which fill fits every type?"
            ) from None
        raise
    if not is_near(found, right(x, x, x, mask), 0.02):
        raise Wrong(
            "in float32 it is right; in float16 it is not. Is a fill, or a"
            " dtype, written out somewhere?"
        )


def zero_filled(module: MultiHeadAttention, x: Tensor, mask: Tensor) -> Tensor:
    """Attend with hidden scores at 0, which does not hide them."""
    k, v = module.keys_values(x, x)
    q = module.split_heads(module.w_q(x))
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    heads = scores.masked_fill(~mask, 0.0).softmax(-1) @ v
    output: Tensor = module.w_o(heads.transpose(1, 2).flatten(-2))
    return output


Split = Callable[[Tensor], Tensor]


def multi_head(
    x: Tensor,
    matrices: tuple[Tensor, Tensor, Tensor, Tensor],
    split: Split,
    merge: Split,
    divisor: float,
    axis: int = -1,
) -> Tensor:
    """Compute multi-head attention, with places to go wrong in."""
    w_q, w_k, w_v, w_o = matrices
    q, k, v = (split(x @ w) for w in (w_q, w_k, w_v))
    return merge((q @ k.mT / divisor).softmax(axis) @ v) @ w_o


@exercise("5.5")
def check_5_5(answer: Any) -> None:
    """Check multi-head attention from memory.

    Args:
        answer: Takes ``x, w_q, w_k, w_v, w_o, num_heads``; returns
            ``(B, T, D)``.
    """
    B, T, H, d_k = 2, 5, 3, 4
    D = H * d_k
    x = torch.randn(B, T, D)
    w_q, w_k, w_v, w_o = torch.randn(4, D, D).unbind()
    matrices = (w_q, w_k, w_v, w_o)
    found = numbers(call(answer, x, *matrices, H))

    def split(y: Tensor) -> Tensor:
        return torch.unflatten(y, -1, (H, d_k)).transpose(1, 2)

    def merge(y: Tensor) -> Tensor:
        return y.transpose(1, 2).flatten(-2)

    def cut(y: Tensor) -> Tensor:
        return y.reshape(B, H, T, d_k)

    def join(y: Tensor) -> Tensor:
        return y.reshape(B, T, D)

    def same(y: Tensor) -> Tensor:
        return y

    def unturned(y: Tensor) -> Tensor:
        return torch.unflatten(y, -1, (H, d_k))

    def crossed(y: Tensor) -> Tensor:
        return torch.unflatten(y, -1, (d_k, H)).transpose(1, 2)

    root = math.sqrt(d_k)
    right = multi_head(x, matrices, split, merge, root)
    if is_near(found, right, 1e-3):
        return
    bare = (w_q, w_k, w_v, torch.eye(D))
    wide = multi_head(x, matrices, split, merge, math.sqrt(D))
    turned = (w_q.T, w_k.T, w_v.T, w_o.T)
    explain(
        found,
        [
            (wide, "the divisor is the root of one head's width, not of D."),
            (
                multi_head(x, matrices, split, merge, 1.0),
                "the divisor is missing.",
            ),
            (
                multi_head(x, matrices, split, merge, d_k),
                "the divisor is d_k itself, and should be its root.",
            ),
            (
                multi_head(x, bare, split, merge, root),
                "W_O is missing: nothing mixes the heads.",
            ),
            (
                multi_head(x, matrices, cut, join, root),
                "the split is a reshape alone: a head then holds pieces of"
                " few tokens. Cut the width, then exchange two dimensions.",
            ),
            (
                multi_head(x, matrices, split, join, root),
                "the heads are split rightly and put together wrongly:"
                " exchange the two dimensions again before you flatten.",
            ),
            (
                multi_head(x, matrices, unturned, join, root),
                "the heads were not brought to the front: attention runs"
                " between the heads of one token, and no token sees another.",
            ),
            (
                multi_head(x, matrices, crossed, merge, math.sqrt(H)),
                "the width is cut into d_k heads of width H: the number of"
                " heads comes first, then the width of one.",
            ),
            (
                multi_head(x, turned, split, merge, root),
                "the matrices are transposed; they multiply from the right"
                " as they are.",
            ),
            (
                multi_head(x, (*turned[:3], w_o), split, merge, root),
                "W_Q, W_K and W_V are transposed; they multiply from the"
                " right as they are.",
            ),
            (
                multi_head(x, (*matrices[:3], w_o.T), split, merge, root),
                "W_O is transposed; it multiplies from the right as it is.",
            ),
            (
                multi_head(x, matrices, same, same, math.sqrt(D)),
                "that is one head of full width: the split is missing.",
            ),
            (
                multi_head(x, matrices, split, merge, root, axis=-2),
                "the softmax runs over the queries; rows must add up to one.",
            ),
            (
                multi_head(x, matrices, split, merge, root, axis=1),
                "the softmax runs over the heads; it belongs to the keys.",
            ),
        ],
        f"the shape is {tuple(found.shape)}, and should be {(B, T, D)}."
        if found.shape != right.shape
        else "the numbers differ. Write the shape beside each line, and"
        " compare with the table of shapes.",
        1e-3,
    )


@quiz(5)
def key() -> str:
    """Compute the five right letters."""
    counts = [count_parameters(MultiHeadAttention(32, h)) for h in (8, 16)]
    first = {0.5: "A", 1.0: "B", 2.0: "C"}[counts[1] / counts[0]]
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 7, 8)
    _, weights = scaled_dot_product_attention(q, k, k)
    shapes = {(2, 5, 7): "A", (2, 4, 5, 7): "B", (2, 4, 5, 8): "C"}
    second = shapes[tuple(weights.shape)]
    q, k = torch.randn(2, 100, 8, dtype=torch.float64)
    third = {8: "A", 64: "B", 100: "C"}[
        int(torch.linalg.matrix_rank(q @ k.mT))
    ]
    maps = []
    for h in (4, 8):
        heads = torch.randn(1, h, 10, 32 // h)
        maps.append(scaled_dot_product_attention(heads, heads, heads)[1])
    ratio = maps[1].numel() / maps[0].numel()
    fourth = {1.0: "A", 2.0: "B", 4.0: "C"}[ratio]
    return first + second + third + fourth + silent_head()


def silent_head() -> str:
    """Silence a head by zeros in ``W_O``, and see what has changed."""
    module, x = MultiHeadAttention(12, 3), torch.randn(1, 5, 12)
    k, v = module.keys_values(x, x)
    q = module.split_heads(module.w_q(x))
    heads, _ = scaled_dot_product_attention(q, k, v)
    heads[:, 2] = 0
    without = module.w_o(heads.transpose(1, 2).flatten(-2))
    with torch.no_grad():
        module.w_o.weight[:, 8:] = 0
    return "C" if is_near(module(x, x, x), without) else "A"
