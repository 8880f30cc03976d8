"""The checks of chapter 4 know right answers from wrong ones, and why."""

import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import fails, passes

from minitransformer import causal_mask, scaled_dot_product_attention
from minitransformer.dropout import dropout
from minitransformer.homework import check
from minitransformer.homework.chapters import chapter04


@pytest.mark.parametrize(
    ("name", "stub"),
    [
        ("4.1", [..., ..., ..., ...]),
        ("4.2", lambda x, p: ...),
        ("4.3", lambda attn_mask, key_padding_mask: ...),
        ("4.4", lambda parts, x: ...),
        ("4.quiz", [..., ..., ..., ..., ...]),
    ],
)
def test_a_stub_waits(name, stub):
    assert "waits for your answer" in check(name, stub).message


# 4.1 ---


@pytest.mark.parametrize(
    "answer",
    [
        [1 / 8, 3 / 8, 1 / 2, 0],
        (0.125, 0.375, 0.5, 0.0),
        [0.12, 0.38, 0.5, 0],
        np.array([2, 6, 8, 0]) / 16,
        [Fraction(n, 16) for n in (2, 6, 8, 0)],
        [*torch.tensor([2.0, 6, 8]).log().softmax(0).tolist(), 0],
    ],
)
def test_the_third_row_is_right(answer):
    assert passes("4.1", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        ([0.1, 0.3, 0.4, 0.2], "still seen"),
        ([0.1, 0.3, 0.4, 0], "add up to one"),
        ([0.25, 0.75, 0, 0], "itself, too"),
        ([0, 0, 0, 1], "looks ahead"),
        ([2, 6, 8, 0], "these are powers"),
        (
            [math.log(n) / math.log(96) for n in (2, 6, 8)] + [0],
            "the scores themselves",
        ),
        ([1, 0, 0, 0], "which powers"),
        ([0.125, 0.375, 0.5], "What is the fourth"),
        ([0.125, 0.375], "shape"),
        ([0.125, 0.375, 0.5, -math.inf], "is a score"),
    ],
)
def test_a_wrong_row_is_explained(answer, phrase):
    assert fails("4.1", answer, phrase)


# 4.2 ---


def coins(x, p):
    return x * (torch.rand_like(x) >= p) / (1 - p)


def with_bernoulli(x, p):
    return x * torch.bernoulli(torch.full_like(x, 1 - p)) / (1 - p)


def with_numpy(x, p):
    seed = int(torch.randint(2**31, ()))
    keep = np.random.default_rng(seed).random(x.shape) >= p
    return x.numpy() * keep / (1 - p)


def in_a_loop(x, p):
    coins = torch.rand(x.numel()).tolist()
    pairs = zip(x.flatten().tolist(), coins, strict=True)
    out = [number / (1 - p) * (coin > p) for number, coin in pairs]
    return torch.tensor(out, dtype=x.dtype).reshape(x.shape)


def flat(x, p):
    out = x.flatten().clone()
    out[torch.rand(len(out)) < p] = 0
    return (out / (1 - p)).view_as(x).tolist()


def by_where(x, p):
    keep = torch.rand(x.shape) > p
    return torch.where(keep, x, torch.zeros(())) / (1 - p)


def in_float32(x, p):
    return coins(x.float(), p)


@pytest.mark.parametrize(
    "answer",
    [
        coins,
        with_bernoulli,
        with_numpy,
        flat,
        by_where,
        in_float32,
        dropout,
        in_a_loop,
    ],
)
@pytest.mark.parametrize("seed", [0, 7])
def test_dropout_of_any_kind_is_right(answer, seed):
    verdict = check("4.2", answer, seed)
    assert verdict, verdict.message


def keep_of(x, p):
    return torch.rand_like(x) >= p


def same_coins(x, p):
    generator = torch.Generator().manual_seed(123)
    keep = torch.rand(x.shape, generator=generator) >= p
    return x * keep / (1 - p)


def exactly(x, p):
    order = torch.randperm(x.numel()).view(x.shape)
    return x * (order >= p * x.numel()) / (1 - p)


def by_realised_share(x, p):
    keep = keep_of(x, p)
    return x * keep / keep.double().mean()


def always_a_fifth(x, p):
    return coins(x, 0.2)


def always_times_1_25(x, p):
    return x * keep_of(x, p) * 1.25


def shared_by_the_batch(x, p):
    return x * keep_of(x[0] if x.ndim > 2 else x, p) / (1 - p)


def matrices_only(x, p):
    keep = torch.rand(x.shape[0], x.shape[1]) >= p
    return x * keep / (1 - p)


