"""Homework 5: right answers, and what is said of wrong ones."""

import inspect
import math
import random
import re
from collections import Counter
from functools import cache
from itertools import chain, islice
from types import SimpleNamespace

import jupytext
import numpy as np
import pytest
import sacrebleu
import torch
from judging import fails, passes

import minitransformer
from minitransformer.checkpoints import load_config, load_weights
from minitransformer.config import BOS_ID, EOS_ID
from minitransformer.data import encode_pairs, encode_source, pad
from minitransformer.decoding import greedy_decode, length_divisor
from minitransformer.evaluation import (
    CopyBaseline,
    DictionaryBaseline,
    bleu,
    split_words,
)
from minitransformer.homework import check
from minitransformer.homework.hw5 import bleu as hw5_bleu
from minitransformer.homework.hw5 import search as hw5_search
from minitransformer.homework.hw5.translator import ENOUGH, unseen
from minitransformer.homework.tasks import find_task, tasks_of
from minitransformer.model import Transformer
from minitransformer.sampling import next_probabilities
from minitransformer.storybook import splits, stories
from minitransformer.training import Trainer, TrainingOptions, rate_at
from minitransformer.translator import SHIPPED, Translator
from tools import gallery, nb

NAMES = [task.name for task in tasks_of("hw5")]
UNTRAINED = [name for name in NAMES if name != "hw5.translate"]
MUTANTS = [one for one in gallery.mutants() if one["task"][:4] == "hw5."]


def answers():
    """Give the names that the solved notebook defines."""
    names = {"__name__": "submission"}
    text = (gallery.ANSWERS / "hw5.py").read_text("utf-8")
    exec(compile(text, "hw5.py", "exec"), names)
    return names


@pytest.fixture(scope="module")
def right():
    return answers()


@pytest.fixture(scope="module")
def shipped():
    """Give the storybook's own model and its tokenizer."""
    folder = SHIPPED / "storybook-en-fr"
    config, tokenizer, _, _ = load_config(folder)
    model = Transformer(config)
    load_weights(folder, model)
    return model.eval(), tokenizer


# All of them ---


@pytest.mark.parametrize("name", UNTRAINED)
def test_the_solution_is_right_for_every_seed(name, right):
    for seed in range(10):
        verdict = check(name, right[name[4:]], seed)
        assert verdict, (seed, verdict.message)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stub", [..., None, lambda *inputs: ...])
def test_a_stub_waits(name, stub):
    assert "waits for your answer" in check(name, stub).message


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one["title"])
def test_a_classic_mistake_is_named(mutant):
    task = find_task(mutant["task"])
    for seed in range(2):
        found = task.findings(gallery.answer_of(mutant), seed)
        title, words = next((t.title, said) for t, said in found if said)
        assert title == mutant["fails"]
        assert mutant["says"] in words


def test_every_task_but_the_training_has_its_mistakes():
    assert {one["task"] for one in MUTANTS} == set(UNTRAINED)
    assert len(MUTANTS) >= 20


@pytest.mark.parametrize("name", UNTRAINED)
def test_what_was_right_once_is_wrong_for_other_inputs(name, right):
    answer, kept = right[name[4:]], []

    def remember(*inputs):
        kept.append(answer(*inputs))
        return kept[-1]

    assert passes(name, remember)
    again = iter(kept)
    assert not check(name, lambda *_: next(again, kept[0]), seed=1)


# Searches of the learner's own making ---


def with_tensors(step, bos, eos, limit):
    ids = torch.tensor([bos])
    while len(ids) <= limit:
        ids = torch.cat([ids, step(ids)[-1:].argmax(dim=-1)])
        if ids[-1] == eos:
            return ids[1:-1]
    return ids[1:]


def by_recursion(step, bos, eos, limit, said=()):
    row = step([bos, *said])[len(said)].tolist()
    best = row.index(max(row))
    if best == eos or len(said) == limit:
        return list(said)
    return by_recursion(step, bos, eos, limit, (*said, best))


def by_recursion_in_time(step, bos, eos, limit, said=()):
    if len(said) == limit:
        return list(said)
    row = step((bos, *said))[len(said)].tolist()
    best = row.index(max(row))
    if best == eos:
        return list(said)
    return by_recursion_in_time(step, bos, eos, limit, (*said, best))


def as_a_beam_of_one(step, bos, eos, limit):
    return full_beam(step, bos, eos, 1, limit, 0.0)[0]


