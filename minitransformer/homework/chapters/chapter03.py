"""The checks of chapter 3, "Self-attention"."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.attention import (
    SelfAttention,
    scaled_dot_product_attention,
)
from minitransformer.counting import count_parameters, matmul_flops
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
)
from minitransformer.masks import causal_mask

PUPILS = 4  # names, and things, of the small classroom
TOKENS = 7  # of the sequences that are permuted


@exercise("3.1")
def check_count(answer: Any) -> None:
    """Compare with what the package's layer has, for several widths."""
    for d_in, d_k, d_v in ((7, 5, 3), (11, 4, 9)):
        for bias in (False, True):
            found = numbers(call(answer, d_in, d_k, d_v, bias), ())
            right = count_parameters(SelfAttention(d_in, d_k, d_v, bias))
            if not is_near(found, right):
                _explain_count(found, d_in, d_k, d_v, bias)


def _explain_count(
    found: Tensor, d_in: int, d_k: int, d_v: int, bias: bool
) -> None:
    """Raise `Wrong` with what was counted too much or too little."""
    columns = 2 * d_k + d_v
    matrices, biases = d_in * columns, columns * bias
    idle = d_k * bias
    explain(
        found,
        [
            (
                matrices,
                "with a bias each projection has a number more for each"
                " column, and these are missing.",
            ),
            (
                matrices + columns,
                "with bias=False there is no bias to count.",
            ),
            (
                3 * d_in * d_k + 3 * idle,
                "the values have a width of their own, d_v.",
            ),
            (
                3 * d_in * d_v + 3 * d_v * bias,
                "queries and keys are d_k wide, not d_v.",
            ),
            (
                matrices + 3 * d_in * bias,
                "a bias is added to what comes out of a projection: it is as"
                " wide as the output, not as the input.",
            ),
            (
                matrices + 3 * bias,
                "a bias is a vector, with a number for each column, and not"
                " one number.",
            ),
            (
                d_in * (d_k + d_v) + (d_k + d_v) * bias,
                "queries and keys have a matrix each; one of them is missing.",
            ),
            (
                3 * d_in**2 + 3 * d_in * bias,
                "the matrices are square only if d_in, d_k and d_v are equal.",
            ),
            (
                matrices + biases - idle,
                "the bias of the keys has no effect, but it is there, and"
                " counts.",
            ),
        ],
        f"for d_in={d_in}, d_k={d_k}, d_v={d_v}, bias={bias} this gives"
        f" {found:g}. Write down the shape of each matrix first.",
    )


@exercise("3.2")
def check_cross_attention(answer: Any) -> None:
    """Try equal lengths, where every mix-up runs, then different ones."""
    for T, S, d_k in ((4, 4, 4), (3, 5, 4), (3, 5, 7)):
        x, memory = torch.randn(2, T, 6), torch.randn(2, S, 6)
        w_q, w_k = torch.randn(2, 6, d_k)
        w_v = torch.randn(6, 3)
        found = call(answer, x, memory, w_q, w_k, w_v)
        found = numbers(found[0] if isinstance(found, tuple) else found)
        right, _ = scaled_dot_product_attention(
            x @ w_q, memory @ w_k, memory @ w_v
        )
        if not is_near(found, right):
            _explain_cross(found, x, memory, w_q, w_k, w_v)


