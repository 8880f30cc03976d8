"""The checks of chapter 2 know right answers from wrong ones, and why."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import fails, passes

from minitransformer import scaled_dot_product_attention
from minitransformer.homework import check
from minitransformer.homework.chapters import chapter02


@pytest.mark.parametrize(
    ("name", "stub"),
    [
        ("2.1", [..., ..., ...]),
        ("2.1", [1, ..., ...]),
        ("2.2", lambda scores: ...),
        ("2.3", ...),
        ("2.4", ...),
        ("2.5", lambda query, key, value: ...),
        ("2.quiz", [..., ..., ..., ..., ...]),
    ],
)
def test_a_stub_waits(name, stub):
    assert "waits for your answer" in check(name, stub).message


# 2.1 ---


@pytest.mark.parametrize(
    "answer",
    [
        [5 / 3, 16 / 3, 2],
        (1.67, 5.33, 2.0),
        np.array([[1, 2, 3], [2, 8, 0], [2, 6, 3]]).mean(axis=0),
        torch.tensor([1.6667, 5.3333, 2.0]),
    ],
)
def test_the_mean_of_the_values_is_right(answer):
    assert passes("2.1", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        ([0, 0, 0], "the weights are not"),
        ([1, 1, 1], "powers of e"),
        ([1 / 3, 1 / 3, 1 / 3], "these are the weights"),
        ([5, 16, 6], "that is the sum"),
        ([2, 8, 0], "Why should it win"),
        ([1, 2, 3], "Why should it win"),
        ([9, 9, 9], "equation (2.2)"),
        ([1, 2], "as wide as a value"),
        (1.5, "as wide as a value"),
        ("three", "numbers are wanted"),
    ],
)
def test_a_wrong_output_is_explained(answer, phrase):
    assert fails("2.1", answer, phrase)


# 2.2 ---


def naive(scores):
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def minus_the_largest(scores):
    return naive([score - max(scores) for score in scores])


def by_differences(scores):
    """For each weight, one over the sum of the others' lead."""
    return [
        1 / sum(math.exp(min(700, other - score)) for other in scores)
        for score in scores
    ]


def with_numpy(scores):
    powers = np.exp(np.array(scores) - np.max(scores))
    return powers / powers.sum()


@pytest.mark.parametrize(
    "answer",
    [
        minus_the_largest,
        by_differences,
        with_numpy,
        lambda scores: torch.tensor(scores).softmax(dim=0),
    ],
)
def test_any_softmax_that_survives_is_right(answer):
    assert passes("2.2", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (naive, "too large for a float"),
        (lambda s: naive([x - 1000 for x in s]), "all powers are 0"),
        (lambda s: naive([x - sum(s) / len(s) for x in s]), "too large"),
        (lambda s: naive([x - min(s) for x in s]), "too large"),
        (lambda s: [math.exp(x) for x in s], "not divided by their sum"),
        (
            lambda s: [math.exp(x - max(s)) for x in s],
            "not divided by their sum",
        ),
        (lambda s: [x / sum(s) for x in s], "the scores themselves"),
        (lambda s: naive([x / max(s) for x in s]), "changes the weights"),
        (lambda s: [float(x == max(s)) for x in s], "takes all"),
        (lambda s: torch.tensor(s).log_softmax(0), "logarithms"),
        (lambda s: naive([-x for x in s]), "not those of equation"),
        (lambda s: [2 * w for w in naive(s)], "add up to 2.000"),
        (lambda s: naive([min(x, 700) for x in s]), "(1000, 1001)"),
        (
            lambda s: naive([max(x, -700) for x in minus_thousand(s)]),
            "(-1001, -1000)",
        ),
        (
            lambda s: minus_the_largest([x + (x > 1000) for x in s]),
            "(1000, 1001)",
        ),
        (
            lambda s: (
                minus_the_largest([min(x, 1) for x in s])
                if 0.0 in s
                else minus_the_largest(s)
            ),
            "(-1000, 1000, 0)",
        ),
        (
            lambda s: (
                torch.tensor(s, dtype=torch.float64).exp()
                / torch.tensor(s, dtype=torch.float64).exp().sum()
            ),
            "gives nan",
        ),
        (lambda s: minus_the_largest(s)[:-1], "4 weights should come out"),
        (lambda s: s.softmax(dim=0), "AttributeError"),
        ([0.5, 0.5], "a function is wanted"),
    ],
)
def test_a_wrong_softmax_is_explained(answer, phrase):
    assert fails("2.2", answer, phrase)


def minus_thousand(scores):
    """Subtract a thousand from large scores, and nothing from small ones."""
    return [x - 1000 if x > 700 else x for x in scores]


# 2.3 ---


