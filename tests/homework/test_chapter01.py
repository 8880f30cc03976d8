"""The checks of chapter 1 know right answers from wrong ones, and why."""

import math

import numpy as np
import pytest
import torch
from judging import fails, passes
from torch import nn

from minitransformer.homework import check
from minitransformer.homework.chapters import chapter01


@pytest.mark.parametrize(
    ("name", "stub"),
    [
        ("1.1", [..., ...]),
        ("1.1", [1.5, ...]),
        ("1.2", lambda d_in, d: ...),
        ("1.3", lambda z, memory, w_z, w_h, v: ...),
        ("1.4", lambda n, k: ...),
        ("1.5", lambda z, memory, lengths: ...),
        ("1.quiz", [..., ..., ..., ..., ...]),
    ],
)
def test_a_stub_waits(name, stub):
    assert "waits for your answer" in check(name, stub).message


# 1.1 ---


def by_numpy():
    states = np.array([[2, 0], [2, 1], [0, 2], [1, 2]])
    powers = np.exp(states @ [0, 1])
    return powers / powers.sum() @ states


@pytest.mark.parametrize(
    "answer",
    [
        [0.802, 1.745],
        (0.8015, 1.7449),
        by_numpy(),
        torch.tensor([0.80, 1.745]),
    ],
)
def test_the_context_is_right(answer):
    assert passes("1.1", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        ([0.054, 0.147, 0.399, 0.399], "four numbers are weights"),
        ([1.745, 0.802], "the state in the text"),
        ([14.825, 32.274], "divide each by their sum"),
        ([4, 9], "softmax is missing"),
        ([0.8, 1.8], "powers of e first"),
        ([0.5, 2], "a choice of the best"),
        ([1.25, 1.25], "plain average"),
        ([3, 3], "write down the four scores"),
        ([1, 2, 3], "the shape is (3,)"),
        ("much", "numbers are wanted"),
    ],
)
def test_a_wrong_context_is_explained(answer, phrase):
    assert fails("1.1", answer, phrase)


# 1.2 ---


def counted(d_in, d):
    return sum(p.numel() for p in nn.GRU(d_in, d).parameters())


@pytest.mark.parametrize(
    "answer",
    [
        lambda d_in, d: 3 * (d * d_in + d * d + 2 * d),
        lambda d_in, d: 3 * d * (d_in + d) + 6 * d,
        counted,
        lambda d_in, d: torch.tensor(counted(d_in, d)),
    ],
)
def test_a_count_is_right(answer):
    assert passes("1.2", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda d_in, d: 6 * d * d + 6 * d, "meet the input"),
        (lambda d_in, d: 6 * d_in**2 + 6 * d_in, "meet the input"),
        (lambda d_in, d: 3 * d * (d_in + d), "biases are missing"),
        (lambda d_in, d: 3 * d * (d_in + d + 1), "two bias vectors"),
        (lambda d_in, d: 4 * d * (d_in + d + 2), "an LSTM"),
        (lambda d_in, d: d * (d_in + d + 2), "one of the parts"),
        (lambda d_in, d: counted(d, d_in), "swapped"),
        (lambda d_in, d: 7 * d_in * d, "nn.GRU has"),
        (lambda d_in, d: [d_in, d], "the shape is (2,)"),
        (12, "a function is wanted"),
    ],
)
def test_a_wrong_count_is_explained(answer, phrase):
    assert fails("1.2", answer, phrase)


# 1.3 ---


def by_loop(z, memory, w_z, w_h, v):
    scores = []
    for h in memory:
        hidden = [
            math.tanh(float(row_z @ z + row_h @ h))
            for row_z, row_h in zip(w_z, w_h, strict=True)
        ]
        scores.append(
            sum(a * float(b) for a, b in zip(hidden, v, strict=True))
        )
    return scores


