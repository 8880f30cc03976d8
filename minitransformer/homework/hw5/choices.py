"""Homework 5: the tests of what is drawn from, and of the learning rate."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    numbers,
)
from minitransformer.homework.hw5.tasks import learning_rate, sample

TIGHT = 1e-5

# What a word is drawn from ---


def shared(kept: Tensor) -> Tensor:
    """Make a sum 1 again; nan if there is nothing."""
    return kept / kept.sum()


def cut_k(p: Tensor, k: int) -> Tensor:
    """Keep the ``k`` likeliest; the sum is what it is."""
    stays = torch.zeros_like(p, dtype=torch.bool)
    stays[p.argsort(descending=True)[:k]] = True
    return p * stays


def cut_p(p: Tensor, least: float, inside: bool = True) -> Tensor:
    """Keep the nucleus; ``inside``: with the word that crosses the line."""
    ordered, words = p.sort(descending=True)
    sums = ordered.cumsum(0)
    stays = (sums - ordered < least) if inside else (sums <= least)
    kept = torch.zeros_like(p)
    kept[words] = ordered * stays
    return kept


def draw_words(count: int) -> Tensor:
    """Draw log-probabilities of words, none of them sure."""
    return torch.randn(count, dtype=torch.double).log_softmax(0)


def line_within(p: Tensor, word: int) -> float:
    """Return a top-p that word number ``word``, from 1, crosses."""
    sums = p.sort(descending=True).values.cumsum(0)
    return float(sums[word - 1] - p.sort(descending=True).values[word - 1] / 2)


def refuse_remains(found: Tensor, right: Tensor) -> None:
    """Refuse chances too small to differ from 0, where 0 is right."""
    if (found[right == 0] != 0).any():
        raise Wrong(
            "words that are cut off must have exactly 0, and one has"
            f" {found[right == 0].abs().max():.0e}."
        )


@sample.test("without a choice it gives the probabilities", 11, "By chance")
def check_plain(answer: Any) -> None:
    """Try temperature 1 and no cut."""
    for V in (5, 8):
        scores = draw_words(V)
        p = scores.exp()
        found = numbers(call(answer, scores, 1.0, None, None), (V,))
        if not is_near(found, p, TIGHT):
            explain(
                found,
                [
                    (scores, "these are log-probabilities still."),
                    (p.softmax(0), "the softmax was taken of probabilities:"
                     " it belongs to the log-probabilities."),
                    (p.sort(descending=True).values, "the numbers stand in"
                     " sorted order: each belongs to its word's place."),
                    (torch.eye(V)[p.argmax()], "that is greedy search: give"
                     " the probabilities, and draw later."),
                ],
                "with temperature 1 and nothing cut off, the probabilities"
                f" are {shown(p)}, and this gives {shown(found)}.",
                TIGHT,
            )  # fmt: skip


@sample.test("the temperature divides the logarithms", 11, "By chance")
def check_temperature(answer: Any) -> None:
    """Try temperatures below and above 1."""
    for V, tau in ((6, 0.5), (9, 2.0), (5, 0.8)):
        scores = draw_words(V)
        p = scores.exp()
        found = numbers(call(answer, scores, tau, None, None), (V,))
        right = (scores / tau).softmax(0)
        if not is_near(found, right, TIGHT):
            explain(
                found,
                [
                    ((scores * tau).softmax(0), "the temperature multiplies:"
                     " a low one must sharpen, so divide."),
                    (p, "the temperature has no effect: it divides the"
                     " log-probabilities *before* the softmax."),
                    (p / tau, "the temperature divides the probabilities,"
                     " after the softmax: it belongs before."),
                    ((p / tau).softmax(0), "the temperature divides"
                     " probabilities: it divides their logarithms."),
                    ((scores / tau).exp(), "the sum is no longer 1: divide"
                     " by it, or take a softmax."),
                ],
                f"at temperature {tau:g} {shown(p)} becomes {shown(right)},"
                f" and this gives {shown(found)}.",
                TIGHT,
            )  # fmt: skip


@sample.test("top-k keeps the k likeliest", 11, "By chance")
def check_top_k(answer: Any) -> None:
    """Try one word, several, and more than there are."""
    for V, k in ((7, 3), (8, 2), (6, 1), (9, 5), (4, 4), (5, 30)):
        scores = draw_words(V)
        p = scores.exp()
        try:
            found = numbers(call(answer, scores, 1.0, k, None), (V,))
        except Wrong as wrong:
            if k <= V or wrong.__cause__ is None:
                raise
            raise Wrong(
                f"with top-k {k} and {V} words {wrong}. Nothing is cut off"
                " then."
            ) from None
        right = shared(cut_k(p, k))
        if not is_near(found, right, TIGHT):
            explain(
                found,
                [
                    (shared(cut_k(p, k + 1)), f"with top-k {k}, {k + 1} words"
                     " are kept."),
                    (shared(cut_k(p, k - 1)), f"with top-k {k}, {k - 1} words"
                     " are kept."),
                    (shared(p - cut_k(p, max(V - k, 0))), "the least likely"
                     " words are kept: sort the other way."),
                    (cut_k(p, k), "the right words are kept, and their sum is"
                     " not 1: divide by it."),
                    (p, "top-k cuts nothing off."),
                    (cut_k(p, k).softmax(0), "words that are cut off must"
                     " have exactly 0: the softmax of 0 is not 0."),
                    (shared(torch.cat([p[:k], torch.zeros(max(V - k, 0))])),
                     "these are the first words, not the likeliest."),
                ],
                f"with top-k {k} {shown(p)} becomes {shown(right)}, and this"
                f" gives {shown(found)}.",
                TIGHT,
            )  # fmt: skip
        refuse_remains(found, right)


@sample.test("top-k keeps no more than k of equal words", 11, "By chance")
def check_ties(answer: Any) -> None:
    """Try words that are equally likely; any of them may stay."""
    for V, k, above, equal in ((7, 3, 1, 4), (6, 2, 0, 3), (5, 2, 0, 5)):
        ordered = draw_words(V).sort(descending=True).values
        ordered[above : above + equal] = ordered[above].clone()
        scores = ordered[torch.randperm(V)].log_softmax(0)
        p = scores.exp()
        found = numbers(call(answer, scores, 1.0, k, None), (V,))
        right = shared(cut_k(p, k))
        if is_near(found, shared(p * (found > 0)), TIGHT) and is_near(
            found.sort().values, right.sort().values, TIGHT
        ):
            continue
        least = p.sort(descending=True).values[k - 1]
        explain(
            found,
            [
                (shared(p * (p > least - TIGHT)), "of words equally likely,"
                 f" more than top_k are kept: {above + equal} in all with"
                 f" top-k {k}. It does not matter which of them stay."),
            ],
            f"with top-k {k} {shown(p)} becomes {shown(right)}, and this"
            f" gives {shown(found)}.",
            TIGHT,
        )  # fmt: skip


@sample.test("top-p keeps the word that crosses the line", 11, "By chance")
def check_top_p(answer: Any) -> None:
    """Try lines that the first, the second or a later word crosses."""
    for V, word in ((7, 3), (8, 2), (6, 1), (9, 4)):
        scores = draw_words(V)
        p = scores.exp()
        least = line_within(p, word)
        alone = "each word is held against top-p by itself: it is the sum of"
        alone += " the likeliest that must reach it."
        found = numbers(call(answer, scores, 1.0, None, least), (V,))
        right = shared(cut_p(p, least))
        if not is_near(found, right, TIGHT):
            explain(
                found,
                [
                    (shared(cut_p(p, least, inside=False)), "the word that"
                     " crosses the line is dropped, so what is kept has less"
                     f" than top-p {least:.2f}: it must stay."),
                    (p * math.nan, alone),  # none has it by itself
                    (cut_p(p, least), "the right words are kept, and their"
                     " sum is not 1: divide by it."),
                    (shared(cut_k(p, word + 1)), "one word too many is kept:"
                     f" those before it have top-p {least:.2f} already."),
                    (shared(p * (p >= least)), alone),
                    (right[p.argsort(descending=True)], "the numbers stand in"
                     " sorted order: each belongs to its word's place."),
                    (p, "top-p cuts nothing off."),
                ],
                f"with top-p {least:.2f} {shown(p)} becomes {shown(right)},"
                f" and this gives {shown(found)}.",
                TIGHT,
            )  # fmt: skip
        refuse_remains(found, right)


@sample.test("first the temperature, then top-k, then top-p", 11, "By chance")
def check_together(answer: Any) -> None:
    """Try all three, where another order gives something else."""
    for V, tau, k, word in ((9, 2.5, 6, 3), (8, 2.0, 5, 4), (10, 3.0, 7, 2)):
        while True:
            scores = draw_words(V)
            hot = (scores / tau).softmax(0)
            few = shared(cut_k(hot, k))
            least = line_within(few, word)
            right = shared(cut_p(few, least))
            cold = cut_p(shared(cut_k(scores.exp(), k)), least)
            wrong = [
                shared((cold ** (1 / tau)) * (cold > 0)),
                shared(cut_p(cut_k(hot, k), least)),
                shared(cut_p(hot, least)),
                few,
            ]
            if not any(is_near(one, right, 1e-3) for one in wrong):
                break
        found = numbers(call(answer, scores, tau, k, least), (V,))
        if not is_near(found, right, TIGHT):
            share = "top-p is a share of what top-k kept: cut by top-k, make"
            share += " the sum 1 again, and cut by top-p then."
            words = (
                "the cuts see the probabilities before the temperature: it"
                " comes first.",
                share,
                share,
                "with both given, top-p has no effect.",
            )
            explain(
                found,
                list(zip(wrong, words, strict=True)),
                f"with temperature {tau:g}, top-k {k} and top-p {least:.2f}"
                f" {shown(scores.exp())} becomes {shown(right)}, and this"
                f" gives {shown(found)}.",
                TIGHT,
            )


def shown(values: Tensor) -> str:
    """Write a few numbers."""
    return "[" + ", ".join(f"{value:.3f}" for value in values.tolist()) + "]"


# The learning rate ---

STEPS = "How large a step, and when"


def rates(update: Tensor, peak: float, warmup: int, updates: int) -> Tensor:
    """Return the rates of many updates, counted from 1."""
    fall = peak * (updates - update) / (updates - warmup)
    if not warmup:
        return fall
    return torch.where(update <= warmup, peak * update / warmup, fall)


def ask_rates(
    answer: Any, at: Sequence[int], peak: float, warmup: int, updates: int
) -> Tensor:
    """Ask for several updates."""
    try:
        return torch.stack(
            [numbers(call(answer, i, peak, warmup, updates), ()) for i in at]
        )
    except Wrong as wrong:
        if warmup:
            raise
        raise Wrong(f"with warmup = 0 {wrong}") from None


@learning_rate.test("it rises in a straight line to the peak", 10, STEPS)
def check_rise(answer: Any) -> None:
    """Ask during the warm-up, its last update included."""
    for warmup, updates in ((4, 20), (100, 800), (10, 35)):
        peak = 1 + 2 * float(torch.rand(()))
        at = [1, warmup // 2, warmup - 1, warmup]
        found = ask_rates(answer, at, peak, warmup, updates)
        u = torch.tensor(at).double()
        right = rates(u, peak, warmup, updates)
        if is_near(found, right, TIGHT):
            continue
        explain(
            found,
            [
                (rates(u - 1, peak, warmup, updates), "the warm-up is off by"
                 " one, and the first rate is 0: updates are counted"
                 " from 1."),
                (peak * (u + 1) / warmup, "the warm-up is off by one, and its"
                 " last rate is above the peak: updates are counted from 1."),
                (torch.cat([found.new_tensor([]), (peak * (u + 1) / warmup)
                 .clamp(max=peak)]), "the warm-up is off by one: it reaches"
                 " the peak an update early."),
                (peak * u / (warmup + 1), "the warm-up is off by one: update"
                 " number `warmup` has the peak itself."),
                (right / peak, "the peak is missing: this rises to 1."),
                (torch.full_like(u, peak), "there is no warm-up."),
                (peak * (updates - u) / (updates - warmup), "this only falls:"
                 " the warm-up is missing, or `max` stands for `min`."),
                (peak * (updates - u) / updates, "this only falls: the"
                 " warm-up is missing."),
                (peak * (u / warmup) ** 0.5, "it rises with a root: a straight"
                 " line is wanted."),
            ],
            f"with peak {peak:.2f} and {warmup} updates of warm-up, updates"
            f" {at} have {shown(right)}, and this gives {shown(found)}.",
            TIGHT,
        )  # fmt: skip


@learning_rate.test("it falls from there, without a jump, to 0", 10, STEPS)
def check_fall(answer: Any) -> None:
    """Ask just after the warm-up, later, and at the last update."""
    for warmup, updates in ((4, 20), (100, 800), (10, 35), (0, 12)):
        peak = 1 + 2 * float(torch.rand(()))
        at = [warmup + 1, (warmup + updates) // 2, updates - 1, updates]
        found = ask_rates(answer, at, peak, warmup, updates)
        u = torch.tensor(at).double()
        right = rates(u, peak, warmup, updates)
        if is_near(found, right, TIGHT):
            continue
        share = (u - warmup) / (updates - warmup)
        n = updates - warmup
        explain(
            found,
            [
                (peak * (updates - u) / updates, "the rate jumps at the end of"
                 " the warm-up: it should fall from `peak`, in updates -"
                 " warmup steps."),
                (peak * (1 - (u - warmup) / updates), "it does not reach 0:"
                 " the fall has updates - warmup steps, not updates."),
                (peak * (1 - (u - 1 - warmup) / n), "the fall is one update"
                 " late: the peak is at `warmup` alone."),
                (peak * (1 - (u + 1 - warmup) / n), "the fall is one update"
                 " early: the last update alone has 0."),
                (peak * (warmup / u) ** 0.5, "this falls with the root of the"
                 " update, as the paper's does; a straight line to 0 is"
                 " wanted."),
                (peak * (1 + (math.pi * share).cos()) / 2, "this is a cosine;"
                 " a straight line is wanted."),
                (torch.full_like(u, peak), "after the warm-up it stays where"
                 " it is: it should fall to 0."),
                (peak * u / max(warmup, 1), "this rises for ever."),
                (right / peak, "the peak is missing."),
            ],
            f"with peak {peak:.2f} and {warmup} of {updates} updates of"
            f" warm-up, updates {at} have {shown(right)}, and this gives"
            f" {shown(found)}.",
            TIGHT,
        )  # fmt: skip
