"""The checks of chapter 7 know right answers from wrong ones, and why."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import fails, passes
from torch import nn

from minitransformer import AddNorm, layer_norm
from minitransformer.homework import check
from minitransformer.homework.chapters import chapter07


@pytest.mark.parametrize("name", ["7.1", "7.2", "7.3", "7.4", "7.5"])
def test_a_stub_waits(name):
    assert "waits for your answer" in check(name, lambda *_: ...).message
    assert "waits for your answer" in check(name, ...).message


# 7.1 ---


def by_torch(x, scale, shift, eps):
    return F.layer_norm(x, x.shape[-1:], scale, shift, eps)


def by_torchs_variance(x, scale, shift, eps):
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) * (variance + eps) ** -0.5 * scale + shift


def by_loops(x, scale, shift, eps):
    if x.ndim > 1:
        return [by_loops(part, scale, shift, eps) for part in x]
    mean = sum(x) / len(x)
    variance = sum((n - mean) ** 2 for n in x) / len(x)
    root = math.sqrt(variance + eps)
    rows = zip(x, scale, shift, strict=True)
    return [float(g * (n - mean) / root + b) for n, g, b in rows]


def by_numpy(x, scale, shift, eps):
    x, scale, shift = x.numpy(), scale.numpy(), shift.numpy()
    mean = x.mean(-1, keepdims=True)
    root = np.sqrt(x.var(-1, keepdims=True) + eps)  # numpy divides by D
    return scale * (x - mean) / root + shift


@pytest.mark.parametrize(
    "answer", [layer_norm, by_torch, by_torchs_variance, by_loops, by_numpy]
)
def test_any_layer_norm_will_do(answer):
    assert passes("7.1", answer)


def centred(x, dims=-1):
    return x - x.mean(dims, keepdim=True)


def var(x, dims=-1, correction=0):
    return x.var(dims, correction=correction, keepdim=True)


def over(dims):
    """Normalise over other dimensions, where there are as many."""

    def answer(x, g, b, e):
        known = dims(x) if x.ndim > 1 else -1
        return g * centred(x, known) / (var(x, known) + e).sqrt() + b

    return answer


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (
            lambda x, g, b, e: (
                g * centred(x) / (var(x, correction=1) + e).sqrt() + b
            ),
            "divided by D - 1",
        ),
        (
            lambda x, g, b, e: g * centred(x) / (var(x).sqrt() + e) + b,
            "outside the root. It",
        ),
        (
            lambda x, g, b, e: (
                g * centred(x) / (x.std(-1, keepdim=True) + e) + b
            ),
            "outside the root, and",
        ),
        (
            lambda x, g, b, e: g * centred(x) / (var(x) + e) + b,
            "the root is missing",
        ),
        (
            lambda x, g, b, e: g * centred(x) / (var(x) + 1e-5).sqrt() + b,
            "a fixed 1e-5",
        ),
        (
            lambda x, g, b, e: g * centred(x) / var(x).sqrt() + b,
            "or there is none",
        ),
        (
            lambda x, g, b, e: centred(x) / (var(x) + e).sqrt(),
            "scale and shift are not",
        ),
        (
            lambda x, g, b, e: g * centred(x) / (var(x) + e).sqrt(),
            "the shift is not",
        ),
        (
            lambda x, g, b, e: centred(x) / (var(x) + e).sqrt() + b,
            "the scale is not",
        ),
        (
            lambda x, g, b, e: g * (centred(x) / (var(x) + e).sqrt() + b),
            "It comes last",
        ),
        (
            lambda x, g, b, e: (
                g * x / (x.square().mean(-1, keepdim=True) + e).sqrt() + b
            ),
            "RMSNorm",
        ),
        (
            lambda x, g, b, e: g * x / (var(x) + e).sqrt() + b,
            "centred too",
        ),
        (over(lambda x: tuple(range(x.ndim))), "all tokens share one mean. E"),
        (over(lambda x: -2), "mean runs over the tokens"),
        (
            over(lambda x: (-2, -1) if x.ndim > 2 else -1),
            "of a sentence share",
        ),
        (
            over(lambda x: (0, 1) if x.ndim > 2 else -1),
            "this is batch norm",
        ),
        (
            lambda x, g, b, e: (
                g * centred(x, 1 % x.ndim) / (var(x, 1 % x.ndim) + e).sqrt()
                + b
            ),
            "mean runs over the tokens",
        ),
        (
            lambda x, g, b, e: g * (x - x.mean()) / (x.var() + e).sqrt() + b,
            "all tokens share one mean. E",
        ),
        (
            lambda x, g, b, e: g * centred(x) / x.std(-1, keepdim=True) + b,
            "no eps, and",
        ),
        (
            lambda x, g, b, e: (g * centred(x) + b) / (var(x) + e).sqrt(),
            "shift is divided by the root",
        ),
        (
            lambda x, g, b, e: g * (x - x.mean(-1)) / (var(x) + e).sqrt() + b,
            "did you keep their dimension",
        ),
        (lambda x, g, b, e: x, "the steps by hand"),
        (
            lambda x, g, b, e: x if x.ndim == 1 else layer_norm(x, g, b, e),
            "for x of (7,)",
        ),
        (lambda x, g, b: x, "raises TypeError"),
        (lambda x, g, b, e: x.add_(1), "in place"),
    ],
)
def test_a_wrong_norm_is_explained(answer, phrase):
    assert fails("7.1", answer, phrase)


# 7.2 ---


def by_formula(encoder, decoder, d_model, norm_first):
    return 2 * d_model * (2 * encoder + 3 * decoder + 2 * norm_first)


def by_modules(encoder, decoder, d_model, norm_first):
    count = 2 * encoder + 3 * decoder + (2 if norm_first else 0)
    norms = [nn.LayerNorm(d_model) for _ in range(count)]
    return sum(p.numel() for norm in norms for p in norm.parameters())


@pytest.mark.parametrize("answer", [by_formula, by_modules])
def test_any_way_of_counting_will_do(answer):
    assert passes("7.2", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda e, d, w, n: (2 * e + 3 * d + 2 * n) * w, "two numbers for"),
        (lambda e, d, w, n: (2 * e + 3 * d + 2 * n) * 2, "are vectors"),
        (lambda e, d, w, n: 2 * e + 3 * d + 2 * n, "counts the norms"),
        (lambda e, d, w, n: 2 * w * (2 * e + 2 * d + 2 * n), "has three"),
        (lambda e, d, w, n: 2 * w * (3 * e + 3 * d + 2 * n), "has two sub"),
        (lambda e, d, w, n: 2 * w * (3 * e + 2 * d + 2 * n), "Which of them"),
        (lambda e, d, w, n: 2 * w * (e + d + 2 * n), "not every layer"),
        (lambda e, d, w, n: 2 * w * (2 * e + 3 * d), "norms are missing"),
        (lambda e, d, w, n: 2 * w * (2 * e + 3 * d + n), "only one last"),
        (lambda e, d, w, n: 2 * w * (2 * e + 3 * d + 2), "normalised already"),
        (lambda e, d, w, n: 3, "How many sublayers"),
        (lambda e, d, w, n: [1, 2], "shape"),
    ],
)
def test_a_wrong_count_is_explained(answer, phrase):
    assert fails("7.2", answer, phrase)


# 7.3 ---


def in_one_line(x, f, norm, first):
    return x + f(norm(x)) if first else norm(x + f(x))


def by_the_package(x, f, norm, first):
    wrapping = AddNorm(x.shape[-1], norm_first=first)
    wrapping.norm = norm
    return wrapping(x, f)


def with_a_branch(x, f, norm, first):
    branch = norm(x) if first else x
    total = torch.add(x, f(branch))
    return total if first else norm(total)


@pytest.mark.parametrize(
    "answer", [in_one_line, by_the_package, with_a_branch]
)
def test_any_wrapper_will_do(answer):
    assert passes("7.3", answer)


def changed_in_place(x, f, norm, first):
    x += f(norm(x)) if first else f(x)
    return x if first else norm(x)


def own_norm(x):
    return F.layer_norm(x, x.shape[-1:])


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda x, f, n, first: n(x + f(x)), "other arrangement"),
        (lambda x, f, n, first: x + f(n(x)), "other arrangement"),
        (lambda x, f, n, first: n(x) + f(n(x)), "goes through the norm"),
        (lambda x, f, n, first: n(x + f(n(x))), "two norms"),
        (lambda x, f, n, first: x + n(f(x)), "behind the sum"),
        (
            lambda x, f, n, first: x + n(f(x)) if first else n(x + f(x)),
            "before the sublayer",
        ),
        (
            lambda x, f, n, first: in_one_line(x, f, own_norm, first),
            "the norm is another",
        ),
        (lambda x, f, n, first: n(x) + f(x), "nothing else is"),
        (lambda x, f, n, first: x + f(x), "the norm is missing"),
        (lambda x, f, n, first: f(n(x)), "the sum is missing"),
        (lambda x, f, n, first: n(f(x)), "the sum is missing"),
        (lambda x, f, n, first: x + f(n(x)) + f(x), "runs twice"),
        (lambda x, f, n, first: x, "Follow the arrows"),
        (changed_in_place, "in place"),
    ],
)
def test_a_wrong_wrapper_is_explained(answer, phrase):
    assert fails("7.3", answer, phrase)


# 7.4 ---


def who_changes(norm, x):
    other = x.clone()
    other[0, 0, 0] += 1
    changed = norm(other) != norm(x)
    return tuple(
        dim
        for dim in range(3)
        if changed.any(dim=[d for d in range(3) if d != dim]).sum() > 1
    )


def by_gradient(norm, x):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(norm(x)[1, 2, 3], x)
    places = slope.nonzero()
    return {d - 3 for d in range(3) if len(places[:, d].unique()) > 1}


def one_number_if_one(norm, x):
    dims = who_changes(norm, x)
    return dims[0] if len(dims) == 1 else list(dims)


@pytest.mark.parametrize(
    "answer", [who_changes, by_gradient, one_number_if_one]
)
def test_any_way_to_find_out_will_do(answer):
    assert passes("7.4", answer)


def by_means(norm, x):
    y = norm(x)
    for dims in ((2,), (0, 1), (1, 2), (1,), (0, 1, 2), (0,), (0, 2)):
        if y.mean(dims).abs().max() < 1e-4:
            return dims
    return ()


def unless_a_mean_is_subtracted(norm, x):
    gone = torch.allclose(norm(x + 1), norm(x), atol=1e-3)
    return who_changes(norm, x) if gone else (0, 1, 2)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda norm, x: (0, 2), "what depends on what"),
        (lambda norm, x: (0, 1), "*not* share one"),
        (by_means, "what depends on what"),
        (unless_a_mean_is_subtracted, "Don't look at means"),
        (lambda norm, x: "layer", "as a tuple"),
        (lambda norm, x: True, "as a tuple"),
        (lambda norm, x: norm(x, x), "raises TypeError"),
    ],
)
def test_a_wrong_group_is_explained(answer, phrase):
    assert fails("7.4", answer, phrase)


# 7.5 ---


def by_twice_x(layers, x):
    gaps = [(f(2 * x) - f(x) - x).abs().max() for f in layers]
    return max(range(len(layers)), key=lambda i: gaps[i])


def by_a_large_scale(layers, x):
    sound = [
        torch.allclose(layer(1e5 * x) / 1e5, x, rtol=0.01, atol=0.01)
        for layer in layers
    ]
    return torch.tensor(sound).int().argmin()


def by_a_shift(layers, x):
    gaps = [(f(x + 7) - f(x) - 7).abs().max().item() for f in layers]
    return int(np.argmax(gaps))


@pytest.mark.parametrize("answer", [by_twice_x, by_a_large_scale, by_a_shift])
def test_any_way_to_find_the_break_will_do(answer):
    assert passes("7.5", answer)


def least_alike(layers, x):
    likeness = [F.cosine_similarity(f(x), x, dim=-1).mean() for f in layers]
    return int(torch.stack(likeness).argmin())


def with_equal_numbers(layers, x):
    """Trust that a sublayer makes nothing of zeros; a bias makes something."""
    one = torch.ones_like(x)
    return max(range(len(layers)), key=lambda i: (layers[i](one) - one).norm())


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (least_alike, "whatever its sublayer is"),
        (with_equal_numbers, "whatever its sublayer is"),
        (lambda layers, x: 3, "layer 0 computes"),
        (lambda layers, x: 7, "from 0 to 4"),
        (lambda layers, x: 0.5, "from 0 to 4"),
        (lambda layers, x: math.nan, "from 0 to 4"),
        (lambda layers, x: [1, 2], "shape"),
    ],
)
def test_a_wrong_layer_is_explained(answer, phrase):
    assert fails("7.5", answer, phrase)


# Quiz ---


def test_the_key_is_computed(monkeypatch):
    assert check("7.quiz", list("BACBA"))
    monkeypatch.setattr(chapter07, "_norm", lambda x: x / x.std())
    assert chapter07._whose_outputs_change() == "C"
