"""The checks of chapter 3 know right answers from wrong ones, and why."""

import math

import pytest
import torch
import torch.nn.functional as F
from judging import fails, passes
from torch import nn

from minitransformer import SelfAttention, scaled_dot_product_attention
from minitransformer.counting import count_parameters
from minitransformer.homework import check
from minitransformer.homework.chapters import chapter03


@pytest.mark.parametrize("name", ["3.1", "3.2", "3.3", "3.4"])
def test_a_stub_waits(name):
    assert "waits for your answer" in check(name, lambda *_: ...).message
    assert "waits for your answer" in check(name, ...).message


def test_three_stubs_wait():
    assert "waits" in check("3.4", lambda: (..., ..., ...)).message


# 3.1 ---


def by_the_package(d_in, d_k, d_v, bias):
    return count_parameters(SelfAttention(d_in, d_k, d_v, bias))


def by_linear_layers(d_in, d_k, d_v, bias):
    return sum(
        p.numel()
        for width in (d_k, d_k, d_v)
        for p in nn.Linear(d_in, width, bias).parameters()
    )


def by_a_formula(d_in, d_k, d_v, bias):
    total = 2 * d_in * d_k + d_in * d_v
    return total + (2 * d_k + d_v if bias else 0)


@pytest.mark.parametrize(
    "answer", [by_the_package, by_linear_layers, by_a_formula]
)
def test_any_way_of_counting_will_do(answer):
    assert passes("3.1", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda i, k, v, b: i * (2 * k + v), "are missing"),
        (lambda i, k, v, b: (i + 1) * (2 * k + v), "no bias to count"),
        (lambda i, k, v, b: 3 * (i + b) * k, "a width of their own"),
        (lambda i, k, v, b: 3 * (i + b) * v, "d_k wide"),
        (lambda i, k, v, b: i * (2 * k + v) + 3 * i * b, "as wide as the out"),
        (lambda i, k, v, b: i * (2 * k + v) + 3 * b, "a bias is a vector"),
        (lambda i, k, v, b: (i + b) * (k + v), "one of them is missing"),
        (lambda i, k, v, b: 3 * i**2 + 3 * i * b, "square only if"),
        (lambda i, k, v, b: (i + b) * (2 * k + v) - k * b, "but it is there"),
        (lambda i, k, v, b: 12, "shape of each matrix"),
        (lambda i, k, v, b: [1, 2], "shape"),
        (lambda i, k, v: 3, "raises TypeError"),
    ],
)
def test_a_wrong_count_is_explained(answer, phrase):
    assert fails("3.1", answer, phrase)


# 3.2 ---


def with_einsum(x, memory, w_q, w_k, w_v):
    q, k, v = x @ w_q, memory @ w_k, memory @ w_v
    scores = torch.einsum("btd,bsd->bts", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("bts,bsv->btv", scores.softmax(-1), v)


def with_torch(x, memory, w_q, w_k, w_v):
    return F.scaled_dot_product_attention(x @ w_q, memory @ w_k, memory @ w_v)


def with_loops(x, memory, w_q, w_k, w_v):
    rooms = []
    for states, answers in zip(x, memory, strict=True):
        rows = []
        for state in states:
            scores = torch.stack(
                [(state @ w_q) @ (other @ w_k) for other in answers]
            )
            weights = (scores / w_k.shape[1] ** 0.5).softmax(0)
            rows.append((weights @ (answers @ w_v)).tolist())
        rooms.append(rows)
    return rooms


def with_weights(x, memory, w_q, w_k, w_v):
    return scaled_dot_product_attention(x @ w_q, memory @ w_k, memory @ w_v)


@pytest.mark.parametrize(
    "answer", [with_einsum, with_torch, with_loops, with_weights]
)
def test_any_cross_attention_will_do(answer):
    assert passes("3.2", answer)


def attend(q, k, v):
    return scaled_dot_product_attention(q, k, v)[0]


def by_dots(change):
    """Compute all but the middle, which ``change`` does in its own way."""

    def answer(x, m, q, k, v):
        return change((x @ q) @ (m @ k).mT) @ (m @ v)

    return answer


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda x, m, q, k, v: attend(m @ q, x @ k, x @ v), "memory asks"),
        (lambda x, m, q, k, v: attend(x @ q, x @ k, x @ v), "of the target"),
        (lambda x, m, q, k, v: attend(m @ q, m @ k, m @ v), "of the memory"),
        (lambda x, m, q, k, v: attend(x @ q, m @ k, x @ v), "values come fr"),
        (lambda x, m, q, k, v: attend(x @ q, x @ k, m @ v), "keys come from"),
        (by_dots(lambda s: s.softmax(-1)), "not divided"),
        (by_dots(lambda s: (s / math.sqrt(6)).softmax(-1)), "of the tokens'"),
        (by_dots(lambda s: (s / 4).softmax(-1)), "not by the width"),
        (by_dots(lambda s: (s / 2).softmax(-2)), "over the queries"),
        (by_dots(lambda s: s / 2), "softmax is missing"),
        (lambda x, m, q, k, v: x @ v, "has the right shape, but"),
        (
            lambda x, m, q, k, v: attend(
                x @ q, (m @ k)[:, : x.shape[1]], (m @ v)[:, : x.shape[1]]
            ),
            "a memory of (2, 5, 6)",
        ),
        (lambda x, m, q, k, v: attend(m @ q, x @ k, m @ v), "the keys from x"),
        (lambda x, m, q, k, v: attend(m @ q, m @ k, x @ v), "only the values"),
        (lambda x, m, q, k, v: attend(x @ k, m @ q, m @ v), "changed places"),
        (by_dots(lambda s: (s / 2).softmax(-1)), "a fixed number"),
        (by_dots(lambda s: (s / math.sqrt(4)).softmax(-1)), "a fixed number"),
        (by_dots(lambda s: (s / 3).softmax(-1)), "has the right shape, but"),
        (
            lambda x, m, q, k, v: attend(x[:, :3] @ q, m @ k, m @ v),
            "it should have (2, 4, 3)",
        ),
        (
            lambda x, m, q, k, v: attend(
                x @ q, (m @ k)[:, : x.shape[1]], m @ v
            ),
            "raises UserError",
        ),
    ],
)
def test_wrong_cross_attention_is_explained(answer, phrase):
    assert fails("3.2", answer, phrase)