def _explain_cross(
    found: Tensor,
    x: Tensor,
    memory: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
) -> None:
    """Raise `Wrong` with what was taken from the wrong side, or forgotten."""

    def attend(asks: Tensor, found_by: Tensor, hands_over: Tensor) -> Tensor:
        return scaled_dot_product_attention(
            asks @ w_q, found_by @ w_k, hands_over @ w_v
        )[0]

    mistakes = [
        (
            attend(memory, x, x),
            "the memory asks and the target answers. The side that needs an"
            " output for each of its tokens must ask.",
        ),
        (
            attend(x, x, x),
            "this is self-attention of the target: the memory is not used.",
        ),
        (
            attend(memory, memory, memory),
            "this is self-attention of the memory: x is not used.",
        ),
    ]
    if x.shape == memory.shape:
        mistakes += [
            (
                attend(x, memory, x),
                "the values come from x. What is handed over belongs to the"
                " side that is found.",
            ),
            (
                attend(x, x, memory),
                "the keys come from x, the values from the memory. A key and"
                " its value belong to the same token.",
            ),
            (
                attend(memory, x, memory),
                "the queries come from the memory, the keys from x. The side"
                " that needs an output for each of its tokens must ask.",
            ),
            (
                attend(memory, memory, x),
                "queries and keys come from the memory, and only the values"
                " from x. A key and its value belong to the same token, and x"
                " must ask.",
            ),
        ]
    dots = (x @ w_q) @ (memory @ w_k).mT
    v = memory @ w_v
    mistakes += [
        (dots.softmax(-1) @ v, "the scores are not divided by the root."),
        (
            (dots / x.shape[-1] ** 0.5).softmax(-1) @ v,
            "divide by the root of the keys' width, not of the tokens'.",
        ),
        (
            (dots / w_k.shape[-1]).softmax(-1) @ v,
            "divide by the root of the keys' width, not by the width.",
        ),
        (
            (dots / w_k.shape[-1] ** 0.5).softmax(-2) @ v,
            "the softmax runs over the queries. Each query's weights, over"
            " the keys, must add up to one.",
        ),
        (dots / w_k.shape[-1] ** 0.5 @ v, "the softmax is missing."),
        (
            scaled_dot_product_attention(x @ w_k, memory @ w_q, v)[0],
            "w_q and w_k have changed places: w_q makes the queries.",
        ),
        (
            (dots / 2).softmax(-1) @ v,  # the root of 4, the width before
            "the divisor is a fixed number. It must go with the keys' width:"
            " read that from a shape.",
        ),
    ]
    right = (*x.shape[:2], w_v.shape[-1])
    shapes = (
        f"for x of {tuple(x.shape)}, a memory of {tuple(memory.shape)} and"
        f" values of width {w_v.shape[-1]} the output"
    )
    if tuple(found.shape) == right:
        otherwise = (
            f"{shapes} has the right shape, but the numbers are not right."
            " Which of x and memory does each of the three matrices get?"
        )
    else:
        otherwise = (
            f"{shapes} has shape {tuple(found.shape)}; it should have"
            f" {right}, with a sum of values for each target token."
        )
    explain(found, mistakes, otherwise)


@exercise("3.3")
def check_sees_order(answer: Any) -> None:
    """Show layers that see order and layers that don't; each is a trap."""
    short = torch.randn(2, TOKENS, 6)
    attention, wide = SelfAttention(6, 6), SelfAttention(16, 16)
    positions = torch.randn(TOKENS, 6)

    def says(layer: Callable[[Tensor], Tensor], x: Tensor = short) -> bool:
        with torch.no_grad():
            found = call(answer, layer, x)
        if isinstance(found, Tensor) and found.numel() == 1:
            found = found.item()
        if not isinstance(found, bool) and type(found).__name__ != "bool_":
            raise Wrong(
                f"return True or False; this is {type(found).__name__}."
            )
        return bool(found)

    def double(x: Tensor) -> Tensor:
        return 2 * x

    def scaled(x: Tensor) -> Tensor:
        return x * 2.0 ** torch.arange(6)  # exact, and not two columns alike

    def causal(x: Tensor) -> Tensor:
        found: Tensor = attention(x, causal_mask(x.shape[1]))
        return found

    def numbered(x: Tensor) -> Tensor:
        found: Tensor = attention(x + positions)
        return found

    def symmetric(x: Tensor) -> Tensor:
        return x.roll(1, dims=1) + x.roll(-1, dims=1)

    def shifted(x: Tensor) -> Tensor:
        return x.roll(1, dims=1)

    def special(position: int) -> Callable[[Tensor], Tensor]:
        factor = torch.ones(TOKENS, 1)
        factor[position] = 3.0
        return lambda x: x * factor

    def large(x: Tensor) -> Tensor:
        found: Tensor = 1e4 * wide(x)
        return found

    def small(x: Tensor) -> Tensor:
        return 1e-4 * numbered(x)

    if says(double):
        raise Wrong(
            "a layer that doubles each token does not see order, and your"
            " test says it does. Are the outputs you compare with permuted"
            " too?"
        )
    if says(scaled):
        raise Wrong(
            "a layer that works on each token alone does not see order, and"
            " your test says it does. You permute the numbers within a token;"
            " the tokens stand along dimension 1."
        )
    if not (says(causal) or says(numbered)):
        raise Wrong(
            "a causal layer sees order, and your test does not notice. Is it"
            " the dimension of the tokens that you permute?"
        )
    # Many numbers, some near zero, where a relative tolerance finds rounding.
    draws = torch.randn(3, 8, 12, 16)
    if any(says(layer, x) for x in draws for layer in (wide, large)):
        raise Wrong(
            "your test takes rounding for order: another order of summing"
            " changes the last digits. Compare with a tolerance, and let it"
            " go with the size of the outputs."
        )
    if not says(small):
        raise Wrong(
            "a layer whose outputs are tiny passes for blind: your tolerance"
            " must go with the size of the outputs."
        )
    for layer, words in (
        (symmetric, "adds up the two neighbours of each token"),
        (causal, "has a causal mask"),
        (special(TOKENS - 1), "treats only the last token differently"),
        (numbered, "adds something different at each position"),
    ):
        if not says(layer):
            raise Wrong(
                f"a layer that {words} sees order, and your test does not"
                " notice. One permutation is not enough: draw some at random."
            )
    if not says(shifted):
        raise Wrong(
            "a layer that hands each token's output to the next position sees"
            " order, and your test does not notice. Compare position by"
            " position, and not only what occurs somewhere; and a rotation"
            " alone is not enough."
        )
    for trial in range(6 * TOKENS):  # too many to be lucky with all
        if not says(special(trial % TOKENS)):
            raise Wrong(
                "a layer that treats only one position differently sees order,"
                " and your test does not always notice: some permutations"
                " leave that position alone. Try more of them."
            )