def never_nothing(x, p):
    return coins(x, max(p, 0.1))


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda x, p: x * keep_of(x, p), "not scaled"),
        (lambda x, p: x * keep_of(x, p) / p, "divided by p"),
        (lambda x, p: x * keep_of(x, p) * (1 - p), "shrinks twice"),
        (lambda x, p: 2 * x * keep_of(x, p), "multiplied by 2.00"),
        (lambda x, p: x * ~keep_of(x, p) / p, "not to stay"),
        (lambda x, p: coins(x, p / 2), "10% of the numbers are dropped"),
        (
            lambda x, p: x * keep_of(x[:1], p).expand_as(x) / (1 - p),
            "whole rows or columns",
        ),
        (lambda x, p: x / (1 - p), "no number is dropped"),
        (lambda x, p: x * keep_of(x, p) * (1 + x.abs()), "the same number"),
        (same_coins, "the same numbers are dropped"),
        (exactly, "exactly 50 are dropped"),
        (F.dropout, "torch's own"),
        (lambda x, p: torch.dropout(x, p, True), "torch's own"),
        (lambda x, p: torch.nn.Dropout(p)(x), "torch's own"),
        (by_realised_share, "how many there are this time"),
        (always_a_fifth, "Is another p fixed"),
        (always_times_1_25, "with p = 0.5 it is not"),
        (shared_by_the_batch, "share their coins"),
        (matrices_only, "your code raises"),
        (never_nothing, "p = 0"),
        (lambda x, p: coins(x, p)[0], "shape"),
        (lambda x, p: x.mul_(keep_of(x, p)).div_(1 - p), "in place"),
        (0.2, "a function is wanted"),
    ],
)
def test_a_wrong_dropout_is_explained(answer, phrase):
    assert fails("4.2", answer, phrase)


# 4.3 ---


def joined(a, p):
    return ~a & ~p[:, None, None, :]


def by_or(a, p):
    return ~(a[None, None] | p.unsqueeze(1).unsqueeze(1))


def by_loop(a, p):
    return [
        [
            [
                [not (blocked or padded) for blocked, padded in pairs]
                for pairs in (zip(row, real, strict=True) for row in a)
            ]
        ]
        for real in p
    ]


def by_numpy(a, p):
    return ~np.logical_or(a.numpy(), p.numpy()[:, None, None])


@pytest.mark.parametrize("answer", [joined, by_or, by_loop, by_numpy])
@pytest.mark.parametrize("seed", range(5))
def test_a_joined_mask_is_right(answer, seed):
    verdict = check("4.3", answer, seed)
    assert verdict, verdict.message


def square_only(a, p):
    mask = torch.empty(len(p), 1, len(a), len(a), dtype=torch.bool)
    mask[:] = joined(a, p)
    return mask