# 3.3 ---


def compare(layer, x, order, rtol=1e-3):
    moved, expected = layer(x[:, order]), layer(x)[:, order]
    slack = rtol * expected.abs().max().item()
    return torch.allclose(moved, expected, rtol=rtol, atol=slack)


def by_random_orders(layer, x):
    T = x.shape[1]
    return not all(compare(layer, x, torch.randperm(T)) for _ in range(9))


def by_swap_and_rotation(layer, x):
    T = x.shape[1]
    swap, turn = list(range(T)), [*range(1, T), 0]
    swap[:2] = 1, 0
    return not (compare(layer, x, swap) and compare(layer, x, turn))


def by_all_swaps_in_float64(layer, x):
    expected, gap = layer(x), torch.tensor(0.0)
    T = x.shape[1]
    for i in range(T):
        for j in range(i):
            order = list(range(T))
            order[i], order[j] = j, i
            gap = gap.maximum(
                (layer(x[:, order]) - expected[:, order]).abs().max()
            )
    return gap > 1e-3 * expected.abs().max()


@pytest.mark.parametrize(
    "answer",
    [by_random_orders, by_swap_and_rotation, by_all_swaps_in_float64],
)
def test_any_honest_test_of_order_will_do(answer):
    assert passes("3.3", answer)


def order_of(x):
    return torch.randperm(x.shape[1])


def invariance(layer, x):
    return not torch.allclose(layer(x[:, order_of(x)]), layer(x), atol=1e-3)


def exactly(layer, x):
    order = order_of(x)
    return not torch.equal(layer(x[:, order]), layer(x)[:, order])


def never_relative(layer, x):
    order = order_of(x)
    a, b = layer(x[:, order]), layer(x)[:, order]
    return bool((a - b).abs().max() > 1e-4)


def fixed_but_wide(layer, x):
    order = order_of(x)
    a, b = layer(x[:, order]), layer(x)[:, order]
    return bool((a - b).abs().max() > 3e-2)


def of_the_batch(layer, x):
    return not torch.allclose(layer(x.flip(0)), layer(x).flip(0), atol=1e-4)


def of_the_numbers(layer, x):
    return not torch.allclose(layer(x.flip(2)), layer(x).flip(2), atol=1e-4)


def backwards_only(layer, x):
    return not compare(layer, x, list(range(x.shape[1]))[::-1])


def rotation_only(layer, x):
    T = x.shape[1]
    return not compare(layer, x, [*range(1, T), 0])


def one_at_random(layer, x):
    return not compare(layer, x, order_of(x))


def sorted_outputs(layer, x):
    expected = layer(x).sort(dim=1).values
    slack = 1e-3 * expected.abs().max().item()
    moves = (layer(x[:, order_of(x)]).sort(dim=1).values for _ in range(9))
    return not all(torch.allclose(m, expected, atol=slack) for m in moves)


def swap_and_reversal(layer, x):
    T = x.shape[1]
    swap, turn = [1, 0, *range(2, T)], list(range(T))[::-1]
    return not (compare(layer, x, swap) and compare(layer, x, turn))


def default_tolerance(layer, x):
    moves = [order_of(x) for _ in range(9)]
    return not all(
        torch.allclose(layer(x[:, order]), layer(x)[:, order])
        for order in moves
    )


def last_output_only(layer, x):
    order = [1, 0, *range(2, x.shape[1])]
    a, b = layer(x[:, order])[:, -1], layer(x)[:, -1]
    return bool((a - b).abs().max() > 1e-3 * b.abs().max())