@exercise("3.4")
def check_classroom(answer: Any) -> None:
    """Play rooms with the learner's matrices, and see who looks at whom."""
    matrices = call(answer) if callable(answer) else answer
    if not isinstance(matrices, tuple | list) or len(matrices) != 3:
        raise Wrong("return the three matrices: W_Q, W_K, W_V.")
    w_q, w_k, w_v = (numbers(matrix) for matrix in matrices)
    rows = 3 * PUPILS
    for name, matrix in (("W_Q", w_q), ("W_K", w_k), ("W_V", w_v)):
        if matrix.ndim != 2 or len(matrix) != rows:
            raise Wrong(
                f"{name} has shape {tuple(matrix.shape)}: it needs {rows}"
                " rows, one for each number of a token."
            )
    if w_q.shape[1] != w_k.shape[1]:
        raise Wrong(
            f"queries are {w_q.shape[1]} wide and keys {w_k.shape[1]}: they"
            " must be equally wide to be multiplied."
        )
    if w_v.shape[1] != PUPILS:
        raise Wrong(
            f"the output would have {w_v.shape[1]} numbers, and should have"
            f" {PUPILS}, one for each thing."
        )
    who, asked, held = _rooms(500)
    one = torch.eye(PUPILS, dtype=torch.double)
    x = torch.cat([one[who], one[who.gather(1, asked)], one[held]], dim=-1)
    output, weights = scaled_dot_product_attention(x @ w_q, x @ w_k, x @ w_v)
    right = one[held.gather(1, asked)]
    reached = (output * right).sum(-1)
    if (output - right).abs().max() > 0.05:
        _explain_classroom(weights, output, asked, held, reached)