@pytest.mark.parametrize(
    "answer",
    [
        lambda z, memory, w_z, w_h, v: (
            torch.tanh(w_z @ z + memory @ w_h.T) @ v
        ),
        by_loop,
        lambda z, memory, w_z, w_h, v: [
            v @ (w_z @ z + w_h @ h).tanh() for h in memory.unbind()
        ],
        lambda z, memory, w_z, w_h, v: torch.einsum(
            "ks,k->s",
            torch.tanh(
                torch.einsum("kd,d->k", w_z, z)[:, None]
                + torch.einsum("kd,sd->ks", w_h, memory)
            ),
            v,
        ).numpy(),
    ],
)
def test_additive_scores_are_right(answer):
    assert passes("1.3", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (
            lambda z, memory, w_z, w_h, v: (
                (w_z @ z + memory @ w_h.T).tanh() @ v
            ).softmax(0),
            "before the softmax",
        ),
        (
            lambda z, memory, w_z, w_h, v: (w_z @ z + memory @ w_h.T) @ v,
            "tanh is missing",
        ),
        (
            lambda z, memory, w_z, w_h, v: (
                (w_z @ z + memory @ w_h.T) @ v
            ).tanh(),
            "too late",
        ),
        (
            lambda z, memory, w_z, w_h, v: (
                ((w_z @ z).tanh() + (memory @ w_h.T).tanh()) @ v
            ),
            "one tanh around the sum",
        ),
        (
            lambda z, memory, w_z, w_h, v: sum(
                by_loop(z, memory, w_z, w_h, v)
            ),
            "one for each place",
        ),
        (
            lambda z, memory, w_z, w_h, v: (
                (w_z @ z + memory @ w_h.T).tanh() * v
            ),
            "multiply by v and add up",
        ),
        (
            lambda z, memory, w_z, w_h, v: (memory @ w_h.T).tanh() @ v,
            "z is forgotten",
        ),
        (
            lambda z, memory, w_z, w_h, v: (
                (w_z @ z + memory @ w_h.T).sigmoid() @ v
            ),
            "keeps the sign",
        ),
        (lambda z, memory, w_z, w_h, v: memory[:, 0], "the shape is right"),
        (lambda z, memory, w_z, w_h, v: memory, "shape is (5, 6), and should"),
        (lambda z, memory, w_z, w_h, v: w_z @ memory, "raises RuntimeError"),
        (lambda z, memory, w_z, w_h, v: memory.zero_()[:, 0], "in place"),
    ],
)
def test_wrong_additive_scores_are_explained(answer, phrase):
    assert fails("1.3", answer, phrase)


# 1.4 ---


def by_growing(n, k):
    layers, reach = 0, 1
    while reach < n:
        layers, reach = layers + 1, reach * k
    return layers


@pytest.mark.parametrize(
    "answer",
    [
        by_growing,
        lambda n, k: next(i for i in range(20) if k**i >= n),
        lambda n, k: math.ceil(math.log(n - 0.5) / math.log(k)),
        lambda n, k: math.ceil(round(math.log(n, k), 9)),
        chapter01.dilated_layers,
    ],
)
def test_a_number_of_layers_is_right(answer):
    assert passes("1.4", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (math.log, "no whole number"),
        (lambda n, k: math.ceil((n - 1) / (k - 1)), "without dilation"),
        (lambda n, k: math.ceil(math.log(n, k)), "are not exact"),
        (
            lambda n, k: math.ceil(math.log2(n) / math.log2(k)),
            "are not exact",
        ),
        (
            lambda n, k: math.ceil(math.log10(n) / math.log10(k)),
            "are not exact",
        ),
        (
            lambda n, k: next(i for i in range(20) if k**i > n),
            "try <=",
        ),
        (lambda n, k: math.ceil(math.log(n, k) - 1e-3), "reach 2048 places"),
        (lambda n, k: int(math.log(n, k) + 1e-9), "round up"),
        (lambda n, k: by_growing(n, k) + 3, "too many"),
        (lambda n, k: [n, k], "the shape is (2,)"),
    ],
)
def test_a_wrong_number_of_layers_is_explained(answer, phrase):
    assert fails("1.4", answer, phrase)


# 1.5 ---


def dots(z, memory):
    return torch.einsum("bd,bsd->bs", z, memory)


def real_places(memory, lengths):
    return torch.arange(memory.shape[1]) < lengths[:, None]


def mix(weights, memory):
    return torch.einsum("bs,bsd->bd", weights, memory)


def by_mask(z, memory, lengths):
    scores = dots(z, memory).masked_fill(
        ~real_places(memory, lengths), -math.inf
    )
    return mix(scores.softmax(1), memory)


