"""Chapter 5's checks: many right answers pass, each mistake is named."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from minitransformer import MultiHeadAttention, scaled_dot_product_attention
from minitransformer.homework import check
from minitransformer.homework.chapters import chapter05
from tools import nb

# 5.1: the drawing ---


@pytest.mark.parametrize(
    "answer", [("W_Q", (4, 3)), ["W_Q", [4, 3]], ("W_Q", torch.tensor([4, 3]))]
)
def test_the_wrong_shape_is_found(answer):
    assert check("5.1", answer)


@pytest.mark.parametrize("answer", [..., (..., (..., ...)), ("Q", (..., 3))])
def test_the_drawing_waits(answer):
    assert "waits for your answer" in check("5.1", answer).message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("W_Q", "a name and a shape"),
        (("W_K", (4, 3)), "no 'W_K' in the drawing"),
        (("W_Q", (3, 4)), "says already"),
        (("W_Q", (3, 3)), "X has 4 columns and W_Q has 3 rows"),
        (("W_Q", (4, 4)), "X @ W_Q has shape (2, 4)"),
        (("X", (2, 3)), "X @ W_Q has shape (2, 4)"),
        (("Q", (2, 4)), "X has 4 columns"),
        (("W_O", (4, 24)), "X has 4 columns"),
        (("W_Q", 4), "should be (2,)"),
        (("W_Q", "four"), "numbers are wanted"),
        (("W_Q", (4.5, 3.2)), "whole numbers"),
        (("W_Q", (4, math.nan)), "whole numbers"),
        (("W_Q", (-4, 3)), "whole numbers"),
        (([4, 3], "W_Q"), "no [4, 3] in the drawing"),
    ],
)
def test_a_wrong_shape_is_explained(answer, words):
    assert words in check("5.1", answer).message


def test_heads_of_another_width_do_not_fit_the_drawing(monkeypatch):
    monkeypatch.setitem(chapter05.DRAWING, "heads", (2, 4))
    monkeypatch.setitem(chapter05.DRAWING, "W_O", (4, 4))
    verdict = check("5.1", ("W_Q", (4, 3)))
    assert "eight times as wide" in verdict.message


# 5.2: counting ---


def count(d_model, num_heads, d_k, bias):
    inner = num_heads * d_k
    return 4 * d_model * inner + bias * (3 * inner + d_model)


def count_by_building(d_model, num_heads, d_k, bias):
    total = 0
    for _ in range(num_heads):
        for _ in "qkv":
            layer = nn.Linear(d_model, d_k, bias)
            total += sum(p.numel() for p in layer.parameters())
    last = nn.Linear(num_heads * d_k, d_model, bias)
    return torch.tensor(total + sum(p.numel() for p in last.parameters()))


@pytest.mark.parametrize(
    "answer",
    [count, count_by_building, lambda *sizes: np.float64(count(*sizes))],
)
def test_any_way_to_count_is_right(answer):
    assert check("5.2", answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda d, h, k, b: 3 * d * h * k + b * 3 * h * k, "W_O is missing"),
        (lambda d, h, k, b: 4 * d * h * k, "look at the biases"),
        (lambda d, h, k, b: count(d, h, k, True), "look at the biases"),
        (
            lambda d, h, k, b: 4 * d * h * k + b * 4 * h * k,
            "as long as its layer's output",
        ),
        (
            lambda d, h, k, b: 4 * d * h * k + b * 4 * d,
            "only W_O's is as wide as the model",
        ),
        (
            lambda d, h, k, b: 4 * d * h * k + b * 3 * h * k,
            "the bias of W_O is missing",
        ),
        (
            lambda d, h, k, b: 3 * d * h * k + d * d + b * (3 * h * k + d),
            "look at W_O",
        ),
        (lambda d, h, k, b: 4 * d * d + b * 4 * d, "need not be d_model"),
        (lambda d, h, k, b: h * count(d, h, k, b), "counted twice"),
        (lambda d, h, k, b: count(d, 1, k, b), "that is one head"),
        (lambda d, h, k, b: count(d, h, k, b) + 1, "layers of these sizes"),
        (lambda d, h, k, b: [1, 2], "should be ()"),
        (lambda d, h: 3, "TypeError"),
        (12, "a function is wanted"),
    ],
)
def test_a_wrong_count_is_explained(answer, words):
    assert words in check("5.2", answer).message


# 5.3: merging ---


def merge(heads):
    return heads.transpose(1, 2).flatten(-2)


def merge_in_loops(heads):
    B, H, T, d_k = heads.shape
    out = torch.empty(B, T, H * d_k)
    for h in range(H):
        out[..., h * d_k : (h + 1) * d_k] = heads[:, h]
    return out


@pytest.mark.parametrize(
    "answer",
    [
        merge,
        merge_in_loops,
        lambda heads: torch.cat(list(heads.unbind(1)), -1),
        lambda heads: np.concatenate(
            [heads[:, h].numpy() for h in range(heads.shape[1])], -1
        ),
        lambda heads: torch.einsum("bhtk->bthk", heads).reshape(
            heads.shape[0], heads.shape[2], -1
        ),
    ],
)
def test_any_way_to_merge_is_right(answer):
    assert check("5.3", answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: x.reshape(2, 5, 21), "a reshape alone"),
        (lambda x: x.permute(0, 2, 3, 1).flatten(-2), "number by number"),
        (lambda x: x.mT.flatten(1, 2), "the tokens stand last"),
        (lambda x: x.transpose(1, 2), "one dimension of the last two"),
        (lambda x: x.sum(1), "adds the heads up"),
        (lambda x: x.mean(1), "averages the heads"),
        (lambda x: x.flatten(), "the shape is (210,)"),
        (lambda x: merge(x.flip(1)), "the numbers stand in other places"),
        (lambda x: x.transpose(1, 2).view(2, 5, 21), "RuntimeError"),
        (lambda x: x.zero_(), "changes its input"),
    ],
)
def test_a_wrong_merge_is_explained(answer, words):
    assert words in check("5.3", answer).message


# 5.4: the listing ---


class Repaired(nn.Module):
    """The listing of the chapter, with its bugs as choices."""

    fill = -math.inf
    keep = True

    def __init__(self, d_model, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.w_q = nn.Linear(d_model, d_model)
        self.w_k = nn.Linear(d_model, d_model)
        self.w_v = nn.Linear(d_model, d_model)
        self.w_o = nn.Linear(d_model, d_model)

    def forward(self, x, mask):
        q, k, v = (
            w(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for w in (self.w_q, self.w_k, self.w_v)
        )
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        hidden = ~mask if self.keep else mask
        scores = scores.masked_fill(hidden, self.lowest(scores))
        heads = scores.softmax(dim=-1) @ v
        return self.w_o(heads.transpose(1, 2).flatten(-2))

    def lowest(self, scores):
        return self.fill


class FilledByType(Repaired):
    def lowest(self, scores):
        return torch.finfo(scores.dtype).min


class FilledByMillion(Repaired):
    fill = -1e9


class FilledByZero(Repaired):
    fill = 0.0


class FilledByFive(Repaired):
    fill = -5.0


class FilledByTwenty(Repaired):
    fill = -20.0


class FilledByThousands(Repaired):
    fill = -1e4


class CalmSoftmax(Repaired):
    def forward(self, x, mask):
        q, k, v = (
            w(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for w in (self.w_q, self.w_k, self.w_v)
        )
        scores = (q @ k.mT).float() / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(~mask, -1e9).softmax(-1).to(v.dtype)
        return self.w_o((weights @ v).transpose(1, 2).flatten(-2))


class TurnedRound(Repaired):
    keep = False


class WithoutMask(Repaired):
    def forward(self, x, mask):
        return super().forward(x, torch.ones_like(mask))


class CastDown(Repaired):
    def forward(self, x, mask):
        if x.dtype == torch.float16:
            return (super().forward(x, mask) * 4).floor() / 4
        return super().forward(x, mask)


class CastUp(Repaired):
    def forward(self, x, mask):
        return super().forward(x.float(), mask)


class WrongName(Repaired):
    def __init__(self, d_model, num_heads):
        super(MultiHeads, self).__init__(d_model, num_heads)  # noqa: F821


class WithoutBias(Repaired):
    def __init__(self, d_model, num_heads):
        super().__init__(d_model, num_heads)
        self.w_o = nn.Linear(d_model, d_model, bias=False)


class Through(MultiHeadAttention):
    def forward(self, x, mask):
        return super().forward(x, x, x, mask)


@pytest.mark.parametrize(
    "answer",
    [Repaired, FilledByType, FilledByThousands, CalmSoftmax, Through],
)
def test_a_repaired_class_is_right(answer):
    assert check("5.4", answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (WrongName, "name 'MultiHeads' is not defined. A class must call"),
        (FilledByMillion, "does not fit: its largest number is 65,504"),
        (FilledByZero, "e^0 = 1"),
        (FilledByFive, "Change nothing but the three bugs"),
        (FilledByTwenty, "Change nothing but the three bugs"),
        (Repaired(12, 3), "not an instance"),
        (TurnedRound, "turned round"),
        (WithoutMask, "the mask has no effect"),
        (CastDown, "in float16 it is not"),
        (CastUp, "RuntimeError"),
        (WithoutBias, "keep the four layers"),
        (lambda d, h: 3, "must remain a torch nn.Module"),
        (lambda d: nn.Identity(), "TypeError"),
    ],
)
def test_a_bug_that_is_left_is_explained(answer, words):
    assert words in check("5.4", answer).message


# 5.5: from memory ---


def make(split, join, divisor=2.0, axis=-1, last=True):
    """Build multi-head attention with a choice of mistakes."""

    def function(x, w_q, w_k, w_v, w_o, num_heads):
        q, k, v = (split(x @ w, num_heads) for w in (w_q, w_k, w_v))
        heads = join((q @ k.mT / divisor).softmax(axis) @ v)
        return heads @ w_o if last else heads

    return function


def split(y, num_heads):
    return y.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def cut(y, num_heads):
    return y.reshape(2, num_heads, 5, 4)


def in_one(y, num_heads):
    return y


def rejoin(y):
    return y.reshape(2, 5, 12)


def not_turned(y, num_heads):
    return y.unflatten(-1, (num_heads, -1))


def crossed(y, num_heads):
    return y.unflatten(-1, (-1, num_heads)).transpose(1, 2)


def with_turned(names):
    def function(x, w_q, w_k, w_v, w_o, num_heads):
        pairs = zip("qkvo", (w_q, w_k, w_v, w_o), strict=True)
        ws = [w.T if name in names else w for name, w in pairs]
        return one_by_one(x, *ws, num_heads)

    return function


def one_by_one(x, w_q, w_k, w_v, w_o, num_heads):
    heads = [
        scaled_dot_product_attention(x @ q, x @ k, x @ v)[0]
        for q, k, v in zip(
            *(w.chunk(num_heads, dim=1) for w in (w_q, w_k, w_v)), strict=True
        )
    ]
    return torch.cat(heads, dim=-1) @ w_o


def by_einsum(x, w_q, w_k, w_v, w_o, num_heads):
    q, k, v = ((x @ w).unflatten(-1, (num_heads, -1)) for w in (w_q, w_k, w_v))
    scores = torch.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5
    heads = torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v)
    return heads.flatten(-2) @ w_o


def by_the_library(x, w_q, w_k, w_v, w_o, num_heads):
    module = MultiHeadAttention(x.shape[-1], num_heads, bias=False)
    for name, w in zip("qkvo", (w_q, w_k, w_v, w_o), strict=True):
        getattr(module, f"w_{name}").weight.data = w.T
    return module(x, x, x)


@pytest.mark.parametrize(
    "answer", [make(split, merge), one_by_one, by_einsum, by_the_library]
)
def test_any_way_to_attend_is_right(answer):
    assert check("5.5", answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (make(split, merge, divisor=12**0.5), "not of D"),
        (make(split, merge, divisor=1), "divisor is missing"),
        (make(split, merge, divisor=4), "d_k itself"),
        (make(split, merge, last=False), "W_O is missing"),
        (make(cut, rejoin), "the split is a reshape alone"),
        (make(split, rejoin), "put together wrongly"),
        (make(not_turned, rejoin), "not brought to the front"),
        (make(crossed, merge, 3**0.5), "d_k heads of width H"),
        (with_turned("qkvo"), "the matrices are transposed"),
        (with_turned("qkv"), "W_Q, W_K and W_V are transposed"),
        (with_turned("o"), "W_O is transposed"),
        (make(in_one, lambda y: y, 12**0.5), "one head of full width"),
        (make(split, merge, axis=-2), "over the queries"),
        (make(split, merge, axis=1), "over the heads"),
        (
            make(split, lambda y: y.sum(1), last=False),
            "the shape is (2, 5, 4)",
        ),
        (make(split, merge, divisor=3), "the numbers differ"),
        (make(in_one, merge), "RuntimeError"),
    ],
)
def test_a_mistake_in_attending_is_named(answer, words):
    assert words in check("5.5", answer).message


# All of them ---


@pytest.mark.parametrize("name", ["5.2", "5.3", "5.4", "5.5"])
@pytest.mark.parametrize("stub", [..., None, lambda *inputs: ...])
def test_a_stub_waits(name, stub):
    assert "waits for your answer" in check(name, stub).message


def test_the_quiz_has_the_letters_of_the_chapter():
    text = (nb.BOOK / "05_multi_head.md").read_text("utf-8")
    letters = re.findall(
        r"<summary>Answer \d</summary>\n\n\*\*([A-C])\.\*\*", text
    )
    assert check("5.quiz", letters)
    assert not check("5.quiz", ["A"] * 5)