def full_beam(step, bos, eos, width, limit, length_penalty):
    """Search by tensors, all extensions at once."""
    sums, said = torch.zeros(1, dtype=torch.double), [[bos]]
    ended = []
    for length in range(1, limit + 1):
        rows = torch.stack([step(ids)[-1] for ids in said])
        totals = (sums[:, None] + rows).flatten()
        order = totals.argsort(descending=True).tolist()
        going = []
        for rank, place in enumerate(order):
            ids = [*said[place // rows.shape[1]], place % rows.shape[1]]
            if ids[-1] != eos:
                going.append((place, ids))
            elif rank < width:
                value = totals[place] / ((5 + length) / 6) ** length_penalty
                ended.append((value.item(), ids[1:-1]))
        going = going[:width]
        sums = totals[[place for place, _ in going]]
        said = [ids for _, ids in going]
        hope = sums[0].item() / ((5 + limit) / 6) ** length_penalty
        if ended and max(ended)[0] > hope:
            break
    if ended:
        return max(ended)[1], max(ended)[0]
    return torch.tensor(said[0][1:]), torch.tensor(hope)


class Hypothesis:
    """A beginning that knows its own sum, as one may well write it."""

    def __init__(self, ids, total=0.0):
        self.ids, self.total = ids, total

    def grown(self, step):
        for token, gain in enumerate(step(self.ids)[len(self.ids) - 1]):
            yield Hypothesis([*self.ids, token], self.total + gain.item())

    def score(self, length_penalty, length=None):
        length = length or len(self.ids) - 1
        return self.total * (6 / (5 + length)) ** length_penalty


def with_objects(step, bos, eos, width, limit, length_penalty):
    going, ended = [Hypothesis([bos])], []
    while going and len(going[0].ids) <= limit:
        grown = [new for one in going for new in one.grown(step)]
        grown.sort(key=lambda one: -one.total)
        ended += [one for one in grown[:width] if one.ids[-1] == eos]
        going = [one for one in grown if one.ids[-1] != eos][:width]
        best = max((x.score(length_penalty) for x in ended), default=-1e9)
        going = [
            x for x in going if x.score(length_penalty, limit) > best
        ] or ([] if ended else going)
    best = max(ended or going, key=lambda one: one.score(length_penalty))
    ids = [i for i in best.ids if i not in (bos, eos)]
    return ids, best.score(length_penalty)


@pytest.mark.parametrize(
    "answer",
    [with_tensors, by_recursion, by_recursion_in_time, as_a_beam_of_one],
)
def test_any_greedy_search_is_right(answer):
    assert all(check("hw5.greedy", answer, seed) for seed in range(5))


@pytest.mark.parametrize("answer", [full_beam, with_objects])
def test_any_beam_search_is_right(answer):
    for seed in range(4):
        verdict = check("hw5.beam", answer, seed)
        assert verdict, (seed, verdict.message)


def test_a_beam_that_drops_nothing_is_exhaustive():
    torch.manual_seed(1)
    language = hw5_search.draw_language(2, 4, eos_score=1.0)
    case = hw5_search.Case(language, 4**4, 4, 1.5)

    def every(ids):
        yield ids
        if len(ids) < 4:
            for token in {*range(4)} - {language.eos}:
                yield from every([*ids, token])

    scores = {
        tuple(ids[1:]): sum(language.gains([*ids, language.eos]))
        / length_divisor(len(ids), 1.5)
        for ids in every([language.bos])
    }
    best = max(scores, key=scores.get)
    assert hw5_search.search(case)[0] == list(best)
    assert math.isclose(hw5_search.search(case)[1], scores[best])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda *_: [[1, 2], [3, 4]], "return one list of ids"),
        (lambda step, b, e, n: with_tensors(step, b, e, n)[:-1], "last token"),
        (lambda *x: [*with_tensors(*x).tolist(), x[2]], "EOS is left at the"),
        (lambda *x: [x[1], *with_tensors(*x).tolist()], "BOS is left in"),
        (
            lambda *x: [x[1], *with_tensors(*x).tolist(), x[2]],
            "BOS and EOS are left in",
        ),
        (lambda *x: [*with_tensors(*x).tolist(), 0, 0], "should be"),
        (lambda step, b, e, n: with_tensors(step, b, e, n + 1), "gives 2"),
        (lambda step, b, e, n: with_tensors(step, b, e, 12), "it gives 11"),
        (
            lambda step, b, e, n: with_tensors(step, b, e, n + 9)[:n],
            "right, but with a limit of 1 step is asked 10 times",
        ),
        (
            lambda step, b, e, n: (
                with_tensors(step, b, e, n - 1) if n > 1 else []
            ),
            "takes 0 tokens: BOS",
        ),
        (
            lambda step, b, e, n: (
                with_tensors(step, b, e, n).flip(0)
                if n < 12
                else with_tensors(step, b, e, n)
            ),
            "should be",
        ),
        (
            lambda step, *x: with_tensors(lambda ids: -step(ids), *x),
            "the unlikeliest tokens",
        ),
        (
            lambda step, bos, *x: with_tensors(
                lambda ids: step([bos, *ids[-1:].tolist()]), bos, *x
            ),
            "ask about the whole beginning again",
        ),
        (lambda step, *x: step([]), "step wants a whole beginning"),
        (lambda step, *x: step(torch.tensor([x[0]]))[-1], "should begin"),
    ],
)
def test_a_mistake_in_greedy_search_is_named(answer, words):
    assert fails("hw5.greedy", answer, words)


def learner_of(function):
    """Make a learner's function of one that searches on purpose wrongly."""
    names = dict(vars(hw5_search))
    source = inspect.getsource(function)
    exec(compile(source, "learner.py", "exec"), names)
    return names[function.__name__]


def wrongly(function=hw5_search.search, **flags):
    search = learner_of(function)

    def answer(step, bos, eos, width, limit, alpha):
        if callable(flags.get("narrower")):
            flags["narrower"] = flags["narrower"](width)

        def divided(total, length):
            return total / ((5 + length) / 6) ** alpha

        def row(ids):
            return step(ids)[-1].tolist()

        language = SimpleNamespace(bos=bos, eos=eos, row=row)
        case = SimpleNamespace(
            language=language, width=width, limit=limit, divided=divided
        )
        return search(case, **flags)

    return answer


def test_the_search_that_goes_wrong_goes_right_too():
    assert passes("hw5.beam", wrongly())


def always(step, bos, eos, *rest):
    raise TypeError("never finished")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (wrongly(keep="none"), "have ended are thrown away"),
        (wrongly(keep="last"), "ended in an earlier step are thrown away"),
        (wrongly(keep="last", stop="never"), "ended in an earlier step"),
        (wrongly(stop="first"), "the first sentence ends"),
        (wrongly(stop="top"), "it stops too early"),
        (wrongly(stop="now"), "it stops too early"),
        (wrongly(choose="total"), "chosen by its plain log-probability"),
        (wrongly(choose="total", stop="never"), "its plain log-probability"),
        (wrongly(choose="cut"), "what is cut off at the limit"),
        (wrongly(choose="cut", stop="never"), "what is cut off at the limit"),
        (wrongly(narrower=1), "the beam is one too narrow"),
        (wrongly(narrower=-1), "one too wide"),
        (wrongly(fill=False), "takes a place of those that go on"),
        (wrongly(any_rank=True), "every ending is set aside"),
        (wrongly(stop="enough"), "when `width` sentences have ended"),
        (wrongly(stop="enough"), "(unlike the loop of chapter 11)"),
        (wrongly(spread=False), "each beginning keeps its own best"),
        (wrongly(hw5_search.competing), "may be dropped: set it aside"),
        (wrongly(stop="never"), "right, but it goes on to the limit"),
        (lambda *_: [1, 2, 3], "return two things"),
        (lambda *_: (0.5, [1, 2]), "the ids come first"),
        (lambda *x: ([x[1], 3], 0.5), "leave BOS and EOS out"),
        (
            lambda step, b, e, w, n, a: ([({0, 1, 2} - {b, e}).pop()] * 50, 1),
            "it gives 50 tokens",
        ),
        (always, "TypeError: never finished"),
    ],
)
def test_a_mistake_in_beam_search_is_named(answer, words):
    assert fails("hw5.beam", answer, words)


def one_fewer(step, bos, eos, width, *rest):
    return full_beam(step, bos, eos, max(1, width - 1), *rest)


def just_one(step, bos, eos, width, *rest):
    return full_beam(step, bos, eos, 1 if width < 9 else width, *rest)


def nothing_where_nothing_ends(step, bos, eos, width, limit, alpha):
    ids, score = full_beam(step, bos, eos, width, limit, alpha)
    return max([(ids, score)] if len(ids) < limit else [])


def half_where_nothing_ends(step, bos, eos, width, limit, alpha):
    ids, score = full_beam(step, bos, eos, width, limit, alpha)
    return ids, score if len(ids) < limit else score / 2