def by_sentence(z, memory, lengths):
    rows = []
    for one, states, length in zip(z, memory, lengths.tolist(), strict=True):
        real = states[:length]
        rows.append((real @ one).softmax(0) @ real)
    return torch.stack(rows)


def by_powers(z, memory, lengths):
    powers = dots(z, memory).exp() * real_places(memory, lengths)
    return mix(powers / powers.sum(1, keepdim=True), memory).tolist()


@pytest.mark.parametrize("answer", [by_mask, by_sentence, by_powers])
def test_a_batch_that_looks_back_is_right(answer):
    assert passes("1.5", answer)


def zeroed(memory, lengths):
    return memory * real_places(memory, lengths)[..., None]


def masked(z, memory, lengths, more=0):
    hidden = ~real_places(memory, lengths + more)
    return dots(z, memory).masked_fill(hidden, -math.inf)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (
            lambda z, memory, n: masked(z, memory, n).softmax(1),
            "these are the weights",
        ),
        (
            lambda z, memory, n: mix(dots(z, memory).softmax(1), memory),
            "lengths is not used",
        ),
        (
            lambda z, memory, n: mix(
                (dots(z, memory) * real_places(memory, n)).softmax(1), memory
            ),
            "e^0 is 1",
        ),
        (
            lambda z, memory, n: mix(
                dots(z, memory).softmax(1) * real_places(memory, n), memory
            ),
            "after the softmax",
        ),
        (
            lambda z, memory, n: mix(dots(z, memory).softmax(0), memory),
            "over the batch, and",
        ),
        (
            lambda z, memory, n: mix(masked(z, memory, n).softmax(0), memory),
            "sentences compete",
        ),
        (
            lambda z, memory, n: mix(
                dots(z, memory) * real_places(memory, n), memory
            ),
            "softmax is missing",
        ),
        (
            lambda z, memory, n: mix(
                masked(z, memory, n, 1).softmax(1), memory
            ),
            "lengths - 1",
        ),
        (
            lambda z, memory, n: mix(
                (masked(z, memory, n) / 2).softmax(1), memory
            ),
            "chapter 2",
        ),
        (
            lambda z, memory, n: mix(
                dots(z, memory)
                .masked_fill(real_places(memory, n), -math.inf)
                .softmax(1),
                memory,
            ),
            "wrong way round",
        ),
        (
            lambda z, memory, n: mix(
                masked(z, memory, n, -1).softmax(1), memory
            ),
            "last real place is hidden",
        ),
        (
            lambda z, memory, n: mix(
                dots(z, memory)
                .masked_fill(real_places(memory, n), -1e9)
                .softmax(1),
                memory,
            ),
            "wrong way round",
        ),
        (
            lambda z, memory, n: mix(
                dots(z, zeroed(memory, n)).softmax(1), zeroed(memory, n)
            ),
            "takes weight away",
        ),
        (lambda z, memory, n: z, "the shape is right"),
        (lambda z, memory, n: memory, "the shape is (3, 6, 4)"),
        (lambda z, memory: memory, "TypeError"),
    ],
)
def test_a_wrong_batch_is_explained(answer, phrase):
    assert fails("1.5", answer, phrase)


@pytest.mark.parametrize("low", [-10, -20, -30, -50, -100])
def test_a_score_that_is_only_low_does_not_hide_padding(low):
    def answer(z, memory, lengths):
        hidden = ~real_places(memory, lengths)
        scores = dots(z, memory).masked_fill(hidden, low)
        return mix(scores.softmax(1), memory)

    for seed in range(5):
        message = check("1.5", answer, seed).message
        assert "padding" in message or "shape is right" in message


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("answer", [by_mask, by_sentence, by_powers])
def test_a_right_batch_is_right_for_every_seed(answer, seed):
    assert check("1.5", answer, seed)


# The quiz ---


def test_another_library_has_another_key(monkeypatch):
    """The key is computed: without biases and matrices, attention is least."""

    def bare(d_model, num_heads):
        return nn.Linear(d_model, num_heads)

    monkeypatch.setattr(chapter01, "MultiHeadAttention", bare)
    assert chapter01.answers_1() == "BACCB"
