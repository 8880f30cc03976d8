"""The checks of chapter 11 know right answers from wrong ones, and why."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import fails, passes

from minitransformer.homework import check
from minitransformer.sampling import next_probabilities


@pytest.mark.parametrize("name", ["11.1", "11.2", "11.3", "11.4"])
def test_a_stub_waits(name):
    assert "waits for your answer" in check(name, lambda *_: ...).message
    assert "waits for your answer" in check(name, ...).message


# 11.1 ---


def by_sorting(x, p):
    ordered, words = x.sort(descending=True)
    stays = ordered.cumsum(0) - ordered < p - 1e-9
    kept = torch.zeros_like(x)
    kept[words] = ordered * stays
    return kept / kept.sum()


def by_loop(x, p):
    kept, total = [0.0] * len(x), 0.0
    for i in sorted(range(len(x)), key=lambda i: -x[i]):
        if total >= p - 1e-9:
            break
        kept[i] = float(x[i])
        total += kept[i]
    return [one / total for one in kept]


def with_numpy(x, p):
    x = x.numpy()
    order = np.argsort(-x)
    count = int(np.searchsorted(np.cumsum(x[order]), p - 1e-9)) + 1
    kept = np.zeros_like(x)
    kept[order[:count]] = x[order[:count]]
    return kept / kept.sum()


@pytest.mark.parametrize("answer", [by_sorting, by_loop, with_numpy])
def test_any_nucleus_will_do(answer):
    assert passes("11.1", answer)


def keep(x, stays):
    return x * stays / (x * stays).sum()


def without_the_last(x, p):
    ordered, words = x.sort(descending=True)
    kept = torch.zeros_like(x)
    kept[words] = ordered * (ordered.cumsum(0) <= p + 1e-9)
    return kept / kept.sum()


def from_below(x, p):
    ordered, words = x.sort()
    kept = torch.zeros_like(x)
    kept[words] = ordered * (ordered.cumsum(0) - ordered < p - 1e-9)
    return kept / kept.sum()


def not_shared_out(x, p):
    return x * (by_sorting(x, p) > 0)


def one_too_many(x, p):
    ordered, words = x.sort(descending=True)
    kept = torch.zeros_like(x)
    kept[words] = ordered * (ordered.cumsum(0) - ordered <= p)
    return kept / kept.sum()


def doubly_sorted(x, p):
    ordered, words = x.sort(descending=True)
    kept = (ordered * (ordered.cumsum(0) - ordered < p - 1e-9))[words]
    return kept / kept.sum()


def softened(x, p):
    return x.where(by_sorting(x, p) > 0, -math.inf).softmax(0)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (not_shared_out, "no longer sum to 1"),
        (without_the_last, "It must stay"),
        (lambda x, p: keep(x, x >= p), "by itself"),
        (lambda x, p: keep(x, x.cumsum(0) - x < p - 1e-9), "of their ids"),
        (from_below, "sort the other way"),
        (
            lambda x, p: by_sorting(x, p).sort(descending=True).values,
            "in sorted order",
        ),
        (one_too_many, "that is enough"),
        (doubly_sorted, "wrong places"),
        (softened, "changes their proportions"),
        (lambda x, p: x, "nothing is cut off"),
        (lambda x, p: next_probabilities(x.log(), p), "a temperature"),
        (lambda x, p: x.flip(0), "one after the other"),
        (lambda x, p: by_sorting(x, p)[:2], "shape"),
    ],
)
def test_a_wrong_nucleus_is_explained(answer, phrase):
    assert fails("11.1", answer, phrase)


# 11.2 ---


def grams(words, n):
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def with_counters(ours, theirs, n):
    most = Counter()
    for words in theirs:
        most |= grams(words, n)
    return (grams(ours, n) & most).total(), grams(ours, n).total()


def with_loops(ours, theirs, n):
    listed = [tuple(ours[i : i + n]) for i in range(len(ours) - n + 1)]
    right = 0
    for gram in set(listed):
        most = 0
        for words in theirs:
            there = 0
            for i in range(len(words) - n + 1):
                there += tuple(words[i : i + n]) == gram
            most = max(most, there)
        right += min(most, listed.count(gram))
    return [right, len(listed)]


@pytest.mark.parametrize("answer", [with_counters, with_loops])
def test_any_clipped_counts_will_do(answer):
    assert passes("11.2", answer)


def unclipped(ours, theirs, n):
    there = {gram for words in theirs for gram in grams(words, n)}
    mine = grams(ours, n)
    return sum(k for g, k in mine.items() if g in there), mine.total()


def kinds(ours, theirs, n):
    there = {gram for words in theirs for gram in grams(words, n)}
    return len(grams(ours, n).keys() & there), len(grams(ours, n))


def added_up(ours, theirs, n):
    total = sum((grams(words, n) for words in theirs), Counter())
    return (grams(ours, n) & total).total(), grams(ours, n).total()


def each_added(ours, theirs, n):
    mine = grams(ours, n)
    return sum((mine & grams(t, n)).total() for t in theirs), mine.total()


def best_one(ours, theirs, n):
    mine = grams(ours, n)
    return max((mine & grams(t, n)).total() for t in theirs), mine.total()


def recall(ours, theirs, n):
    right, _ = with_counters(ours, theirs, n)
    return right, max(grams(words, n).total() for words in theirs)


def a_share(ours, theirs, n):
    right, total = with_counters(ours, theirs, n)
    return right / max(total, 1), total


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (unclipped, "not clipped"),
        (kinds, "counted once"),
        (added_up, "counts are added up"),
        (each_added, "of all references are added up"),
        (lambda a, b, n: with_counters(a, b[:1], n), "only the first"),
        (best_one, "best single reference"),
        (
            lambda a, b, n: (with_counters(a, b, n)[0], len(a)),
            "counts words",
        ),
        (recall, "that is recall"),
        (lambda a, b, n: with_counters(a, b, 1), "single words"),
        (
            lambda a, b, n: with_counters(a[:-1], [t[:-1] for t in b], n),
            "last n-gram",
        ),
        (
            lambda a, b, n: (with_counters(a, b, n)[0], len(a) - n + 1),
            "cross one off",
        ),
        (lambda *a: with_counters(*a)[::-1], "changed places"),
        (a_share, "not the share"),
        (lambda a, b, n: (7, 7), "cross one off"),
        (lambda *a: with_counters(*a)[0], "two numbers"),
    ],
)
def test_wrong_counts_are_explained(answer, phrase):
    assert fails("11.2", answer, phrase)


# 11.3 ---


def appended(x, keys, values, w_q, w_k, w_v):
    keys = torch.cat([keys, (x @ w_k)[None]])
    values = torch.cat([values, (x @ w_v)[None]])
    scores = keys @ (x @ w_q) / math.sqrt(keys.shape[1])
    return scores.softmax(0) @ values, keys, values


def with_torch(x, keys, values, w_q, w_k, w_v):
    keys = torch.vstack([keys, x @ w_k])
    values = torch.vstack([values, x @ w_v])
    query = (x @ w_q)[None]
    output = F.scaled_dot_product_attention(query, keys, values)
    return [output[0], keys, values]


def in_numpy(x, keys, values, w_q, w_k, w_v):
    x, keys, values, w_q, w_k, w_v = (
        each.numpy() for each in (x, keys, values, w_q, w_k, w_v)
    )
    keys = np.concatenate([keys, [x @ w_k]])
    values = np.concatenate([values, [x @ w_v]])
    scores = keys @ (x @ w_q) / np.sqrt(keys.shape[1])
    weights = np.exp(scores - scores.max())
    return weights / weights.sum() @ values, keys, values


@pytest.mark.parametrize("answer", [appended, with_torch, in_numpy])
def test_any_cached_step_will_do(answer):
    assert passes("11.3", answer)


def output_from(weigh):
    """Make an answer with a right cache and another output."""

    def answer(x, keys, values, w_q, w_k, w_v):
        _, longer, more = appended(x, keys, values, w_q, w_k, w_v)
        return weigh(x, x @ w_q, longer, more), longer, more

    return answer


def root(keys):
    return math.sqrt(keys.shape[1])


def with_rows(change, which):
    """Make an answer that returns other keys (1) or values (2)."""

    def answer(x, *rest):
        parts = list(appended(x, *rest))
        old, w = rest[which - 1], rest[which + 2]
        parts[which] = change(x, parts[which], old, w)
        return tuple(parts)

    return answer


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (
            output_from(lambda x, q, k, v: (k @ q).softmax(0) @ v),
            "not divided by",
        ),
        (
            output_from(
                lambda x, q, k, v: (k @ q / k.shape[1]).softmax(0) @ v
            ),
            "The divisor is its root",
        ),
        (
            output_from(
                lambda x, q, k, v: (k @ q / math.sqrt(len(x))).softmax(0) @ v
            ),
            "divided by √D",
        ),
        (
            output_from(
                lambda x, q, k, v: (
                    (k @ q / math.sqrt(v.shape[1])).softmax(0) @ v
                )
            ),
            "divided by √d_v",
        ),
        (
            output_from(
                lambda x, q, k, v: (k @ q / math.sqrt(len(k))).softmax(0) @ v
            ),
            "number of tokens",
        ),
        (lambda *a: [appended(*a)[i] for i in (0, 2, 1)], "changed places"),
        (output_from(lambda x, q, k, v: k @ q / root(k) @ v), "missing"),
        (output_from(lambda x, q, k, v: v.mean(0)), "plain mean"),
        (output_from(lambda x, q, k, v: v[-1]), "itself alone"),
        (
            output_from(
                lambda x, q, k, v: (k @ k[-1] / root(k)).softmax(0) @ v
            ),
            "The query is",
        ),
        (
            output_from(
                lambda x, q, k, v: (k[:-1] @ q / root(k)).softmax(0) @ v[:-1]
            ),
            "look at itself",
        ),
        (output_from(lambda x, q, k, v: 2 * v[-1]), "One query meets"),
        (output_from(lambda x, q, k, v: v), "the output has shape"),
        (
            output_from(
                lambda x, q, k, v: ((k @ q / root(k)).softmax(0) @ v)[None]
            ),
            "(1, 4)",
        ),
        (lambda *a: appended(*a)[0], "three things"),
        (with_rows(lambda x, new, old, w: old, 1), "keys come back"),
        (with_rows(lambda x, new, old, w: new[-1:], 1), "before are lost"),
        (with_rows(lambda x, new, old, w: new[-1], 2), "before are lost"),
        (
            with_rows(lambda x, new, old, w: torch.cat([new[-1:], old]), 2),
            "stands in front",
        ),
        (
            with_rows(lambda x, new, old, w: torch.cat([new, new[-1:]]), 1),
            "appended twice",
        ),
        (
            with_rows(lambda x, new, old, w: torch.cat([old, x[None]]), 1),
            "project it first",
        ),
        (
            with_rows(
                lambda x, new, old, w: torch.cat([old, (w @ x)[None]]), 2
            ),
            "transposed",
        ),
        (with_rows(lambda x, new, old, w: 2 * new, 1), "stay as they are"),
        (with_rows(lambda x, new, old, w: new.T, 2), "should have"),
        # Right but where the widths differ, or for the first token:
        (
            with_rows(
                lambda x, new, old, w: new * (2 - (len(w) == len(w.T))), 1
            ),
            "stay as they are",
        ),
        (
            output_from(
                lambda x, q, k, v: (
                    (k @ q / root(k)).softmax(0) @ v * (1 + (len(k) == 1))
                )
            ),
            "1 tokens",
        ),
    ],
)
def test_a_wrong_cached_step_is_explained(answer, phrase):
    assert fails("11.3", answer, phrase)


# 11.4 ---


def searching(takes_place=False, any_rank=False, early=False, log=False):
    """Write beam search in one of its usual forms."""

    def search(next_words, width, limit):
        going, ended = [(0.0, ())], []
        for _ in range(limit):
            longer = [
                (total + math.log(p), (*said, word))
                for total, said in going
                for word, p in next_words(said).items()
            ]
            longer.sort(reverse=True)
            pool = longer if any_rank else longer[:width]
            ended += [(p, s[:-1]) for p, s in pool if s[-1] == "EOS"]
            pool = longer[:width] if takes_place else longer
            going = [one for one in pool if one[1][-1] != "EOS"][:width]
            if not going or (early and len(ended) >= width):
                break
        if not ended:
            return (), 0.0
        total, said = max(ended)
        return said, total if log else math.exp(total)

    return search


def shrinking(next_words, width, limit):
    going, ended = [(1.0, ())], []
    while going:
        best = extended(next_words, going)[: width - len(ended)]
        ended += [(p, s[:-1]) for p, s in best if s[-1] == "EOS"]
        going = [one for one in best if one[1][-1] != "EOS"]
    p, said = max(ended)
    return said, p


def extended(next_words, going):
    longer = [
        (p * q, (*said, word))
        for p, said in going
        for word, q in next_words(said).items()
    ]
    return sorted(longer, reverse=True)


def test_a_beam_may_shrink_with_each_that_ends():
    for _ in range(5):
        assert passes("11.4", shrinking)


@pytest.mark.parametrize("any_rank", [False, True])
@pytest.mark.parametrize("early", [False, True])
def test_any_beam_search_will_do(any_rank, early):
    assert passes("11.4", searching(any_rank=any_rank, early=early))


def with_ended_in_the_beam(next_words, width, limit):
    kept = [(1.0, (), False)]
    for _ in range(limit + 1):
        pool = [one for one in kept if one[2]]
        for p, said, over in kept:
            if not over:
                pool += [
                    (p * q, said, True)
                    if word == "EOS"
                    else (p * q, (*said, word), False)
                    for word, q in next_words(said).items()
                ]
        kept = sorted(pool, reverse=True)[:width]
        if all(over for _, _, over in kept):
            break
    return list(kept[0][1]), kept[0][0]


def test_ended_sentences_may_stay_in_the_beam():
    assert passes("11.4", with_ended_in_the_beam)


def without_pruning(next_words, width, limit):
    going, ended = [(1.0, ())], []
    for _ in range(limit):
        longer = [
            (p * q, (*said, word))
            for p, said in going
            for word, q in next_words(said).items()
        ]
        ended += [(p, s[:-1]) for p, s in longer if s[-1] == "EOS"]
        going = [one for one in longer if one[1][-1] != "EOS"]
    p, said = max(ended)
    return said, p


def changed(change):
    """Return another probability, or sentence, than the right one."""

    def answer(next_words, width, limit):
        said, p = searching()(next_words, width, limit)
        factors = [
            next_words(said[:i])[word] for i, word in enumerate((*said, "EOS"))
        ]
        return change(said, p, factors)

    return answer


def the_worst(next_words, width, limit):
    going, ended = [(1.0, ())], []
    for _ in range(limit):
        longer = [
            (p * q, (*said, word))
            for p, said in going
            for word, q in next_words(said).items()
        ]
        longer.sort()
        ended += [(p, s[:-1]) for p, s in longer if s[-1] == "EOS"]
        going = [one for one in longer if one[1][-1] != "EOS"][:width]
    p, said = min(ended)
    return said, p


def past_the_end(next_words, width, limit):
    said, p = searching()(next_words, width, limit)
    next_words((*said, "EOS"))
    return said, p


def from_bos(next_words, width, limit):
    next_words(("BOS",))
    return (), 1.0


def the_first_to_end(next_words, width, limit):
    going = [(1.0, ())]
    for _ in range(limit):
        longer = extended(next_words, going)
        for p, said in longer[:width]:
            if said[-1] == "EOS":
                return said[:-1], p
        going = longer[:width]
    return None


def until_the_best_ends(next_words, width, limit):
    going = [(1.0, ())]
    while True:
        longer = extended(next_words, going)
        if longer[0][1][-1] == "EOS":
            return longer[0][1][:-1], longer[0][0]
        going = [one for one in longer if one[1][-1] != "EOS"][:width]


def greedy_from_each_first_word(next_words, width, limit):
    going, ended = [(1.0, ())], []
    for step in range(limit):
        longer = []
        for one in going:
            longer += extended(next_words, [one])[: 1 if step else width]
        longer.sort(reverse=True)
        ended += [(p, s[:-1]) for p, s in longer if s[-1] == "EOS"]
        going = [one for one in longer if one[1][-1] != "EOS"][:width]
    p, said = max(ended)
    return said, p


def greedy(next_words, width, limit):
    return searching()(next_words, 1, limit)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (greedy, "greedy search finds"),
        (without_pruning, "keep the best `width`"),
        (the_worst, "better"),
        (the_first_to_end, "first sentence that ends"),
        (until_the_best_ends, "first sentence that ends"),
        (greedy_from_each_first_word, ""),
        (past_the_end, "what follows EOS"),
        (from_bos, "begins empty"),
        (searching(log=True), "not its log"),
        (changed(lambda s, p, f: (s, p / f[-1])), "factor of EOS"),
        (changed(lambda s, p, f: (s, f[-1])), "last factor"),
        (changed(lambda s, p, f: (s, sum(f))), "added up"),
        (changed(lambda s, p, f: (s, p ** (1 / len(f)))), "a mean"),
        (changed(lambda s, p, f: (s, p / 3)), "has the probability"),
        (changed(lambda s, p, f: (p, s)), "comes first"),
        (changed(lambda s, p, f: (" ".join(s), p)), "tuple of words"),
        (changed(lambda s, p, f: ((*s, "EOS"), p)), "leave EOS out"),
        (changed(lambda s, p, f: s), "two things"),
        (changed(lambda s, p, f: (("a",) * 9, p)), "has not ended"),
        (lambda *_: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_wrong_search_is_explained(answer, phrase):
    assert fails("11.4", answer, phrase)


def test_the_quiz_has_a_key():
    assert check("11.quiz", list("CABBC"))
