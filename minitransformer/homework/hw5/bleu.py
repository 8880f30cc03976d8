"""Homework 5: the tests of BLEU."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from minitransformer.homework.checking import (
    Wrong,
    call,
    explain,
    is_near,
    numbers,
)
from minitransformer.homework.hw5.tasks import bleu

Texts = Sequence[Sequence[str]]
TIGHT = 1e-5
IN_WORDS = "How good is it? BLEU by hand"


def n_grams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """Count the runs of ``n`` tokens."""
    runs = range(len(tokens) - n + 1)
    return Counter(tuple(tokens[i : i + n]) for i in runs)


def precisions(
    ours: Texts, theirs: Texts, clip: str = "counts", orders: int = 4
) -> list[float]:
    """Return the share of n-grams that are right, for each n.

    Args:
        ours: Translations.
        theirs: References.
        clip: "counts" to clip; "none"; or each n-gram "once", if "right"
            only where it is right.
        orders: The longest n.
    """
    shares = []
    for n in range(1, orders + 1):
        right = total = 0
        for a, b in zip(ours, theirs, strict=True):
            mine, given = n_grams(a, n), n_grams(b, n)
            if clip == "once":
                mine = Counter(mine.keys())
            if clip == "right":
                right += len(mine.keys() & given.keys())
            elif clip == "none":
                right += sum(c for gram, c in mine.items() if gram in given)
            else:
                right += (mine & given).total()
            total += mine.total()
        shares.append(right / total if total else 0.0)
    return shares


def geometric(shares: Sequence[float]) -> float:
    """Return the geometric mean; 0 if there is a 0."""
    return float(math.prod(shares) ** (1 / len(shares)))


def brevity(ours: Texts, theirs: Texts) -> float:
    """Return the brevity penalty."""
    c, r = sum(map(len, ours)), sum(map(len, theirs))
    return math.exp(min(0.0, 1 - r / c)) if c else 0.0


def score(ours: Texts, theirs: Texts, clip: str = "counts") -> float:
    """Return corpus BLEU, equation (11.2)."""
    shares = precisions(ours, theirs, clip)
    return 100 * brevity(ours, theirs) * geometric(shares)


def draw_text(length: int) -> list[str]:
    """Draw a text without repetition."""
    return [f"w{i}" for i in torch.randperm(60)[:length].tolist()]


def between(low: int, high: int) -> int:
    """Draw a whole number, both ends included."""
    return int(torch.randint(low, high + 1, ()))


def spoilt(tokens: Sequence[str], places: Sequence[int]) -> list[str]:
    """Put other words in some places."""
    return [f"x{i}" if i in places else w for i, w in enumerate(tokens)]


def of(answer: Any, ours: Texts, theirs: Texts) -> float:
    """Let a learner score."""
    lists = [list(map(list, ours)), list(map(list, theirs))]
    return float(numbers(call(answer, *lists), ()))


@bleu.test("the reference itself has 100", 11, IN_WORDS)
def check_itself(answer: Any) -> None:
    """Try one text and two."""
    for lengths in ((9,), (7, 12)):
        texts = [draw_text(length) for length in lengths]
        found = of(answer, texts, texts)
        if not is_near(found, 100.0, TIGHT):
            explain(
                found,
                [(1.0, "BLEU is given in per cent here, from 0 to 100."),
                 (400.0, "the four precisions are added up: take a mean.")],
                f"a text held against itself has {found:.2f}.",
            )  # fmt: skip


@bleu.test("four precisions make a geometric mean", 11, IN_WORDS)
def check_mean(answer: Any) -> None:
    """Try one text without repetition, as long as its reference."""
    for length, places in (
        (between(11, 15), [between(0, 9)]),
        (between(16, 19), [between(1, 4), between(9, 12)]),
        (between(7, 11), [0]),
    ):
        right = draw_text(length)
        ours = [spoilt(right, places)]
        found = of(answer, ours, [right])
        shares = precisions(ours, [right])
        if is_near(found, 100 * geometric(shares), TIGHT):
            continue
        logs = [math.log(share) for share in shares]
        mistakes = [
            (100 * sum(shares) / 4, "the arithmetic mean is taken; BLEU takes"
             " the geometric one, the fourth root of the product."),
            (400 / sum(1 / share for share in shares), "the harmonic mean is"
             " taken; BLEU takes the geometric one."),
            (100 * math.prod(shares), "the product is there, and its fourth"
             " root is missing."),
            (100 * geometric(shares[:3]), "runs of four are missing: n goes"
             " from 1 to 4."),
            (100 * geometric(precisions(ours, [right], orders=5)), "runs of"
             " five are counted: n goes from 1 to 4."),
            (100 * geometric([1.0, *shares[:3]]), "the runs of four are"
             " missing (or n began at 0): n goes from 1 to 4."),
            (100 * shares[0], "single words alone are counted."),
            (100 * shares[3], "runs of four alone are counted."),
            (100 * sum(logs) / 4, "the mean of the logarithms is still one:"
             " take exp of it."),
        ]  # fmt: skip
        explain(
            found,
            mistakes,
            "the precisions"
            f" {', '.join(f'{100 * share:.1f}' for share in shares)} make"
            f" {100 * geometric(shares):.2f}, and this gives {found:.2f}.",
            TIGHT,
        )


@bleu.test("short translations pay, long ones don't", 11, IN_WORDS)
def check_brevity(answer: Any) -> None:
    """Try translations that are too short, and some that are too long."""
    for length, other in (
        (between(11, 15), between(8, 10)),
        (between(7, 9), between(10, 13)),
        (between(5, 8), between(15, 18)),
    ):
        longer = draw_text(max(length, other))
        ours, theirs = [longer[:length]], [longer[:other]]
        c, r = length, other
        found = of(answer, ours, theirs)
        mean = 100 * geometric(precisions(ours, theirs))
        right = mean * brevity(ours, theirs)
        if is_near(found, right, TIGHT):
            continue
        here = f"with {c} words for {r} of the reference"
        turned = "the brevity penalty is the wrong way round: it punishes"
        turned += " what is too long."
        mistakes = [
            (mean, f"{here} the brevity penalty is missing.")
            if c < r
            else (mean * math.exp(1 - c / r), turned),
            (mean * math.exp(1 - r / c), "a long translation is rewarded: the"
             " penalty is 1 at most."),
            (mean * math.exp(1 - c / r), f"{here} c and r have changed places"
             " in the brevity penalty, so that saying less gains."),
            (mean * math.exp(c / r - 1), "the exponent is 1 - r/c, not"
             " c/r - 1."),
            (mean * c / r, "the penalty is the ratio itself; it should be"
             " exp(1 - r/c)."),
            (mean * math.exp(r / c - 1), "the exponent of the penalty has"
             " the wrong sign."),
        ]  # fmt: skip
        explain(
            found,
            mistakes,
            f"{here} this gives {found:.2f}, and should give {right:.2f}.",
            TIGHT,
        )


@bleu.test("an n-gram counts as often as the reference has it", 11, IN_WORDS)
def check_clipping(answer: Any) -> None:
    """Try translations and references that repeat themselves."""
    for length, times in ((2 * between(5, 8), 2), (15, 3)):
        text = draw_text(length)
        run = length // times
        ours = [text[:run] * times]
        both = draw_text(5)
        twice = [*both, "and", *both]
        theirs = [text]
        if times == 3:  # here the reference says something twice
            ours, theirs = [spoilt(twice, [7])], [twice]
        found = of(answer, ours, theirs)
        right = score(ours, theirs)
        once = "each n-gram counts once, however often both say it: count,"
        once += " don't make a set."
        if not is_near(found, right, TIGHT):
            explain(
                found,
                [
                    (score(ours, theirs, "none"), "the counts are not clipped:"
                     " an n-gram is right at most as often as the reference"
                     " has it."),
                    (score(ours, theirs, "once"), once),
                    (score(ours, theirs, "right"), once),
                ],
                f"{' '.join(ours[0])!r} against {' '.join(theirs[0])!r} has"
                f" {right:.2f}, and this gives {found:.2f}.",
                TIGHT,
            )  # fmt: skip


@bleu.test("counts are added up over the corpus", 11, "Common mistakes")
def check_corpus(answer: Any) -> None:
    """Try sentences of different lengths and quality."""
    theirs = [draw_text(length) for length in (7, between(17, 20), 11)]
    ours = [
        spoilt(theirs[0], [1]),
        theirs[1][:15],
        [*spoilt(theirs[2], [3, 8]), "more"],
    ]
    found, right = of(answer, ours, theirs), score(ours, theirs)
    if is_near(found, right, TIGHT):
        return
    pairs = [([a], [b]) for a, b in zip(ours, theirs, strict=True)]
    each = [score(a, b) for a, b in pairs]
    several = [precisions(a, b) for a, b in pairs]
    means = [sum(shares) / len(pairs) for shares in zip(*several, strict=True)]
    penalties = [brevity(a, b) for a, b in pairs]
    mean = 100 * geometric(precisions(ours, theirs))
    joined = [list(chain(*ours))], [list(chain(*theirs))]
    weights = [len(a[0]) for a, _ in pairs]
    weighed = zip(each, weights, strict=True)
    mistakes = [
        (sum(each) / len(each), "this is the mean of each sentence's BLEU:"
         " add up the counts of all sentences, then divide."),
        (sum(x * w for x, w in weighed) / sum(weights), "this is a weighted"
         " mean of each sentence's BLEU: add up the counts of all sentences,"
         " then divide."),
        (100 * brevity(ours, theirs) * geometric(means), "the precisions of"
         " the sentences are averaged: add up the counts, then divide."),
        (mean * sum(penalties) / len(pairs), "each sentence has a brevity"
         " penalty of its own: add up the lengths first."),
        (score(*joined), "the sentences are joined to one text: n-grams must"
         " not run from one into the next."),
        (each[0], "only the first sentence is scored."),
    ]  # fmt: skip
    explain(
        found,
        mistakes,
        f"three sentences with {', '.join(f'{x:.2f}' for x in each)} have"
        f" {right:.2f} together, and this gives {found:.2f}.",
        TIGHT,
    )


@bleu.test("a token is one, and one precision of 0 makes 0", 11, IN_WORDS)
def check_edges(answer: Any) -> None:
    """Try marks, tokens with a space, texts too short, and an empty one."""
    first = ["L'", "eau", "de", "New York", ",", "3.5", "%", "."]
    theirs = [first, *(draw_text(n) for n in (9, 3))]
    ours = [spoilt(first, [1]), theirs[1], theirs[2]]
    found, right = of(answer, ours, theirs), score(ours, theirs)
    if not is_near(found, right, TIGHT):
        raise Wrong(
            f"tokens such as 'New York', '3.5' and a list of three gave"
            f" {found:.2f}, and should give {right:.2f}: compare tokens as"
            " they are, and don't cut text again."
        )
    text = draw_text(9)
    for ours, theirs in (
        ([spoilt(text, [2, 5, 8])], [text]),
        ([text[:3]], [text]),
        ([[], text[:2]], [text, text]),
    ):
        try:
            found = of(answer, ours, theirs)
        except Wrong as wrong:
            raise Wrong(
                f"no run of four is right in {' '.join(ours[-1])!r}, and"
                f" {wrong}. The score is 0 then."
            ) from None
        if not is_near(found, 0.0, TIGHT):
            raise Wrong(
                f"no run of four is right, and this gives {found:.2g}. We"
                " don't smooth: one precision of 0 makes all 0."
            )
