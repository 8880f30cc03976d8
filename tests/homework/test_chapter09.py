"""The checks of chapter 9 know right answers from wrong ones, and why."""

import pytest
import torch
from judging import fails, passes

from minitransformer import EncoderLayer, causal_mask, padding_mask
from minitransformer.config import BOS_ID, EOS_ID, PAD_ID
from minitransformer.counting import count_parameters
from minitransformer.decoding import greedy_decode
from minitransformer.homework import chapter09, check


@pytest.mark.parametrize(
    ("name", "stub"),
    [
        ("9.1", lambda d_model, d_ff: ...),
        ("9.2", lambda target: (..., ...)),
        ("9.3", lambda source, target: (..., ..., ...)),
        ("9.4", lambda losses, labels: ...),
        ("9.5", lambda model, source, limit=30: ...),
        ("9.quiz", [..., ..., ..., ..., ...]),
    ],
)
def test_a_stub_waits(name, stub):
    assert "waits for your answer" in check(name, stub).message


# 9.1 ---


def size(d, f):
    return 4 * d * d + 9 * d + 2 * d * f + f


def size_by_parts(d, f):
    return 4 * (d + 1) * d + (d + 1) * f + (f + 1) * d + 2 * (d + d)


def size_by_the_package(d, f):
    return torch.tensor(count_parameters(EncoderLayer(d, 1, f)))


@pytest.mark.parametrize("answer", [size, size_by_parts, size_by_the_package])
def test_any_right_count_will_do(answer):
    assert passes("9.1", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda d, f: size(d, f) - 4 * d, "or the two norms"),
        (lambda d, f: size(d, f) - 8 * d, "biases and both norms"),
        (lambda d, f: size(d, f) - 2 * d, "there are two norms, with"),
        (lambda d, f: size(d, f) - d * d - d, "W^O"),
        (lambda d, f: size(d, f) - d - f, "feed-forward layers have biases"),
        (lambda d, f: size(d, f) - 5 * d - f, "every linear layer"),
        (lambda d, f: size(d, f) + 2 * d, "not three"),
        (lambda d, f: size(d, f) + 4 * d * d + 4 * d, "one attention"),
        (lambda d, f: size(d, f) + 3, "off by 3 at D = 44"),
        (lambda d, f: size(44, f), "off by"),  # right for the first width
        (lambda d, f: [d, f], "the shape is (2,)"),
    ],
)
def test_a_wrong_count_is_explained(answer, phrase):
    assert fails("9.1", answer, phrase)


# 9.2 ---


@pytest.mark.parametrize(
    "answer",
    [
        lambda t: (t[:, :-1], t[:, 1:]),
        lambda t: [t.narrow(1, 0, t.shape[1] - 1), t.roll(-1, 1)[:, :-1]],
        lambda t: (t.numpy()[:, :-1], t.tolist() and t.numpy()[:, 1:]),
    ],
)
def test_any_right_shift_will_do(answer):
    assert passes("9.2", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda t: t[:, 1:], "return two tensors"),
        (lambda t: (t[:, 1:], t[:, :-1]), "swapped"),
        (lambda t: (t[:, 1:], t[:, 1:]), "own answer"),
        (lambda t: (t, t[:, 1:]), "must be equal"),
        (lambda t: (t[:, 1:], t[:, 1:].roll(-1, 1)), "the last token but one"),
        (lambda t: (t[:, :-1], t.roll(-2, 1)[:, 1:]), "BOS is never"),
        (lambda t: (t[:, :-2], t[:, 2:]), "the last token but one"),
        (
            lambda t: (t[:, :-1], t[:, 1:].roll(-1, 1)),
            "no later one",
        ),
        (lambda t: (t[:-1], t[1:]), "BOS is never"),
    ],
)
def test_a_wrong_shift_is_explained(answer, phrase):
    assert fails("9.2", answer, phrase)


# 9.3 ---

pad = padding_mask


def causal(ids):
    return causal_mask(ids.shape[1])