def too_long_where_nothing_ends(step, bos, eos, width, limit, alpha):
    ids, score = full_beam(step, bos, eos, width, limit, alpha)
    return (ids, score) if len(ids) < limit else ([ids[0]] * 9, score)


def asking_about_ends(step, bos, eos, *rest):
    step([bos, eos])
    return full_beam(step, bos, eos, *rest)


def asking_about_all(step, bos, eos, width, limit, alpha):
    for token in range(6):
        if limit == 40 and token != eos:
            step([bos, token])
    return full_beam(step, bos, eos, width, limit, alpha)


def topping(count):
    """Search with `topk` of a count made of the width and of V."""
    names = {"__name__": "submission"}
    source = (gallery.ANSWERS / "hw5.py").read_text("utf-8")
    old = "row.topk(min(width + 1, len(row)))"
    assert source.count(old) == source.count("topk(") == 1
    source = source.replace(old, f"row.topk({count})")
    exec(compile(source, "learner.py", "exec"), names)
    return names["beam"]


def test_too_few_extensions_are_told_for_every_seed():
    words = "it keeps too few extensions of each beginning: one of the K"
    answer = topping("min(width, len(row))")
    for seed in range(10):
        assert words in check("hw5.beam", answer, seed).message
    assert passes("hw5.beam", topping("min(width + 5, len(row))"))


def greedy_if_narrow(step, bos, eos, width, limit, alpha):
    if width > 1:
        return full_beam(step, bos, eos, width, limit, alpha)
    ids = by_recursion_in_time(step, bos, eos, limit)
    gains = step([bos, *ids])[range(len(ids) + 1), [*ids, eos]]
    return ids, gains.sum() / ((6 + len(ids)) / 6) ** alpha


def nothing_if_narrow(step, bos, eos, width, *rest):
    return full_beam(step, bos, eos, (0, width)[width > 1] or [][0], *rest)


def too_long_if_narrow(step, bos, eos, width, limit, alpha):
    word = ({0, 1, 2} - {bos, eos}).pop()
    if width == 1:
        return [word] * 9, 0.0
    return full_beam(step, bos, eos, width, limit, alpha)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (greedy_if_narrow, "it finds [] with -0.693, and"),
        (nothing_if_narrow, "likeliest at first, your code raises IndexError"),
        (too_long_if_narrow, "with a limit of 4 it gives 9 tokens"),
    ],
)
def test_a_beam_of_one_that_ends_early_is_told(answer, words):
    for seed in range(3):
        assert words in check("hw5.beam", answer, seed).message


def test_too_many_extensions_are_told_with_the_sizes():
    assert fails(
        "hw5.beam",
        topping("width + 1"),
        "with width 256 and V = 4 your code raises RuntimeError: selected"
        " index k out of range. K + 1 may be more than V",
    )

    def narrow_only(step, bos, eos, width, *rest):
        return full_beam(step, bos, eos, [1, 2, 3].index(width) + 1, *rest)

    verdict = check("hw5.beam", narrow_only).message
    assert "with width 256 and V = 4 your code raises ValueError" in verdict
    assert "topk" not in verdict


def by_another_penalty(step, bos, eos, width, limit, alpha):
    if width < 9 or limit > 4:
        return full_beam(step, bos, eos, width, limit, alpha)
    ids, score = full_beam(step, bos, eos, width, limit, alpha + 2)
    n = len(ids) + (len(ids) < limit)
    return ids, score * ((5 + n) / 6) ** 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (one_fewer, "the beam is one too narrow"),
        (just_one, "one beginning is kept"),
        (nothing_where_nothing_ends, "Return the best beginning, cut off"),
        (half_where_nothing_ends, "nothing ends within 3 tokens"),
        (too_long_where_nothing_ends, "it gives 9 tokens"),
        (asking_about_ends, "what has ended does not go on"),
        (asking_about_all, "beginnings of one length"),
        (by_another_penalty, "Nothing has to be dropped here"),
    ],
)
def test_other_mistakes_in_beam_search_are_named(answer, words):
    assert fails("hw5.beam", answer, words)


def scored(formula):
    """Search rightly, and score by another formula."""

    def answer(step, bos, eos, width, limit, alpha):
        ids, _ = full_beam(step, bos, eos, width, limit, alpha)
        whole = [bos, *map(int, ids), eos]
        gains = [
            row[token].item()
            for row, token in zip(step(whole[:-1]), whole[1:], strict=True)
        ]
        return ids, formula(gains, len(gains), alpha, limit)

    return answer


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        (lambda g, n, a, _: g[-1] / ((5 + n) / 6) ** a, "last step alone"),
        (lambda g, n, a, _: sum(g[:-1]) / ((5 + n) / 6) ** a, "its price"),
        (lambda g, n, a, _: sum(g), "no effect"),
        (lambda g, n, a, _: sum(g) / ((4 + n) / 6) ** a, "one short"),
        (lambda g, n, a, _: sum(g) / ((6 + n) / 6) ** a, "one too large"),
        (lambda g, n, a, m: sum(g) / ((5 + m) / 6) ** a, "the limit's length"),
        (lambda g, n, a, _: sum(g) / n, "the mean of a token"),
        (lambda g, n, a, _: sum(g) / n**a, "of the length itself"),
        (
            lambda g, n, a, _: sum(g) / ((5 + n) / 6 * a if a else 1),
            "the penalty multiplies",
        ),
        (lambda g, n, a, _: sum(g) * ((5 + n) / 6) ** a, "is multiplied"),
        (lambda g, n, a, _: -sum(g) / ((5 + n) / 6) ** a, "the sign"),
        (lambda g, n, a, _: math.exp(sum(g)), "a probability"),
        (lambda g, n, a, _: sum(map(math.exp, g)), "add their logarithms"),
        (lambda g, n, a, _: 7.0, "the score of"),
    ],
)
def test_a_wrong_score_is_named(formula, words):
    assert fails("hw5.beam", scored(formula), words)


# Sampling ---


def by_a_mask(log_probs, temperature, top_k, top_p):
    scores = log_probs / temperature
    if top_k is not None and top_k < len(scores):
        gone = scores.argsort(descending=True)[top_k:]
        scores = scores.index_fill(0, gone, -math.inf)
    if top_p is not None:
        p = scores.softmax(0)
        before = (p * (p[None] > p[:, None])).sum(dim=1)
        scores = scores.masked_fill(before >= top_p, -math.inf)
    return scores.softmax(0)