def k(p):
    return p[:, None, None, :]


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda a, p: a | k(p), "still says who is blocked"),
        (lambda a, p: a & k(p), "blocked by both"),
        (lambda a, p: ~a | ~k(p), "pass both"),
        (lambda a, p: ~a & ~p[:, None, :, None], "rows instead of columns"),
        (lambda a, p: (~a).expand(len(p), 1, *a.shape), "is not hidden"),
        (lambda a, p: (~k(p)).expand(len(p), 1, *a.shape), "not used"),
        (lambda a, p: joined(a, p) & ~p[:, None, :, None], "Hide keys only"),
        (lambda a, p: ~a & k(p), "padding mask is still"),
        (lambda a, p: a & ~k(p), "attn_mask is still"),
        (lambda a, p: (~a & ~k(p)) & ~torch.eye(8).bool(), "if neither"),
        (
            lambda a, p: joined(a, p) & ((a != a) if len(a) < 8 else (a == a)),
            "if neither",
        ),
        (square_only, "your code raises"),
        (lambda a, p: ~a & ~p[:, None, :], "of the heads"),
        (lambda a, p: (~a & ~k(p)).long(), "torch.int64"),
        (lambda a, p: (~a)[0], "shape"),
        (lambda a, p: ~a, "the shape is (T, S)"),
        (lambda a, p: ~a & ~p, "the shape is (T, S)"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_joined_mask_is_explained(answer, phrase, seed):
    verdict = check("4.3", answer, seed)
    assert not verdict
    assert phrase in verdict.message


# 4.4 ---


def derivatives(function, x):
    """Return |d output_t / d input_s|, ``(T, T)``, over all sentences."""
    jacobian = torch.autograd.functional.jacobian(function, x)
    return jacobian.abs().amax(dim=(0, 2, 3, 5))


def first_of(parts, x, detect=derivatives, least=0.0, offset=1):
    """Detect in each part by its own input."""
    for name, function in parts:
        later = (detect(function, x) > least).triu(offset).nonzero().tolist()
        if later:
            return name, *later[0]
        x = function(x)
    return "no leak"


def one_number_at_a_time(parts, x):
    for name, function in parts:
        x = x.detach().requires_grad_()
        output = function(x)
        for t in range(x.shape[1]):
            later = set()
            for number in output[:, t].flatten():
                (gradient,) = torch.autograd.grad(
                    number, x, retain_graph=True, materialize_grads=True
                )
                ahead = (gradient[:, t + 1 :] != 0).any(2).any(0)
                later |= set(ahead.nonzero().flatten().tolist())
            if later:
                return [name, t, t + 1 + min(later)]
        x = output
    return "No leak"


def by_change(function, x):
    """Change one input after the other, and see which outputs move."""
    moved = torch.zeros(x.shape[1], x.shape[1])
    before = function(x)
    for s in range(x.shape[1]):
        changed = x.clone()
        changed[:, s] = torch.randn_like(changed[:, s])
        moved[:, s] = (function(changed) != before).any(2).any(0)
    return moved


def summed(function, x):
    """Add the numbers of an output up before differentiating: wrong."""
    return derivatives(lambda x: function(x).sum(-1, keepdim=True), x)


def first_sentence(function, x):
    jacobian = torch.autograd.functional.jacobian(function, x)
    return jacobian[0, :, :, 0].abs().amax(dim=(1, 3))


def added_derivatives(function, x):
    """Add the derivatives of an output up over the input's numbers: wrong."""
    jacobian = torch.autograd.functional.jacobian(function, x)
    return jacobian.sum(dim=5).abs().amax(dim=(0, 2, 3))


def by_the_first_input(parts, x):
    """Differentiate each part by the model's input: wrong."""

    def up_to(i, x):
        for _, function in parts[: i + 1]:
            x = function(x)
        return x

    for i, (name, _) in enumerate(parts):
        later = derivatives(partial(up_to, i), x).triu(1).nonzero().tolist()
        if later:
            return name, *later[0]
    return "no leak"


def next_only(function, x):
    found = derivatives(function, x)
    return found.triu(1).tril(1)


def whole_model(parts, x):
    """Judge the model by its last part: which one leaks stays unknown."""

    def model(x):
        for _, function in parts:
            x = function(x)
        return x

    return first_of([(parts[-1][0], model)], x)


def swapped(parts, x):
    found = first_of(parts, x)
    return found if isinstance(found, str) else (found[0], *found[:0:-1])


def last_one(parts, x):
    for name, function in parts:
        later = derivatives(function, x).triu(1).nonzero().tolist()
        if later:
            return name, *later[-1]
        x = function(x)
    return "no leak"


@pytest.mark.parametrize(
    "answer",
    [
        first_of,
        one_number_at_a_time,
        partial(first_of, detect=by_change),
    ],
)
def test_a_detector_is_right(answer):
    assert passes("4.4", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda parts, x: "no leak", "sees the next one"),
        (lambda parts, x: "fine", "'fine'"),
        (lambda parts, x: 3, "triple"),
        (partial(first_of, offset=0), "see itself"),
        (partial(first_of, offset=-9), "see itself"),
        (lambda parts, x: ("add up", 1, 0), "earlier ones"),
        (lambda parts, x: ("add up", 0, 1), "no leak in the first"),
        (partial(first_of, detect=summed), "one number at a time"),
        (partial(first_of, detect=first_sentence), "second sentence"),
        (partial(first_of, least=1e-6), "no tolerance"),
        (partial(first_of, detect=next_only), "position 4"),
        (partial(first_of, detect=added_derivatives), "don't add them up"),
        (by_the_first_input, "not by the model's"),
        (whole_model, "'shift' is named"),
        (swapped, "changed places"),
        (last_one, "smallest t"),
        (lambda parts, x: first_of(parts[:1], x), "at every part"),
        (
            lambda parts, x: (
                "no leak" if parts[0][0] == "add up" else ("shift", 3, 1)
            ),
            "must be later",
        ),
        (lambda parts, x: x[9], "your code raises IndexError"),
    ],
)
def test_a_wrong_detector_is_explained(answer, phrase):
    assert fails("4.4", answer, phrase)


def test_every_plant_leaks_as_it_says():
    for plant in chapter04._plants():
        x = torch.randn(plant.shape, dtype=torch.float64)
        assert first_of(plant.parts, x) == plant.right


# The quiz ---


def test_the_key_is_computed(monkeypatch):
    """Break what is asked about, and the letters change."""

    def open_attention(query, key, value, mask=None):
        return scaled_dot_product_attention(query, key, value)

    def even(query, key, value, mask=None):
        return scaled_dot_product_attention(0 * query, key, value)

    patch = partial(monkeypatch.setattr, chapter04)
    patch("scaled_dot_product_attention", open_attention)
    assert chapter04._first_row() == "A"
    patch("scaled_dot_product_attention", even)
    assert chapter04._first_row() == "B"
    patch("causal_mask", lambda size: ~causal_mask(size))
    assert chapter04._upside_down() == "B"
    patch("causal_mask", lambda size: torch.eye(size).bool())
    assert chapter04._one_layer() == "B"
    nothing = torch.full((1, 5, 4), math.nan)
    patch("SelfAttention", lambda d_in, d_k: lambda x, mask=None: nothing)
    assert chapter04._one_layer() == "A"
