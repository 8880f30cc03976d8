"""The checks of chapter 8 know right answers from wrong ones, and why."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import fails, passes
from torch import nn
from torch.autograd.functional import jacobian

from minitransformer import DecoderLayer, EncoderLayer
from minitransformer.counting import count_parameters
from minitransformer.homework import check


@pytest.mark.parametrize("name", ["8.1", "8.2", "8.3", "8.4", "8.5"])
def test_a_stub_waits(name):
    assert "waits for your answer" in check(name, lambda *_: ...).message
    assert "waits for your answer" in check(name, ...).message


def test_four_stubs_wait():
    assert "waits" in check("8.3", lambda: (..., ..., ..., ...)).message


# 8.1 ---


def with_matrices(x, w1, b1, w2, b2):
    return (x @ w1 + b1).relu() @ w2 + b2


def with_linear(x, w1, b1, w2, b2):
    return F.linear(F.relu(F.linear(x, w1.T, b1)), w2.T, b2)


def with_clamp(x, w1, b1, w2, b2):
    return torch.clamp(x @ w1 + b1, min=0) @ w2 + b2


def with_numpy(x, *weights):
    x, w1, b1, w2, b2 = (t.numpy() for t in (x, *weights))
    return np.maximum(x @ w1 + b1, 0) @ w2 + b2


def with_loops(x, w1, b1, w2, b2):
    if x.ndim > 1:
        return [with_loops(row, w1, b1, w2, b2) for row in x]
    output = b2.tolist()
    for key, bias, value in zip(w1.T, b1, w2, strict=True):
        loud = max(0.0, float(key @ x + bias))
        output = [z + loud * v for z, v in zip(output, value, strict=True)]
    return [float(z) for z in output]


@pytest.mark.parametrize(
    "answer",
    [with_matrices, with_linear, with_clamp, with_numpy, with_loops],
)
def test_any_feed_forward_will_do(answer):
    assert passes("8.1", answer)


def square_only(x, w1, b1, w2, b2):
    right = with_matrices(x, w1, b1, w2, b2)
    return right if x.shape == (3, 4) else right + 1


def transposed(x, w1, b1, w2, b2):
    return F.linear(F.linear(x, w1, b1).relu(), w2, b2)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda x, v, a, w, b: (x @ v + a) @ w + b, "ReLU is missing"),
        (lambda *a: with_matrices(*a).relu(), "on the output too"),
        (
            lambda x, v, a, w, b: ((x @ v + a) @ w + b).relu(),
            "after the second",
        ),
        (lambda x, v, a, w, b: (x @ v).relu() @ w + b, "b1 is missing"),
        (
            lambda x, v, a, w, b: ((x @ v).relu() + a) @ w + b,
            "added after the ReLU",
        ),
        (lambda x, v, a, w, b: (x @ v + a).relu() @ w, "b2 is missing"),
        (lambda x, v, a, w, b: (x @ v).relu() @ w, "both biases"),
        (lambda x, *a: x + with_matrices(x, *a), "stands outside"),
        (
            lambda x, v, a, w, b: (x @ v + a).softmax(-1) @ w + b,
            "softmax is not",
        ),
        (
            lambda x, v, a, w, b: (x @ v + a).sigmoid() @ w + b,
            "sigmoid is not",
        ),
        (lambda x, v, a, w, b: (x @ v + a).abs() @ w + b, "absolute value"),
        (lambda x, v, a, w, b: F.gelu(x @ v + a) @ w + b, "GELU is not"),
        (
            lambda x, v, a, w, b: F.leaky_relu(x @ v + a) @ w + b,
            "leaky ReLU lets",
        ),
        (transposed, "are transposed"),
        (transposed, "equation (8.2)"),
        (lambda x, *a: 2 * with_matrices(x, *a), "Widen, bend, narrow"),
        (lambda x, *a: with_matrices(x, *a)[0], "must have the shape of x"),
        (lambda x, v, a, w, b: x @ v[1:], "raises RuntimeError"),
        (square_only, "d_ff = 11"),
    ],
)
def test_a_wrong_feed_forward_is_explained(answer, phrase):
    assert fails("8.1", answer, phrase)


# 8.2 ---


def by_the_package(d_model, d_ff, decoder, heads=1):
    layer = (DecoderLayer if decoder else EncoderLayer)(d_model, heads, d_ff)
    return count_parameters(layer.feed_forward) / count_parameters(layer)


def with_eight_heads(d_model, d_ff, decoder):  # as the chapter has them
    return by_the_package(d_model, d_ff, decoder, heads=8)


def counted(
    d,
    d_ff,
    decoder,
    biases=(1, 1, 1),
    norm=2,
    attentions=None,
    norms=None,
):
    """Count part and rest; the arguments make the mistakes."""
    inner, outer, attention = biases
    attentions = attentions or (2 if decoder else 1)
    norms = norms or (3 if decoder else 2)
    part = 2 * d * d_ff + inner * d_ff + outer * d
    rest = attentions * (4 * d * d + attention * 4 * d) + norms * norm * d
    return part, rest


def share(**mistake):
    def answer(d, d_ff, decoder):
        part, rest = counted(d, d_ff, decoder, **mistake)
        return part / (part + rest)

    return answer


def by_torch(d_model, d_ff, decoder):
    kind = nn.TransformerDecoderLayer if decoder else None
    kind = kind or nn.TransformerEncoderLayer
    layer = kind(d_model, 1, d_ff)
    part = [*layer.linear1.parameters(), *layer.linear2.parameters()]
    sizes = [p.numel() for p in layer.parameters()]
    return sum(p.numel() for p in part) / sum(sizes)


@pytest.mark.parametrize(
    "answer", [by_the_package, with_eight_heads, share(), by_torch]
)
def test_any_way_of_counting_will_do(answer):
    assert passes("8.2", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (share(norm=0), "norms are missing"),
        (share(biases=(0, 0, 0), norm=0), "leaves out biases and norms"),
        (share(biases=(0, 0, 1)), "biases of the feed-forward"),
        (share(biases=(1, 1, 0)), "biases of the attention"),
        (
            lambda d, f, decoder: by_the_package(d, f, not decoder),
            "the other kind",
        ),
        (lambda d, f, decoder: by_the_package(d, f, False), "other kind"),
        (lambda d, f, decoder: by_the_package(d, f, True), "other kind"),
        (
            lambda d, f, decoder: by_the_package(d, 4 * d, decoder),
            "for d_ff = 4 * d_model",
        ),
        (share(biases=(1, 1, 0), norm=0), "and so are the norms"),
        (share(norms=2), "a norm is missing"),
        (share(biases=(2, 0, 1)), "second bias"),
        (share(biases=(0, 2, 1)), "first bias"),
        (share(norm=1), "scale and a shift"),
        (lambda *a: counted(*a)[0] / counted(*a)[1], "itself included"),
        (lambda *a: 1 - by_the_package(*a), "of all the others"),
        (lambda *a: counted(*a)[0], "Divide it"),
        (lambda *a: 100 * by_the_package(*a), "not a percentage"),
        (lambda *a: 0.3, "every matrix, bias and norm"),
        (lambda d, f, decoder: 1 / 2 if decoder else 2 / 3, "leaves out"),
        (lambda *a: [1, 2], "shape"),
    ],
)
def test_a_wrong_share_is_explained(answer, phrase):
    assert fails("8.2", answer, phrase)


# 8.3 ---


def three_units():
    return [[1, 0, 0], [-1, 1, -1]], [0, 0, 0], [[1], [1], [-1]], [0]


def by_half_the_distance():
    w1 = torch.tensor([[1.0, -1, 1, -1], [1, -1, -1, 1]])
    return w1, torch.zeros(4), torch.tensor([0.5, -0.5, 0.5, 0.5]), 0.0


@pytest.mark.parametrize(
    "answer", [three_units, by_half_the_distance, three_units()]
)
def test_any_larger_will_do(answer):
    assert passes("8.3", answer)


def net(w1, w2, b1=None):
    w1 = np.array(w1).T  # given unit by unit
    return w1, b1 or [0] * w1.shape[1], np.array(w2)[:, None], 0


A, B, NOT_A, NOT_B = (1, 0), (0, 1), (-1, 0), (0, -1)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (net([(1, -1), A, NOT_A], [-1, 1, -1]), "the smaller"),
        (net([(1, -1), (-1, 1)], [1, 1]), "are apart"),
        (net([(1, 1), (-1, -1)], [1, -1]), "their sum"),
        (net([A, NOT_A], [1, -1]), "always a"),
        (net([B, NOT_B], [1, -1]), "always b"),
        (net([(1, -1), B], [1, 1]), "b is not negative"),
        (net([(-1, 1), A], [1, 1]), "a is not negative"),
        (net([A, B], [1, 1]), "your net says"),
        (net([A] * 5, [1] * 5), "at most 4"),
        (([[1], [1], [1]], [0], [[1]], 0), "needs two rows"),
        (([[1], [1]], [0], [[1, 1]], 0), "a row for each of the 1"),
        (([[1], [1]], [0, 0], [[1]], 0), "the shape is"),
        (([[1], [1]], [0]), "return four things"),
        (torch.zeros(4), "return four things"),
    ],
)
def test_a_wrong_larger_is_explained(answer, phrase):
    assert fails("8.3", answer, phrase)


def test_right_for_small_numbers_is_not_enough():
    shifted = net([(1, -1), B], [1, 1], [0, 20])  # relu(b + 20) - 20
    assert fails("8.3", (*shifted[:3], -20), "your net says")


@pytest.mark.parametrize("bias", [1e3, 1e6, 1e9, 1e12, 1e15])
def test_a_large_bias_does_not_stand_for_a_second_unit(bias):
    shifted = net([(1, -1), B], [1, 1], [0, bias])
    assert fails(
        "8.3",
        (*shifted[:3], -bias),
        "large bias" if bias < 1e15 else "your net says",
    )


def test_nought_for_two_negatives_is_explained(monkeypatch):
    # Four units can't give it, but a learner may reach it on our numbers.
    from minitransformer.homework.chapters import chapter08

    x = torch.randn(20, 2)
    with pytest.raises(chapter08.Wrong, match="both are negative"):
        chapter08._explain_larger(x.amax(dim=1).relu(), x)


# 8.4 ---


def rows(x, w1, b1, w2):
    return (x @ w1 + b1).relu()[:, None] * w2


def unit_by_unit(x, w1, b1, w2):
    units = range(len(b1))
    loud = [max(0.0, float(x @ w1[:, i] + b1[i])) for i in units]
    return [[loud[i] * float(v) for v in w2[i]] for i in units]


def with_einsum(x, w1, b1, w2):
    said = F.relu(torch.einsum("d,du->u", x, w1) + b1)
    return torch.einsum("u,ud->ud", said, w2)


def with_a_diagonal(x, w1, b1, w2):
    return (x @ w1 + b1).relu().diag() @ w2


@pytest.mark.parametrize(
    "answer", [rows, unit_by_unit, with_einsum, with_a_diagonal]
)
def test_any_contributions_will_do(answer):
    assert passes("8.4", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda x, k, b, v: (x @ k + b).relu() @ v, "sum over the units"),
        (lambda *a: rows(*a).T, "transposed"),
        (lambda x, k, b, v: (x @ k + b)[:, None] * v, "says nothing"),
        (lambda x, k, b, v: (x @ k + b).softmax(0)[:, None] * v, "compete"),
        (lambda x, k, b, v: (x @ k).relu()[:, None] * v, "bias of each key"),
        (lambda x, k, b, v: v, "How loud is each"),
        (lambda x, k, b, v: (x @ k + b).relu(), "What does it say"),
        (
            lambda x, k, b, v: ((x @ k + b)[:, None] * v).relu(),
            "not to the product",
        ),
        (lambda *a: 2 * rows(*a), "one number times"),
        (lambda *a: rows(*a)[:2], "a row for each unit"),
    ],
)
def test_wrong_contributions_are_explained(answer, phrase):
    assert fails("8.4", answer, phrase)


# 8.5 ---


def by_the_jacobian(layer, x):
    blocks = jacobian(layer, x)  # (T, K, T, D)
    return (blocks != 0).any(dim=3).any(dim=1)


def by_pushing(layer, x):
    before = layer(x).detach()
    found = []
    for s in range(len(x)):
        moved = x.clone()
        moved[s] += torch.randn_like(x[s])
        found.append((layer(moved).detach() != before).any(dim=1))
    return torch.stack(found, dim=1)


def by_functions(layer, x):
    return torch.func.jacrev(layer)(x).abs().sum(dim=(1, 3)) > 0


@pytest.mark.parametrize("answer", [by_the_jacobian, by_pushing, by_functions])
def test_any_way_to_see_dependence_will_do(answer):
    assert passes("8.5", answer)


def by_sums(layer, x):
    x = x.clone().requires_grad_()
    found = []
    for total in layer(x).sum(dim=1):
        (slope,) = torch.autograd.grad(total, x, retain_graph=True)
        found.append((slope != 0).any(dim=1))
    return torch.stack(found)


def one_feature(layer, x):
    blocks = jacobian(layer, x)
    return (blocks[:, :, :, 0] != 0).any(dim=1)


def one_output(which):
    def answer(layer, x):
        return (jacobian(layer, x)[:, which] != 0).any(dim=2)

    return answer


def sum_of_slopes(layer, x):
    return (jacobian(layer, x).sum(dim=3) != 0).any(dim=1)


def with_a_tolerance(layer, x):
    return (jacobian(layer, x).abs() > 1e-6).any(dim=3).any(dim=1)


def with_allclose(layer, x):
    found = jacobian(layer, x)
    return ~torch.isclose(found, torch.zeros_like(found)).all(3).all(1)


def in_place(layer, x):
    x += 1
    return torch.ones(len(x), len(x))


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda layer, x: by_the_jacobian(layer, x).T, "changed places"),
        (by_sums, "and its negative the output at 0 depends"),
        (one_feature, "a feature of the last token"),
        (one_output(0), "between two constants"),
        (one_output(-1), "between two constants"),
        (sum_of_slopes, "difference of two features"),
        (sum_of_slopes, "they may cancel"),
        (with_a_tolerance, "without a tolerance"),
        (with_allclose, "without a tolerance"),
        (lambda layer, x: torch.ones(len(x), len(x)), "says it does"),
        (lambda layer, x: torch.eye(len(x)), "does not notice"),
        (lambda layer, x: torch.eye(5), "notice"),
        (in_place, "in place"),
        (lambda layer, x: True, "shape"),
    ],
)
def test_a_wrong_dependence_is_explained(answer, phrase):
    assert fails("8.5", answer, phrase)


def test_a_layer_of_another_length_is_among_them():
    def five(layer, x):
        return by_the_jacobian(layer, x) if len(x) == 5 else torch.eye(7)

    assert fails("8.5", five, "seven tokens")