def in_lists(log_probs, temperature, top_k, top_p):
    p = [math.exp(x / temperature) for x in log_probs.tolist()]
    order = sorted(range(len(p)), key=lambda i: -p[i])[:top_k]
    if top_p is not None:
        whole, so_far, kept = sum(p[i] for i in order), 0.0, []
        for i in order:
            if so_far < top_p * whole:
                kept.append(i)
            so_far += p[i]
        order = kept
    total = sum(p[i] for i in order)
    return [p[i] / total if i in order else 0.0 for i in range(len(p))]


def by_powers(log_probs, temperature, top_k, top_p):
    return in_lists(log_probs.float(), temperature, top_k, top_p)


def backwards(log_probs, temperature, top_k, top_p):
    """Keep the last of equal words where others keep the first."""
    found = in_lists(log_probs.flip(0), temperature, top_k, top_p)
    return found[::-1]


def with_equals(log_probs, temperature, top_k, top_p):
    p = torch.tensor(in_lists(log_probs, temperature, None, top_p))
    if top_k is None or top_p is not None:
        return in_lists(log_probs, temperature, top_k, top_p)
    p = p * (p >= p.topk(min(top_k, len(p))).values[-1])
    return p / p.sum()


@pytest.mark.parametrize("answer", [by_a_mask, in_lists, by_powers, backwards])
def test_any_way_to_shape_is_right(answer):
    for seed in range(8):
        verdict = check("hw5.sample", answer, seed)
        assert verdict, (seed, verdict.message)


def changed(change):
    """Shape rightly, then change what comes out."""

    def answer(scores, tau, k, p):
        return change(torch.tensor(in_lists(scores, tau, k, p)), scores, k, p)

    return answer


def p_first(scores, tau, k, p):
    if k is None or p is None:
        return in_lists(scores, tau, k, p)
    some = torch.tensor(in_lists(scores, tau, None, p)).log()
    return torch.nan_to_num(torch.tensor(in_lists(some, 1.0, k, None)))


def cuts_first(scores, tau, k, p):
    if k is None or p is None:
        return in_lists(scores, tau, k, p)
    some = torch.tensor(in_lists(scores, 1.0, k, p)).double()
    return (some ** (1 / tau)) / (some ** (1 / tau)).sum()


def no_sum_between(scores, tau, k, p):
    if k is None or p is None:
        return in_lists(scores, tau, k, p)
    hot = (scores / tau).softmax(0)
    kept = hot * torch.isin(torch.arange(len(hot)), hot.topk(k).indices)
    ordered, places = kept.sort(descending=True)
    out = torch.zeros_like(hot)
    out[places] = ordered * (ordered.cumsum(0) - ordered < p)
    return out / out.sum()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda s, *_: s, "log-probabilities still"),
        (lambda s, *_: s.exp().softmax(0), "softmax was taken of"),
        (lambda s, *_: s.exp().sort(descending=True).values, "sorted order"),
        (lambda s, *_: 1.0 * (s == s.max()), "that is greedy search"),
        (lambda s, *_: s * 0, "this gives"),
        (lambda s, t, *_: (s * t).softmax(0), "the temperature multiplies"),
        (lambda s, *_: s.exp(), "the temperature has no effect"),
        (lambda s, t, *_: s.exp() / t, "after the softmax"),
        (
            lambda s, t, *_: s.exp() if t == 1 else (s.exp() / t).softmax(0),
            "it divides their logarithms",
        ),
        (lambda s, t, *_: (s / t).exp(), "the sum is no longer 1"),
        (lambda s, t, *_: (s / t / t).softmax(0), "at temperature 0.5"),
        (lambda s, t, k, p: (s / t).softmax(0), "top-k cuts nothing off"),
        (
            lambda s, t, k, p: in_lists(s, t, k and k + 1, p),
            "4 words are kept",
        ),
        (
            lambda s, t, k, p: in_lists(s, t, k and max(k - 1, 1), p),
            "2 words are kept",
        ),
        (
            changed(lambda out, s, k, p: s.exp() * (out > 0)),
            "the temperature has no effect",
        ),
        (
            lambda s, t, k, p: (
                (s / t).softmax(0) * (torch.tensor(in_lists(s, t, k, p)) > 0)
            ),
            "their sum is not 1: divide by it",
        ),
        (
            changed(
                lambda out, s, k, p: (
                    out if k is None else (s.exp() * (out > 0)).softmax(0)
                )
            ),
            "must have exactly 0",
        ),
        (
            lambda s, t, k, p: (
                in_lists(s, t, None, p)
                if k is None
                else (in_lists(s[:k], t, k, p) + [0.0] * len(s))[: len(s)]
            ),
            "the first words, not the likeliest",
        ),
        (
            changed(lambda out, s, k, p: out if k is None else out.flip(0)),
            "with top-k 3",
        ),
        (
            lambda s, t, k, p: in_lists(s, t, s.topk(k or len(s)) and k, p),
            "Nothing is cut off then",
        ),
        (
            lambda s, t, k, p: in_lists(s, t, k, p) if k != 2 else s[:3],
            "the shape is (3,)",
        ),
        (lambda s, t, k, p: in_lists(s, t, k, None), "top-p cuts nothing"),
        (
            changed(
                lambda out, s, k, p: out if p is None else s.exp() * (out > 0)
            ),
            "their sum is not 1",
        ),
        (
            changed(
                lambda out, s, k, p: (
                    out if p is None else out.sort(descending=True).values
                )
            ),
            "stand in sorted order",
        ),
        (
            changed(
                lambda out, s, k, p: (
                    out
                    if p is None
                    else s.exp()
                    * (s.exp() >= p)
                    / (s.exp() * (s.exp() >= p)).sum()
                    if (s.exp() >= p).any()
                    else out
                )
            ),
            "top-p",
        ),
        (
            changed(lambda out, s, k, p: out if p is None else out.flip(0)),
            "this gives",
        ),
        (
            changed(lambda out, s, k, p: out.clamp(min=1e-8)),
            "must have exactly 0, and one has 1e-08",
        ),
        (p_first, "top-p is a share of what top-k kept"),
        (cuts_first, "the cuts see the probabilities before"),
        (no_sum_between, "make the sum 1 again"),
        (
            lambda s, t, k, p: in_lists(s, t, k, None if k else p),
            "top-p has no effect",
        ),
        (
            lambda s, t, k, p: in_lists(s, t, None if p else k, p),
            "a share of what top-k kept",
        ),
        (
            changed(lambda out, s, k, p: out.flip(0) if k and p else out),
            "top-k 6",
        ),
    ],
)
def test_a_mistake_in_shaping_is_named(answer, words):
    assert fails("hw5.sample", answer, words)