def first_swap_only(layer, x):
    return not compare(layer, x, [1, 0, *range(2, x.shape[1])])


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (invariance, "compare with permuted"),
        (lambda layer, x: True, "compare with permuted"),
        (lambda layer, x: False, "a causal layer sees order"),
        (exactly, "takes rounding for order"),
        (never_relative, "size of the outputs"),
        (fixed_but_wide, "size of the outputs"),
        (of_the_batch, "dimension of the tokens"),
        (of_the_numbers, "numbers within a token"),
        (backwards_only, "One permutation is not enough"),
        (rotation_only, "adds up the two neighbours"),
        (last_output_only, "has a causal mask"),
        (first_swap_only, "only the last token"),
        (sorted_outputs, "hands each token's output to the next"),
        (swap_and_reversal, "only one position"),
        (default_tolerance, "takes rounding for order"),
        (lambda layer, x: "no", "return True or False"),
        (lambda layer, x: layer(x), "return True or False"),
    ],
)
def test_a_wrong_test_of_order_is_explained(answer, phrase):
    assert fails("3.3", answer, phrase)


@pytest.mark.parametrize("seed", range(12))
def test_the_verdict_on_a_test_of_order_hangs_on_no_seed(seed):
    assert check("3.3", by_random_orders, seed)
    assert check("3.3", by_swap_and_rotation, seed)
    assert "rounding" in check("3.3", default_tolerance, seed).message
    assert "permutation" in check("3.3", one_at_random, seed).message
    assert "next position" in check("3.3", sorted_outputs, seed).message


# 3.4 ---


def pieces(q, k, v, scale=20.0):
    """Put an identity at the rows of one piece into each matrix."""
    matrices = torch.zeros(3, 12, 4)
    for matrix, piece in zip(matrices, (q, k, v), strict=True):
        matrix[4 * piece : 4 * piece + 4] = torch.eye(4)
    matrices[0] *= scale
    return tuple(matrices)


def permuted():
    """Use other columns, negative signs, and narrower keys."""
    w_q, w_k, w_v = torch.zeros(12, 3), torch.zeros(12, 3), torch.zeros(12, 4)
    corners = torch.tensor(
        [[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    )
    w_q[4:8], w_k[:4], w_v[8:] = -9 * corners, -corners, torch.eye(4)
    return w_q.tolist(), w_k.tolist(), w_v.tolist()


@pytest.mark.parametrize(
    "answer",
    [
        lambda: pieces(1, 0, 2),
        permuted,
        pieces(1, 0, 2),
        lambda: [matrix.numpy() for matrix in pieces(1, 0, 2, 30)],
    ],
)
def test_any_winning_matrices_will_do(answer):
    assert passes("3.4", answer)


def with_v(factor):
    q, k, v = pieces(1, 0, 2)
    return q, k, factor * v


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda: pieces(0, 1, 2), "Queries and keys have changed places"),
        (lambda: pieces(0, 0, 2), "looks at itself"),
        (lambda: pieces(1, 1, 2, 0), "equally"),
        (lambda: pieces(1, 0, 0), "must read what that one holds"),
        (lambda: pieces(1, 0, 2, 2), "too close together"),
        (lambda: pieces(1, 2, 2), "W_Q must read whom I ask for"),
        (lambda: with_v(0.5), "not clearly enough"),
        (lambda: with_v(3), "too strongly"),
        (lambda: with_v(1.4), "is 1.400 to 1.400"),
        (lambda: with_v(0.9499), "is 0.950 to 0.950"),
        (lambda: pieces(1, 0, 2)[:2], "the three matrices"),
        (lambda: torch.zeros(3), "the three matrices"),
        (lambda: [m[:8] for m in pieces(1, 0, 2)], "needs 12 rows"),
        (lambda: [m.sum(1) for m in pieces(1, 0, 2)], "needs 12 rows"),
        (
            lambda: (torch.zeros(12, 3), *pieces(1, 0, 2)[1:]),
            "equally wide",
        ),
        (
            lambda: (*pieces(1, 0, 2)[:2], torch.zeros(12, 12)),
            "one for each thing",
        ),
    ],
)
def test_wrong_matrices_are_explained(answer, phrase):
    assert fails("3.4", answer, phrase)


# The quiz ---


def test_other_layers_have_other_keys(monkeypatch):
    """The key is computed: break the layer, and the letters change."""

    class Causal(SelfAttention):
        def forward(self, x, mask=None):
            places = torch.arange(x.shape[1], dtype=x.dtype)[:, None]
            return super().forward(x + places)

    monkeypatch.setattr(chapter03, "SelfAttention", Causal)
    assert chapter03._backwards() == "A"

    class Blind(SelfAttention):
        def forward(self, x, mask=None):
            return super().forward(x).mean(1, keepdim=True).expand(-1, 5, -1)

    monkeypatch.setattr(chapter03, "SelfAttention", Blind)
    assert chapter03._backwards() == "B"