@pytest.mark.parametrize(
    "answer",
    [
        math.sqrt(48 / 9),
        2.31,
        48**0.5 / 3,
        np.sqrt(48) / 3,
        torch.tensor(48 / 9).sqrt(),
    ],
)
def test_the_divisor_brings_the_variance_to_one(answer):
    assert passes("2.3", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (math.sqrt(48), "of variance 1. What is theirs"),
        (48 / 9, "which power"),
        (16, "one factor"),
        (4, "1/3 times 1/3"),
        (48, "far too small"),
        (1 / math.sqrt(48 / 9), "Asked for is a divisor"),
        (7, "one number's variance"),
    ],
)
def test_a_wrong_divisor_is_explained(answer, phrase):
    assert fails("2.3", answer, phrase)


# 2.4 ---


@pytest.mark.parametrize(
    "answer", [-0.25, -1 / 4, np.float64(-0.25), torch.tensor(-0.25)]
)
def test_the_exponent_counts_for_both_factors(answer):
    assert passes("2.4", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (-0.5, "divides by d_k"),
        (0.25, "Which sign"),
        (-1, "twice over"),
        (0, "8 times what they should be"),
        (0.5, "5.1e+02 times"),
        (1e9, "inf times"),
        (64**-0.25, "times what they should be"),
    ],
)
def test_a_wrong_exponent_is_explained(answer, phrase):
    assert fails("2.4", answer, phrase)


# 2.5 ---


def by_matrices(query, key, value):
    scores = query @ key.mT / math.sqrt(key.shape[-1])
    return scores.softmax(dim=-1) @ value


def by_einsum(query, key, value):
    scores = torch.einsum("btd,bsd->bts", query, key) * key.shape[-1] ** -0.5
    return torch.einsum("bts,bsv->btv", F.softmax(scores, dim=2), value)


def by_loops(query, key, value):
    rows = []
    for q, k, v in zip(query, key, value, strict=True):
        for row in q:
            powers = [(row @ other / len(row) ** 0.5).exp() for other in k]
            pairs = zip(powers, v, strict=True)
            rows.append(sum(p * x for p, x in pairs) / sum(powers))
    return torch.stack(rows).reshape(len(query), -1, value.shape[-1])


def with_lists(query, key, value):
    return by_matrices(query, key, value).tolist()


@pytest.mark.parametrize(
    "answer",
    [
        by_matrices,
        by_einsum,
        by_loops,
        with_lists,
        F.scaled_dot_product_attention,
        scaled_dot_product_attention,  # returns a pair
    ],
)
def test_any_attention_is_right(answer):
    assert passes("2.5", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda q, k, v: (q @ k.mT).softmax(-1) @ v, "divisor is missing"),
        (
            lambda q, k, v: (q @ k.mT / q.shape[-1]).softmax(-1) @ v,
            "the *root* of the width",
        ),
        (
            lambda q, k, v: (q @ k.mT / v.shape[-1] ** 0.5).softmax(-1) @ v,
            "the values' width",
        ),
        (
            lambda q, k, v: (q @ k.mT / q.shape[-1] ** 0.5).softmax(-2) @ v,
            "over the queries",
        ),
        (
            lambda q, k, v: (q @ k.mT / q.shape[-1] ** 0.5).softmax(0) @ v,
            "over the batch",
        ),
        (
            lambda q, k, v: (q @ k.mT).softmax(-1) @ v / q.shape[-1] ** 0.5,
            "before the softmax",
        ),
        (lambda q, k, v: q @ k.mT / 4 @ v, "softmax is missing"),
        (
            lambda q, k, v: (q @ k.mT / 4 @ v).softmax(-1),
            "inside the softmax",
        ),
        (lambda q, k, v: (q @ k.mT / 4).softmax(-1) @ v, "written down"),
        (lambda q, k, v: (q @ k.mT / 4).sigmoid() @ v, "add up to one"),
        (
            lambda q, k, v: (q @ k.permute(2, 1, 0)).softmax(-1) @ v,
            "key.mT",
        ),
        (lambda q, k, v: (q @ k.mT / 4).softmax(-1), "shape of the weights"),
        (lambda q, k, v: by_matrices(q, k, v)[0], "should be (2, 3, 4)"),
        (lambda q, k: q, "TypeError"),
        (lambda q, k, v: by_matrices(q.mul_(2), k, v), "in place"),
    ],
)
def test_a_wrong_attention_is_explained(answer, phrase):
    assert fails("2.5", answer, phrase)


# The quiz ---


def test_another_attention_has_another_key(monkeypatch):
    """The key is computed: scale by the cosine, and loudness is nothing."""

    def by_angle(query, key, value):
        query = F.normalize(query, dim=-1)
        return scaled_dot_product_attention(query, key, value)

    monkeypatch.setattr(chapter02, "scaled_dot_product_attention", by_angle)
    assert chapter02.compute_key() == "AACAC"