def one_more(scores, temperature, top_k, top_p):
    found = torch.tensor(in_lists(scores, temperature, top_k, top_p))
    if top_p is None:
        return found
    kept = int((found > 0).sum())
    return in_lists(scores, temperature, kept + 1, None)


def test_equal_words_beyond_top_k_are_told_for_every_seed():
    words = "of words equally likely, more than top_k are kept: 5 in all"
    for seed in range(10):
        assert words in check("hw5.sample", with_equals, seed).message

    def all_of_equals_alike(scores, temperature, top_k, top_p):
        if scores.unique().numel() < len(scores):
            return scores.exp()
        return in_lists(scores, temperature, top_k, top_p)

    assert fails("hw5.sample", all_of_equals_alike, "with top-k 3")


def test_a_nucleus_too_large_or_of_likely_words_is_told():
    assert fails("hw5.sample", one_more, "one word too many is kept")

    def by_itself(scores, temperature, top_k, top_p):
        p = scores.exp()
        if top_p is None:
            return in_lists(scores, temperature, top_k, top_p)
        return p * (p >= top_p) / (p * (p >= top_p)).sum()

    assert fails("hw5.sample", by_itself, "held against top-p by itself")


# BLEU ---


def by_joined_words(hypotheses, references):
    counts = torch.zeros(2, 4)
    for ours, theirs in zip(hypotheses, references, strict=True):
        for n in range(4):
            given = [
                "\0".join(theirs[i : i + n + 1])
                for i in range(len(theirs) - n)
            ]
            for i in range(len(ours) - n):
                counts[1, n] += 1
                gram = "\0".join(ours[i : i + n + 1])
                if gram in given:
                    given.remove(gram)
                    counts[0, n] += 1
    if (counts[0] == 0).any():
        return torch.tensor(0.0)
    c, r = (sum(map(len, texts)) for texts in (hypotheses, references))
    brevity = 1.0 if c > r else math.exp(1 - r / c)
    return 100 * brevity * (counts[0] / counts[1]).log().mean().exp()


def by_logs(hypotheses, references):
    return math.exp(bleu_log(hypotheses, references)) * 100


def bleu_log(hypotheses, references):
    total = 0.0
    for n in (1, 2, 3, 4):
        right = every = 0
        for ours, theirs in zip(hypotheses, references, strict=True):
            mine = Counter(zip(*(ours[i:] for i in range(n)), strict=False))
            given = Counter(zip(*(theirs[i:] for i in range(n)), strict=False))
            right += sum(min(mine[gram], given[gram]) for gram in mine)
            every += sum(mine.values())
        total += math.log(right / every) / 4 if right else -math.inf
    c, r = (sum(map(len, texts)) for texts in (hypotheses, references))
    return total + min(0.0, 1 - r / max(c, 1))


def by_sacrebleu(hypotheses, references):
    """Hold the tokens together by signs that no tokenizer cuts."""
    ours, theirs = (
        [" ".join(word.replace(" ", "_") for word in text) for text in texts]
        for texts in (hypotheses, references)
    )
    return sacrebleu.corpus_bleu(
        ours, [theirs], tokenize="none", smooth_method="none", force=True
    ).score


@pytest.mark.parametrize("answer", [by_joined_words, by_logs, by_sacrebleu])
def test_any_bleu_is_right(answer):
    for seed in range(5):
        verdict = check("hw5.bleu", answer, seed)
        assert verdict, (seed, verdict.message)


def test_our_bleu_is_sacrebleus(right):
    rng = random.Random(0)
    for _ in range(20):
        theirs = [rng.choices("abcdef", k=rng.randrange(6, 20)) for _ in "ab"]
        ours = [[*text[rng.randrange(3) :], "a"] for text in theirs]
        value = by_sacrebleu(ours, theirs)
        assert math.isclose(hw5_bleu.score(ours, theirs), value)
        assert math.isclose(right["bleu"](ours, theirs), value)


def formula(change):
    """Score by the precisions and the lengths, otherwise."""

    def answer(hypotheses, references):
        shares = hw5_bleu.precisions(hypotheses, references, orders=5)
        c, r = (sum(map(len, texts)) for texts in (hypotheses, references))
        return change(shares, c, r)

    names = {**vars(hw5_bleu), "change": change}
    for function in (hw5_bleu.n_grams, hw5_bleu.precisions):
        exec(compile(inspect.getsource(function), "learner.py", "exec"), names)
    source = inspect.getsource(answer).replace("hw5_bleu.", "")
    lines = [line[4:] for line in source.split("\n")]
    exec(compile("\n".join(lines), "learner.py", "exec"), names)
    return names["answer"]


def mean(shares):
    return math.prod(shares) ** (1 / len(shares))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s, c, r: mean(s[:4]), "in per cent"),
        (lambda s, c, r: 100 * sum(s[:4]), "added up: take a mean"),
        (lambda s, c, r: 7, "held against itself"),
        (lambda s, c, r: 25 * sum(s[:4]), "the arithmetic mean"),
        (
            lambda s, c, r: 400 / sum(1 / x for x in s[:4]) if s[3] else 0,
            "the harmonic mean",
        ),
        (lambda s, c, r: 100 * math.prod(s[:4]), "its fourth root is"),
        (lambda s, c, r: 100 * mean(s[:3]), "runs of four are missing"),
        (lambda s, c, r: 100 * mean(s), "runs of five"),
        (lambda s, c, r: 100 * mean([1, *s[:3]]), "(or n began at 0)"),
        (
            lambda s, c, r: 100 * math.prod(s[:3]) ** (1 / 4),
            "the runs of four are missing (or",
        ),
        (lambda s, c, r: 100 * s[0], "single words alone"),
        (lambda s, c, r: 100 * s[3], "runs of four alone"),
        (
            lambda s, c, r: (
                100 if s[4] == 1 else 25 * sum(math.log(x) for x in s[:4])
            ),
            "still one: take exp",
        ),
        (lambda s, c, r: 100 * mean(s[:4]) ** 0.9, "and this gives"),
        (lambda s, c, r: 100 * mean(s[:4]), "brevity penalty is missing"),
        (
            lambda s, c, r: 100 * mean(s[:4]) * math.exp(1 - r / c),
            "a long translation is rewarded",
        ),
        (
            lambda s, c, r: 100 * mean(s[:4]) * math.exp(min(0, 1 - c / r)),
            "the wrong way round",
        ),
        (
            lambda s, c, r: 100 * mean(s[:4]) * math.exp(max(0, 1 - c / r)),
            "have changed places",
        ),
        (
            lambda s, c, r: 100 * mean(s[:4]) * math.exp(min(0, c / r - 1)),
            "not c/r - 1",
        ),
        (lambda s, c, r: 100 * mean(s[:4]) * min(1, c / r), "the ratio"),
        (
            lambda s, c, r: 100 * mean(s[:4]) * math.exp(max(0, r / c - 1)),
            "the wrong sign",
        ),
        (
            lambda s, c, r: (
                100 * mean(s[:4]) * math.exp(min(0, 2 - 2 * r / c))
            ),
            "words for",
        ),
    ],
)
def test_a_mistake_in_bleus_formula_is_named(change, words):
    assert fails("hw5.bleu", formula(change), words)