def _rooms(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw who stands where, the place of the one asked for, the things."""
    who = torch.rand(count, PUPILS).argsort(dim=-1)
    step = torch.randint(1, PUPILS, (count, PUPILS))
    asked = (torch.arange(PUPILS) + step) % PUPILS
    return who, asked, torch.randint(PUPILS, (count, PUPILS))


def _explain_classroom(
    weights: Tensor,
    output: Tensor,
    asked: Tensor,
    held: Tensor,
    reached: Tensor,
) -> None:
    """Raise `Wrong` with where the pupils look, and what they get."""
    on_asked = weights.gather(-1, asked[..., None])[..., 0].mean()
    on_self = weights.diagonal(dim1=-2, dim2=-1).mean()
    askers = torch.nn.functional.one_hot(asked, PUPILS).mT > 0
    on_askers = (weights * askers).sum(-1)[askers.any(-1)].mean()
    if weights.std() < 1e-6:
        raise Wrong(
            "every pupil looks at all others equally: the scores don't depend"
            " on whom a pupil asks for. Which rows of W_Q, and of W_K, must"
            " not be zero?"
        )
    if on_asked > 0.9:
        favourite = output.argmax(dim=-1)
        got = (favourite == held.gather(1, asked)).double().mean()
        if got > 0.9:
            ones = torch.nn.functional.one_hot(held.gather(1, asked), PUPILS)
            stray = (output - ones * output).abs().max()
            raise Wrong(
                "the right thing, but not clearly enough, or too strongly:"
                f" the number that should be 1 is {reached.min():.3f} to"
                f" {reached.max():.3f}, another one up to {stray:.3f}. Each"
                " must be right to 0.05."
            )
        raise Wrong(
            "each pupil looks at the right one, and gets the wrong answer:"
            " W_V must read what that one holds."
        )
    if on_self > 0.9:
        raise Wrong(
            "each pupil looks at itself. W_Q and W_K read the same piece of"
            " the token, and a pupil's own piece always fits."
        )
    if on_askers > 0.9:
        raise Wrong(
            "each pupil looks at those who ask for it. Queries and keys have"
            " changed places."
        )
    if (weights.gather(-1, asked[..., None])[..., 0] > 0.25).all():
        raise Wrong(
            "the pupil asked for gets the largest weight, but only"
            f" {on_asked:.2f} on average. The scores are too close together."
        )
    raise Wrong(
        f"the pupil asked for gets a weight of {on_asked:.2f} on average."
        " W_Q must read whom I ask for, and W_K must put who I am into the"
        " same columns."
    )


@quiz(3)
def key() -> str:
    """Compute the five letters: build what is asked about, and look."""
    _, weights = scaled_dot_product_attention(
        torch.randn(3, 8), torch.randn(5, 8), torch.randn(5, 8)
    )
    T, S = weights.shape
    first = {(3, 3): "A", (5, 3): "B", (3, 5): "C"}[T, S]
    return first + _idle_bias() + _growth() + _shared_matrix() + _backwards()


def _idle_bias() -> str:
    """Question 2: which bias may be changed without any effect."""
    layer = SelfAttention(6, 4, bias=True).double()
    x = torch.randn(1, 5, 6, dtype=torch.double)
    before = layer(x)
    idle = ""
    for letter, name in zip("ABC", ("w_q", "w_k", "w_v"), strict=True):
        bias = layer.get_submodule(name).get_parameter("bias")
        with torch.no_grad():
            bias.add_(1.0)
            if is_near(layer(x), before, 1e-9):
                idle += letter
            bias.sub_(1.0)
    return idle


def _growth() -> str:
    """Question 3: what twice the length costs at width 64."""
    layer = nn.Sequential(SelfAttention(64, 64), nn.Linear(64, 64))
    short, long = (
        matmul_flops(layer, torch.zeros(1, n, 64)) for n in (32, 64)
    )
    factor = long / short
    choices = {"A": 2 < factor < 3, "B": factor == 4, "C": 3 < factor < 4}
    return "".join(letter for letter, right in choices.items() if right)


def _shared_matrix() -> str:
    """Question 4: what holds in every draw with one matrix for both."""
    keys = torch.randn(100, 8, 3, dtype=torch.double)
    scores = keys @ keys.mT
    weights = scores.softmax(dim=-1)
    itself = weights.argmax(dim=-1) == torch.arange(8)
    choices = {
        "A": bool(itself.all()),
        "B": is_near(scores, scores.mT),
        "C": is_near(weights, weights.mT),
    }
    return "".join(letter for letter, right in choices.items() if right)


def _backwards() -> str:
    """Question 5: where the first word's output is, read backwards."""
    layer, x = SelfAttention(6, 4), torch.randn(1, 5, 6)
    first, turned = layer(x)[0, 0], layer(x.flip(1))[0]
    if is_near(turned[-1], first):
        return "B"
    return "C" if is_near(turned[0], first) else "A"
