"""The checks of chapter 12 know right answers from wrong ones, and why."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import fails, passes

from minitransformer.homework import check


@pytest.mark.parametrize("name", ["12.1", "12.2", "12.3", "12.4"])
def test_a_stub_waits(name):
    assert "waits for your answer" in check(name, lambda *_: ...).message
    assert "waits for your answer" in check(name, ...).message
    assert fails(name, 3, "a function is wanted")


# 12.1 ---


def with_numpy(a, b):
    return np.abs(a.numpy() - b.numpy()).sum(axis=1).mean() / 2


def by_what_is_gained(a, b):
    return (a - b).clamp(min=0).sum(-1).mean()


def with_loops(a, b):
    total = 0.0
    for one, two in zip(a.tolist(), b.tolist(), strict=True):
        total += sum(abs(x - y) for x, y in zip(one, two, strict=True)) / 2
    return total / len(a)


@pytest.mark.parametrize(
    "answer",
    [
        lambda a, b: (a - b).abs().sum(-1).mean() / 2,
        lambda a, b: 1 - torch.minimum(a, b).sum() / len(a),
        with_numpy,
        by_what_is_gained,
        with_loops,
    ],
)
def test_any_distance_will_do(answer):
    assert passes("12.1", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda a, b: (a - b).abs().sum(-1).mean(), "twice too much"),
        (lambda a, b: (a - b).abs().sum() / 2, "rows are added up: a longer"),
        (lambda a, b: (a - b).abs().sum(), "and each moved weight"),
        (lambda a, b: (a - b).abs().mean(), "over the keys too"),
        (lambda a, b: (a - b).abs().mean() / 2, "over the keys too"),
        (lambda a, b: (a - b).sum(-1).mean() / 2, "cancel"),
        (lambda a, b: (a - b).norm(dim=-1).mean(), "not squares"),
        (lambda a, b: (a - b).square().sum(-1).mean(), "are squared"),
        (lambda a, b: (a - b).square().sum(-1).mean() / 2, "are squared"),
        (lambda a, b: (a - b).abs().amax(-1).mean(), "largest difference"),
        (lambda a, b: (a - b).abs().sum(-1) / 2, "one number is wanted"),
        (lambda a, b: F.cosine_similarity(a, b).mean(), "(3, 2)"),
    ],
)
def test_a_wrong_distance_is_named(answer, phrase):
    assert fails("12.1", answer, phrase)


# 12.2 ---


def by_sums(heads, weight, bias, silent):
    columns = weight.chunk(len(heads), dim=1)
    output = bias.expand(heads.shape[1], -1)
    for h in range(len(heads)):
        if h not in silent:
            output = output + heads[h] @ columns[h].T
    return output


def by_zeros(heads, weight, bias, silent):
    heads = heads.clone()
    heads[silent] = 0
    return F.linear(heads.transpose(0, 1).flatten(1), weight, bias)


def by_columns(heads, weight, bias, silent):
    d_k, weight = heads.shape[-1], weight.clone()
    for h in silent:
        weight[:, h * d_k : (h + 1) * d_k] = 0
    return torch.cat(list(heads), dim=-1) @ weight.T + bias


def by_taking_away(heads, weight, bias, silent):
    output = by_zeros(heads, weight, bias, [])
    rest = [h for h in range(len(heads)) if h not in silent]
    return output - by_zeros(heads, weight, 0 * bias, rest)


@pytest.mark.parametrize(
    "answer", [by_sums, by_zeros, by_columns, by_taking_away]
)
def test_any_silence_will_do(answer):
    assert passes("12.2", answer)


def zero_rows(heads, weight, bias, silent):
    d_k, weight = heads.shape[-1], weight.clone()
    for h in silent:
        weight[h * d_k : (h + 1) * d_k] = 0
    return by_zeros(heads, weight, bias, [])


def in_place(heads, weight, bias, silent):
    heads[silent] = 0
    return by_zeros(heads, weight, bias, [])


def scaled_up(heads, weight, bias, silent):
    H = len(heads)
    rest = by_zeros(heads, weight, 0 * bias, silent)
    return rest * H / max(H - len(silent), 1) + bias


def interleaved(heads, weight, bias, silent):
    heads = heads.clone()
    heads[silent] = 0
    return F.linear(heads.permute(1, 2, 0).flatten(1), weight, bias)


def untransposed(heads, weight, bias, silent):
    heads = heads.clone()
    heads[silent] = 0
    return heads.transpose(0, 1).flatten(1) @ weight + bias


def columns_untransposed(heads, weight, bias, silent):
    d_k, weight = heads.shape[-1], weight.clone()
    for h in silent:
        weight[:, h * d_k : (h + 1) * d_k] = 0
    return torch.cat(list(heads), dim=-1) @ weight + bias


def reshaped(heads, weight, bias, silent):
    heads = heads.clone()
    heads[silent] = 0
    return F.linear(heads.reshape(heads.shape[1], -1), weight, bias)


def a_bias_of_one_row(heads, weight, bias, silent):
    output = bias
    for h, columns in enumerate(weight.chunk(len(heads), dim=1)):
        if h not in silent:
            output = output + heads[h] @ columns.T
    return output


def every_bias(heads, weight, bias, silent):
    return by_zeros(heads, weight, bias * (len(heads) - len(silent)), silent)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda h, w, b, s: by_zeros(h, w, 0 * b, s), "bias is missing"),
        (lambda h, w, b, s: by_zeros(h, w, b, []), "all heads still speak"),
        (
            lambda h, w, b, s: by_zeros(
                h, w, b, [i for i in range(len(h)) if i not in s]
            ),
            "wrong ones are silent",
        ),
        (zero_rows, "a head meets columns"),
        (in_place, "changes its input in place"),
        (scaled_up, "scaled up"),
        (interleaved, "interleaved"),
        (untransposed, "not transposed"),
        (columns_untransposed, "not transposed"),
        (reshaped, "Swap heads and queries"),
        (a_bias_of_one_row, "with all heads silent, too"),
        (every_bias, "once for each head"),
        (lambda h, w, b, s: by_zeros(h, w, b, s).T, "should be (T, D)"),
        (lambda h, w, b, s: by_zeros(h, w, b, s) + 1, "Start with the bias"),
    ],
)
def test_a_wrong_silence_is_named(answer, phrase):
    assert fails("12.2", answer, phrase)


def square_only(heads, weight, bias, silent):
    right = by_zeros(heads, weight, bias, silent)
    return right if weight.shape == (6, 6) else right + 1


def test_a_silence_must_hold_for_all_sizes():
    assert fails("12.2", square_only, "for 4 heads")


# 12.3 ---


def as_logits(parts, matrix, right, wrong):
    logits = parts @ matrix.T
    return logits[:, right] - logits[:, wrong]


@pytest.mark.parametrize(
    "answer",
    [
        lambda p, m, r, w: p @ (m[r] - m[w]),
        as_logits,
        lambda p, m, r, w: [float(x @ m[r] - x @ m[w]) for x in p],
        lambda p, m, r, w: (p.numpy() * (m[r] - m[w]).numpy()).sum(axis=1),
    ],
)
def test_any_margins_will_do(answer):
    assert passes("12.3", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda p, m, r, w: p @ m[r], "right token's logit alone"),
        (lambda p, m, r, w: p @ (m[w] - m[r]), "right minus wrong"),
        (lambda p, m, r, w: as_logits(p, m, r, w).sum(), "who said what"),
        (lambda p, m, r, w: as_logits(p, m, r, w).cumsum(0), "logit lens"),
        (
            lambda p, m, r, w: (
                (p @ m.T).softmax(-1)[:, r] - (p @ m.T).softmax(-1)[:, w]
            ),
            "a softmax stands in between",
        ),
        (
            lambda p, m, r, w: (
                as_logits(p, m, r, w) / as_logits(p, m, r, w).sum()
            ),
            "these are shares",
        ),
        (lambda p, m, r, w: p @ (m[r] + m[w]), "are added"),
        (
            lambda p, m, r, w: (p @ m.T).log_softmax(-1)[:, r],
            "log-probabilities",
        ),
        (lambda p, m, r, w: as_logits(p, m, r, w).abs(), "speaks against"),
        (lambda p, m, r, w: p @ m.T, "each of the 6 parts"),
        (lambda p, m, r, w: (p @ m.T)[r] - (p @ m.T)[w], "tokens are columns"),
        (lambda p, m, r, w: as_logits(p, m, r, w) + 1, "one vector"),
    ],
)
def test_wrong_margins_are_named(answer, phrase):
    assert fails("12.3", answer, phrase)


# 12.4 ---


def one_at_a_time(score, tokens, hidden):
    usual = score(tokens)
    return [
        usual - score([*tokens[:i], hidden, *tokens[i + 1 :]])
        for i in range(len(tokens))
    ]


def on_copies(score, tokens, hidden):
    found = []
    for i in range(len(tokens)):
        copy = list(tokens)
        copy[i] = hidden
        found.append(score(tokens) - score(copy))
    return torch.tensor(found)


def with_arrays(score, tokens, hidden):
    table = np.tile(np.array(tokens), (len(tokens), 1))
    np.fill_diagonal(table, hidden)
    return score(tokens) - np.array([score(row) for row in table])


def put_back(score, tokens, hidden):
    usual, found = score(tokens), []
    for i, token in enumerate(tokens):
        tokens[i] = hidden
        found.append(usual - score(tokens))
        tokens[i] = token
    return found


@pytest.mark.parametrize(
    "answer", [one_at_a_time, on_copies, with_arrays, put_back]
)
def test_any_hiding_will_do(answer):
    assert passes("12.4", answer)


def stays_hidden(score, tokens, hidden):
    usual, copy, found = score(tokens), list(tokens), []
    for i in range(len(copy)):
        copy[i] = hidden
        found.append(usual - score(copy))
    return found


def spoils(score, tokens, hidden):
    found = one_at_a_time(score, tokens, hidden)
    tokens[0] = hidden
    return found


def taken_out(score, tokens, hidden):
    usual = score(tokens)
    n = len(tokens)
    return [usual - score(tokens[:i] + tokens[i + 1 :]) for i in range(n)]


def all_alike(score, tokens, hidden):
    usual = score(tokens)
    return [
        usual - score([hidden if t == token else t for t in tokens])
        for token in tokens
    ]


def alone(score, tokens, hidden):
    usual, n = score(tokens), len(tokens)
    return [
        usual - score([t if i == j else hidden for j, t in enumerate(tokens)])
        for i in range(n)
    ]


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda *a: [-x for x in one_at_a_time(*a)], "sign is wrong"),
        (
            lambda s, t, h: [s(t) - x for x in one_at_a_time(s, t, h)],
            "these are the scores",
        ),
        (stays_hidden, "stay hidden, too"),
        (spoils, "changes the tokens"),
        (taken_out, "taken out"),
        (all_alike, "hidden twice"),
        (alone, "all the others are hidden"),
        (
            lambda s, t, h: [s(t) - x for x in alone(s, t, h)],
            "of one token alone",
        ),
        (lambda s, t, _: one_at_a_time(s, t, 0), "0 was put"),
        (lambda *a: [abs(x) for x in one_at_a_time(*a)], "absolute values"),
        (lambda *a: one_at_a_time(*a)[:-1], "6 numbers are wanted"),
        (lambda *a: [x + 1 for x in one_at_a_time(*a)], "for each place"),
        (lambda s, t, h: s(None), "raises TypeError"),
    ],
)
def test_wrong_hiding_is_named(answer, phrase):
    assert fails("12.4", answer, phrase)


# The quiz ---


def test_the_quiz():
    assert passes("12.quiz", list("BAABA"))
    assert fails("12.quiz", list("AAABA"), "")