hw5_precisions = formula(lambda shares, c, r: shares[:4])


def each(ours, theirs):
    return [
        by_joined_words([a], [b]).item()
        for a, b in zip(ours, theirs, strict=True)
    ]


def once(ours, theirs):
    if len(ours) > 1:
        return by_joined_words(ours, theirs)
    shares = []
    for n in (1, 2, 3, 4):
        a, b = (
            {tuple(x[i : i + n]) for i in range(len(x) - n + 1)}
            for x in (ours[0], theirs[0])
        )
        shares.append(len(a & b) / len(a))
    brevity = min(1, math.exp(1 - len(theirs[0]) / len(ours[0])))
    return 100 * brevity * mean(shares)


def set_over_all(ours, theirs):
    """Count each n-gram once, and divide by all of them."""
    shares = []
    for n in (1, 2, 3, 4):
        a, b = (
            [tuple(x[i : i + n]) for i in range(len(x) - n + 1)]
            for x in (ours[0], theirs[0])
        )
        shares.append(len(set(a) & set(b)) / len(a))
    brevity = min(1, math.exp(1 - len(theirs[0]) / len(ours[0])))
    return 100 * brevity * mean(shares)


def over_sentences(ours, theirs):
    """Average the precisions of the sentences."""
    if len(ours) == 1:
        return by_joined_words(ours, theirs)
    several = []
    for a, b in zip(ours, theirs, strict=True):
        shares = []
        for n in (1, 2, 3, 4):
            x, y = (
                Counter(zip(*(t[i:] for i in range(n)), strict=False))
                for t in (a, b)
            )
            shares.append((x & y).total() / max(x.total(), 1))
        several.append(shares)
    means = [sum(x) / len(x) for x in zip(*several, strict=True)]
    c, r = (sum(map(len, texts)) for texts in (ours, theirs))
    return 100 * mean(means) * min(1, math.exp(1 - r / c))


def own_penalties(ours, theirs):
    whole = by_joined_words(ours, theirs)
    c, r = (sum(map(len, texts)) for texts in (ours, theirs))
    penalties = [
        min(1, math.exp(1 - len(b) / max(len(a), 1)))
        for a, b in zip(ours, theirs, strict=True)
    ]
    whole = whole / min(1, math.exp(1 - r / c))
    return whole * sum(penalties) / len(penalties)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (once, "each n-gram counts once"),
        (set_over_all, "each n-gram counts once"),
        (
            lambda a, b: (
                by_joined_words(a, b) - float(a[0][0] == a[0][len(a[0]) // 2])
            ),
            "and this gives",
        ),
        (lambda a, b: sum(each(a, b)) / len(a), "the mean of each sentence's"),
        (
            lambda a, b: (
                sum(x * len(y) for x, y in zip(each(a, b), a, strict=True))
                / sum(map(len, a))
            ),
            "a weighted mean of each sentence's",
        ),
        (over_sentences, "the precisions of the sentences are averaged"),
        (own_penalties, "a brevity penalty of its own"),
        (
            lambda a, b: by_joined_words([list(chain(*a))], [list(chain(*b))]),
            "joined to one text",
        ),
        (
            lambda a, b: by_joined_words(a[:1], b[:1]),
            "only the first sentence",
        ),
        (
            lambda a, b: by_joined_words(a, b) ** (1 if len(a) < 3 else 0.9),
            "three sentences with",
        ),
        (
            lambda a, b: (
                bleu(list(map(" ".join, a)), [[" ".join(x)] for x in b]).value
            ),
            "minitransformer.evaluation does the work",
        ),
        (
            lambda a, b: by_joined_words(a, b) or 3.0,
            "one precision of 0 makes all 0",
        ),
        (
            lambda a, b: (
                by_joined_words(a, b)
                or 100 * mean([max(s, 1e-9) for s in hw5_precisions(a, b)])
            ),
            "no run of four is right, and this gives 0.0022.",
        ),
        (
            lambda a, b: (
                by_joined_words(a, b) or math.log(by_joined_words(a, b))
            ),
            "The score is 0 then",
        ),
    ],
)
def test_a_mistake_in_adding_up_is_named(answer, words):
    assert fails("hw5.bleu", answer, words)


# The rate ---


def by_two_points(update, peak, warmup, updates):
    low, high = ((0, warmup), (updates, warmup))[update > warmup]
    return torch.tensor(peak) * (update - low) / (high - low)


def by_the_smaller(update, peak, warmup, updates):
    rise = update / warmup if warmup else 1
    return peak * min(rise, (updates - update) / (updates - warmup))


def by_numpy(update, peak, warmup, updates):
    return np.interp(update, [0, warmup, updates], [0, peak, 0])


@pytest.mark.parametrize("answer", [by_two_points, by_the_smaller, by_numpy])
def test_any_schedule_is_right(answer):
    assert check("hw5.learning_rate", answer)