def by_hand(source, target):
    real, size = source != PAD_ID, target.shape[1]
    ahead = torch.arange(size) > torch.arange(size)[:, None]
    return real[:, None, None], ~ahead, real[:, None, None]


@pytest.mark.parametrize(
    "answer",
    [
        lambda s, t: (pad(s), pad(t) & causal(t), pad(s)),
        lambda s, t: [pad(s), causal(t), pad(s)],
        by_hand,
        lambda s, t: (
            pad(s).expand(-1, -1, s.shape[1], -1),
            causal(t),
            pad(s).expand(-1, -1, t.shape[1], -1),
        ),
    ],
)
def test_any_right_masks_will_do(answer):
    assert passes("9.3", answer)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda s, t: (pad(s), pad(t), pad(s)), "sees its future"),
        (lambda s, t: (pad(s), causal(t), pad(t)), "cross: (3, 1, 1, 8) does"),
        (lambda s, t: (~pad(s), causal(t), pad(s)), "turned round"),
        (lambda s, t: (pad(s), pad(s), pad(s)), "decoder: (3, 1, 1, 6) does"),
        (lambda s, t: (pad(s) | True, causal(t), pad(s)), "nothing else"),
        (lambda s, t: (pad(s), causal(t).tril(-1), pad(s)), "too much of the"),
        (lambda s, t: (pad(s), causal(t), pad(s) | True), "cross: its keys"),
        (lambda s, t: (pad(s).float(), causal(t), pad(s)), "is boolean"),
        (lambda s, t: (1, causal(t), pad(s)), "is boolean"),
        (lambda s, t: pad(s), "return three masks"),
        (lambda s, t: (pad(s), causal(t)), "return three masks"),
    ],
)
def test_wrong_masks_are_explained(answer, phrase):
    assert fails("9.3", answer, phrase)


# 9.4 ---


def by_loops(losses, labels):
    kept = [
        loss
        for row, ids in zip(losses.tolist(), labels.tolist(), strict=True)
        for loss, label in zip(row, ids, strict=True)
        if label != PAD_ID
    ]
    return sum(kept) / len(kept)


@pytest.mark.parametrize(
    "answer",
    [
        lambda losses, labels: losses[labels != PAD_ID].mean(),
        lambda losses, labels: (
            (losses * (labels != 0)).sum() / (labels != 0).sum()
        ),
        by_loops,
    ],
)
def test_any_right_mean_will_do(answer):
    assert passes("9.4", answer)


def mean_of_means(losses, labels):
    real = labels != PAD_ID
    return ((losses * real).sum(1) / real.sum(1)).mean()


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (lambda losses, labels: losses.mean(), "counts padding"),
        (lambda losses, labels: losses[labels != 0].sum(), "this is a sum"),
        (lambda losses, labels: (losses * (labels != 0)).mean(), "you divide"),
        (mean_of_means, "a mean of means"),
        (lambda losses, labels: losses[labels == 0].mean(), "turned round"),
        (
            lambda losses, labels: losses[labels != 0].sum() / len(labels),
            "not by sentences",
        ),
        (lambda losses, labels: losses.max(), "and should give"),
        (lambda losses, labels: losses.mean(dim=1), "one number is wanted"),
    ],
)
def test_a_wrong_mean_is_explained(answer, phrase):
    assert fails("9.4", answer, phrase)


# 9.5 ---


def cut(rows):
    return [r[: r.index(EOS_ID)] if EOS_ID in r else r for r in rows]


@torch.no_grad()
def run_steps(model, source, limit):
    state = model.start(source)
    tokens = torch.full((len(source),), BOS_ID)
    chosen = []
    for _ in range(limit):
        tokens = model.step(tokens, state).argmax(dim=-1)
        chosen.append(tokens)
    return torch.stack(chosen, dim=1).tolist()


def by_steps(model, source, limit=30):
    return cut(run_steps(model, source, limit))


def sentence_by_sentence(model, source, limit=30):
    return tuple(by_steps(model, row[None], limit)[0] for row in source)