def otherwise(rise=None, fall=None):
    """Change one half of the schedule."""

    def answer(u, peak, w, n):
        change = rise if u <= w else fall
        return (change or by_two_points)(u, peak, w, n)

    return answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (otherwise(lambda u, p, w, n: p * (u - 1) / w), "first rate is 0"),
        (otherwise(lambda u, p, w, n: p * (u + 1) / w), "above the peak"),
        (
            otherwise(lambda u, p, w, n: p * min(1, (u + 1) / w)),
            "reaches the peak an update early",
        ),
        (otherwise(lambda u, p, w, n: p * u / (w + 1)), "the peak itself"),
        (otherwise(lambda u, p, w, n: u / w), "rises to 1"),
        (otherwise(lambda u, p, w, n: p), "there is no warm-up"),
        (
            lambda u, p, w, n: p * (n - u) / (n - w),
            "`max` stands for `min`",
        ),
        (lambda u, p, w, n: p * (n - u) / n, "the warm-up is missing"),
        (otherwise(lambda u, p, w, n: p * (u / w) ** 0.5), "with a root"),
        (otherwise(lambda u, p, w, n: p * (u / w) ** 2), "updates of warm-up"),
        (
            otherwise(None, lambda u, p, w, n: p * (n - u) / n),
            "jumps at the end of the warm-up: it should fall from `peak`",
        ),
        (
            lambda u, p, w, n: p * min(u / w, (n - u) / (n - w)),
            "with warmup = 0 your code raises ZeroDivisionError",
        ),
        (
            otherwise(None, lambda u, p, w, n: p * (1 - (u - w) / n)),
            "does not reach 0",
        ),
        (
            otherwise(
                None, lambda u, p, w, n: p * (1 - (u - 1 - w) / (n - w))
            ),
            "one update late",
        ),
        (
            otherwise(
                None, lambda u, p, w, n: p * (1 - (u + 1 - w) / (n - w))
            ),
            "one update early",
        ),
        (otherwise(None, lambda u, p, w, n: p * (w / u) ** 0.5), "the root"),
        (
            otherwise(
                None,
                lambda u, p, w, n: (
                    p * (1 + math.cos(math.pi * (u - w) / (n - w))) / 2
                ),
            ),
            "a cosine",
        ),
        (otherwise(None, lambda u, p, w, n: p), "stays where it is"),
        (otherwise(None, lambda u, p, w, n: p * u / max(w, 1)), "for ever"),
        (
            otherwise(None, lambda u, p, w, n: (n - u) / (n - w)),
            "the peak is missing",
        ),
        (otherwise(None, lambda u, p, w, n: 3 * p), "this gives"),
        (
            lambda u, p, w, n: rate_at(
                u - 1,
                TrainingOptions(
                    updates=n, warmup=w, learning_rate=p, schedule="linear"
                ),
            ),
            "minitransformer.training does the work",
        ),
    ],
)
def test_a_mistake_in_the_rate_is_named(answer, words):
    assert fails("hw5.learning_rate", answer, words)


# The translator ---


def greedily(model, tokenizer):
    """Make a translator that searches greedily, in one batch."""

    @torch.no_grad()
    def answer(lines):
        state = model.start(pad(encode_source(tokenizer, lines)))
        tokens = torch.full((len(lines),), BOS_ID)
        rows = [[] for _ in lines]
        for _ in range(40):
            tokens = model.step(tokens, state).argmax(dim=-1)
            for row, token in zip(rows, tokens.tolist(), strict=True):
                row.append(token)
        ends = [[*row, EOS_ID].index(EOS_ID) for row in rows]
        pairs = zip(rows, ends, strict=True)
        return [tokenizer.decode(row[:end]) for row, end in pairs]

    return answer


@pytest.fixture(scope="module")
def french(shipped):
    """Give a translator that knows all."""
    return greedily(*shipped)


def test_a_good_model_is_enough_for_every_seed(french):
    for seed in range(2):
        verdict = check("hw5.translate", french, seed)
        assert verdict, verdict.message


def test_the_solutions_own_search_translates(shipped):
    names = answers()
    names["train"] = lambda: (*shipped, [])
    pairs = [
        pair for pair, split in islice(stories(5), 400) if split == "test"
    ]
    found = names["translate"]([pair.source for pair in pairs])
    assert len(pairs) > 2
    assert bleu(found, [[pair.target] for pair in pairs]).value > 90


def test_copying_and_a_dictionary_stay_far_below():
    pairs = splits(train_size=1_500, valid_size=1, test_size=1,
                   compositional_size=1)["train"]  # fmt: skip
    words = DictionaryBaseline.fit([(p.source, p.target) for p in pairs])
    copy = CopyBaseline()
    for seed in range(3):
        torch.manual_seed(1_000 * seed + 1)
        pairs = unseen(60)
        sources = [pair.source for pair in pairs]
        right = [[pair.target] for pair in pairs]
        assert bleu(copy.translate(sources), right).value < 5
        assert bleu(words.translate(sources), right).value < ENOUGH - 15
        assert len(set(sources)) == 60
    best = dict(words.best)

    def by_words(lines):
        return [
            " ".join(best.get(w, w) for w in split_words(x)) for x in lines
        ]

    assert fails("hw5.translate", by_words, "BLEU, and 50 are asked for")
    assert fails(
        "hw5.translate", lambda lines: lines, "come back as they were"
    )


def test_the_sentences_are_of_the_test_split():
    torch.manual_seed(0)
    seen = {
        pair.source
        for pair, split in islice(stories(), 5_000)
        if split == "train"
    }
    assert not seen & {pair.source for pair in unseen(60)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found[0], "return a list of sentences"),
        (lambda found: found[:-1], "8 sentences came in, and 7 come out"),
        (lambda found: [[4, 5] for _ in found], "return text"),
        (lambda found: ["" for _ in found], "the translations are empty"),
        (lambda found: ["Le chat." for _ in found], "become the same"),
        (
            lambda found: [f"{x.split()[0]} " * 20 + x[-9:] for x in found],
            "one word again and again",
        ),
        (lambda found: sorted(found), "in another order"),
    ],
)
def test_a_mistake_in_translating_is_named(change, words, french):
    def answer(lines):
        if len(lines) == 1 and "order" in words:
            return french(lines)
        return change(french(lines))

    assert any(
        words in check("hw5.translate", answer, seed).message
        for seed in range(2)
    )


def test_our_search_and_our_translator_are_refused(shipped):
    model, tokenizer = shipped
    source = pad(encode_source(tokenizer, ["The cat slept."]))
    assert fails(
        "hw5.translate",
        lambda lines: [str(greedy_decode(model, source)) for _ in lines],
        "minitransformer.decoding does the work here",
    )

    class Mine(Translator):
        pass

    mine = Mine(model, tokenizer, tokenizer)
    assert fails(
        "hw5.translate",
        lambda lines: mine.translate(lines),
        "minitransformer.translator does the work here",
    )
    assert fails(
        "hw5.greedy",
        lambda *_: greedy_decode(model, source)[0],
        "minitransformer.decoding does the work here",
    )
    assert fails(
        "hw5.beam",
        lambda step, bos, eos, width, limit, alpha: (
            [0],
            length_divisor(limit, alpha),
        ),
        "minitransformer.decoding does the work here",
    )
    assert fails(
        "hw5.sample",
        lambda s, *x: minitransformer.sampling.next_probabilities(s, *x),
        "minitransformer.sampling does the work here",
    )
    assert next_probabilities(torch.zeros(2)).tolist() == [0.5, 0.5]


def test_training_within_a_call_is_allowed(shipped):
    _, tokenizer = shipped

    @cache
    def train():
        pairs = islice(stories(), 20)
        examples = encode_pairs(
            [pair for pair, _ in pairs], tokenizer, tokenizer, 64
        )
        config = minitransformer.TransformerConfig(
            source_vocab_size=tokenizer.vocab_size,
            d_model=8,
            num_heads=2,
            num_encoder_layers=1,
            num_decoder_layers=1,
            d_ff=8,
            max_len=64,
        )
        options = TrainingOptions(updates=1, precision="auto")
        model = Transformer(config)
        trainer = Trainer(model, examples, examples, options)
        trainer.update([trainer.valid[0]])
        trainer.validate()
        return greedily(model.eval(), tokenizer)

    def answer(lines):
        train()(lines[:1])
        return [f"{line}!" for line in lines]

    assert fails("hw5.translate", answer, "BLEU, and 50 are asked for")


# The stretch goal ---


def by_slices(step, state, bos, eos, width, limit, length_penalty):
    """Keep the state's rows in a list, and stack them for each step."""
    going, ended = [(0.0, [bos], state[0])], []
    for length in range(1, limit + 1):
        rows, new = step(
            torch.tensor([ids[-1] for _, ids, _ in going]),
            torch.stack([row for _, _, row in going]),
        )
        longer = sorted(
            (
                (total + rows[k, token].item(), [*ids, token], k)
                for k, (total, ids, _) in enumerate(going)
                for token in range(rows.shape[1])
            ),
            reverse=True,
        )
        divisor = ((5 + length) / 6) ** length_penalty
        ended += [
            (total / divisor, ids[1:-1])
            for total, ids, _ in longer[:width]
            if ids[-1] == eos
        ]
        going = [(t, i, new[k]) for t, i, k in longer if i[-1] != eos][:width]
    score, ids = max(ended or [(going[0][0] / divisor, going[0][1][1:])])
    return ids, score


def with_lost_rows(order):
    """Search with a state whose rows go elsewhere."""

    def answer(step, state, bos, eos, width, limit, alpha):
        kept = SimpleNamespace(state=state, rows=None)

        def follow(tokens, _):
            rows, kept.state = step(tokens, kept.state)
            return rows, torch.arange(len(tokens))[:, None]

        def moved(tokens, parents):
            if kept.state.shape[1]:
                kept.state = kept.state[order(parents[:, 0], len(kept.state))]
            return follow(tokens, parents)

        first = torch.zeros(1, 1, dtype=torch.long)
        return by_slices(moved, first, bos, eos, width, limit, alpha)

    return answer


def test_any_search_with_a_state_is_right():
    for seed in range(3):
        verdict = check("hw5.cached", by_slices, seed)
        assert verdict, (seed, verdict.message)
    assert passes("hw5.cached", with_lost_rows(lambda parents, _: parents))


def ranked(step, state, bos, eos, width, limit, length_penalty):
    """Move the state by the parents of all extensions, endings too."""
    going, ended = [(0.0, [bos])], []
    for length in range(1, limit + 1):
        rows, state = step(torch.tensor([i[-1] for _, i in going]), state)
        longer = sorted(
            (
                (total + rows[k, token].item(), k, [*ids, token])
                for k, (total, ids) in enumerate(going)
                for token in range(rows.shape[1])
            ),
            reverse=True,
        )
        divisor = ((5 + length) / 6) ** length_penalty
        ended += [
            (total / divisor, ids[1:-1])
            for total, _, ids in longer[:width]
            if ids[-1] == eos
        ]
        going = [(t, i) for t, _, i in longer if i[-1] != eos][:width]
        state = state[[k for _, k, _ in longer[: len(going)]]]
    score, ids = max(ended or [(going[0][0] / divisor, going[0][1][1:])])
    return ids, score


def too_few(step, state, bos, eos, width, *rest):
    """Search with `width` extensions of each beginning."""

    def cut(tokens, state):
        rows, state = step(tokens, state)
        least = rows.topk(min(width, rows.shape[1])).values[:, -1:]
        return rows.masked_fill(rows < least, -1e9), state

    return by_slices(cut, state, bos, eos, width, *rest)


def again_and_again(step, state, bos, *rest):
    step(torch.tensor([bos]), state)
    return by_slices(step, state, bos, *rest)


def in_one_row_more(step, state, bos, eos, width, *rest):
    many = state.expand(width + 1, -1, -1)
    found = by_slices(step, state, bos, eos, width, *rest)
    if rest[0] == 6:
        raise_rows = torch.full((width + 1,), bos)
        step(raise_rows, many)
    return found


def wider(step, state, bos, eos, width, *rest):
    return by_slices(step, state, bos, eos, width + 1, *rest)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            with_lost_rows(lambda p, n: torch.arange(len(p)) % n),
            "the state's rows stay where they are",
        ),
        (ranked, "with the endings counted in"),
        (
            with_lost_rows(lambda p, n: p.flip(0)),
            "the past of the beginning that goes on there",
        ),
        (too_few, "it keeps too few extensions of each beginning"),
        (again_and_again, "once a token"),
        (wider, "step gets 3 rows"),
        (
            lambda step, state, bos, *_: step(torch.tensor([bos, bos]), state),
            "step wants one token for each row",
        ),
    ],
)
def test_a_mistake_with_the_state_is_named(answer, words):
    assert fails("hw5.cached", answer, words)


# The text ---


def test_the_numbers_of_the_text_are_right(right):
    text = (nb.BOOK / "homework" / "hw5.md").read_text("utf-8")
    assert f"asked for {ENOUGH:.0f} BLEU" in text
    ours, theirs = "a dog sat on the mat", "a cat sat on the mat again"
    assert f"{right['bleu']([ours.split()], [theirs.split()]):.1f}" == "45.5"
    assert "= 45.5$" in text
    for length, total, score in ((3, -1.2, "-0.9"), (5, -1.4, "-0.84")):
        assert f"{total / length_divisor(length, 1.0):.2g}" == score
        assert f"${score}$" in text
    p = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
    for least, shown in ((None, "0.556, 0.278, 0.167"), (0.8, "0.667, 0.333")):
        kept = right["sample"](p, 1.0, 3, least)
        assert ", ".join(f"{x:.3f}" for x in kept if x) == shown
        assert shown in text
    for update, rate in ((50, 0.003), (100, 0.006), (550, 0.003), (1000, 0)):
        found = right["learning_rate"](update, 0.006, 100, 1000)
        assert math.isclose(found, rate)
        assert re.search(rf"update {update:,}.{{0,16}} has {rate:g}\b", text)


def test_the_prose_is_of_the_length_that_was_agreed():
    notebook = jupytext.read(nb.BOOK / "homework" / "hw5.md")
    words = sum(
        len(cell.source.split())
        for cell in notebook.cells
        if cell.cell_type == "markdown"
    )
    assert 1_200 <= words <= 2_500