def with_reorder(model, source, limit=30):
    """Drop the sentences that have ended."""
    return greedy_decode(model, source, limit)


@torch.no_grad()
def by_rereading(model, source, limit=30):
    memory = model.encode(source)
    ids = torch.full((len(source), 1), BOS_ID)
    for _ in range(limit):
        newest = model.decode(ids, memory, source)[:, -1:].argmax(dim=-1)
        ids = torch.cat([ids, newest], dim=1)
    return cut([row[1:] for row in ids.tolist()])


@torch.no_grad()
def always_bos(model, source, limit=30):
    state = model.start(source)
    tokens = torch.full((len(source),), BOS_ID)
    rows = [model.step(tokens, state).argmax(dim=-1)]
    return [[token] * 3 for token in rows[0].tolist()]


def restarting(model, source, limit=30):
    by_steps(model, source, 1)
    return by_steps(model, source, limit)


@pytest.mark.parametrize(
    "answer", [by_steps, with_reorder, sentence_by_sentence]
)
@pytest.mark.parametrize("seed", range(4))
def test_any_right_decoding_will_do(answer, seed):
    verdict = check("9.5", answer, seed=seed)
    assert verdict, verdict.message


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (by_rereading, "use step"),
        (restarting, "start once"),
        (
            lambda m, s, limit=30: [[BOS_ID, *r] for r in by_steps(m, s)],
            "leave BOS out",
        ),
        (lambda m, s, limit=30: run_steps(m, s, 30), "stop before EOS"),
        (
            lambda m, s, limit=30: [[*r, 5] for r in by_steps(m, s)],
            "runs on after its end",
        ),
        (always_bos, "one word again and again"),
        (lambda m, s, limit=30: [r[:-1] for r in by_steps(m, s)], "one word"),
        (lambda m, s, limit=30: [r[1:] for r in by_steps(m, s)], "word short"),
        (lambda m, s, limit=30: [r[::-1] for r in by_steps(m, s)], "the ids"),
        (lambda m, s, limit=30: by_steps(m, s[:3]), "a list of 5 lists"),
        (lambda m, s, limit=30: torch.ones(5, 3), "a list of 5 lists"),
        (lambda m, s, limit=30: [5] * 5, "a list of 5 lists"),
        (lambda m, s, limit=30: [["le"]] * 5, "numbers are wanted"),
        (lambda m, s, limit=30: by_steps(m, s, 30), "with limit=2"),
        (lambda m, s: by_steps(m, s), "TypeError"),
    ],
)
def test_a_wrong_decoding_is_explained(answer, phrase):
    assert fails("9.5", answer, phrase)


@pytest.mark.parametrize("seed", range(5))
def test_the_model_talks(seed):
    torch.manual_seed(seed)
    model, source, wanted = chapter09.talkative_model()
    assert by_rereading(model, source) == wanted
    assert len({tuple(ids) for ids in wanted}) == 5
    assert all(2 < len(ids) < 10 for ids in wanted)


def test_a_silent_model_is_drawn_again(monkeypatch):
    """A first draw whose translations are all empty is not used."""
    draws = iter([lambda model, source, limit: [[]] * len(source)])

    def search(model, source, limit):
        return next(draws, greedy_decode)(model, source, limit)

    def unlucky(model, source, limit):
        results = search(model, source, limit)
        return [ids or [PAD_ID] for ids in results]

    monkeypatch.setattr(chapter09, "greedy_decode", unlucky)
    model, source, wanted = chapter09.talkative_model()
    assert by_rereading(model, source) == wanted


# The quiz ---


def test_a_model_without_a_leak_has_another_key(monkeypatch):
    """The key is computed: leave the mask on, and the last letter changes."""
    monkeypatch.setattr(chapter09, "leave_open", lambda attention: None)
    torch.manual_seed(0)
    chapter09.learn_with_a_leak.cache_clear()
    assert chapter09.compute_key() == "BCACC"
    chapter09.learn_with_a_leak.cache_clear()
