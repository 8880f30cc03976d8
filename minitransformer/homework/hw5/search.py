"""Homework 5: made-up decoders, and searches with places to go wrong in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from math import inf
from typing import Any

import torch
from torch import Tensor

from minitransformer.decoding import length_divisor
from minitransformer.homework.checking import Wrong, call, is_near, numbers

Ids = list[int]
Found = tuple[Ids, float]
Scored = tuple[float, Ids]
Search = Callable[["Case"], Found]
Mistakes = Sequence[tuple[Search, str]]
NEVER = -9.0  # a score that no search picks
FEW = (
    "it keeps too few extensions of each beginning: one of the K may be EOS,"
    " so K + 1 are needed."
)


# Made-up decoders ---


@dataclass(frozen=True, slots=True)
class Language:
    """A decoder whose every number is known.

    What follows depends on the place, on the token there and on the one
    before it, so a search that loses its past is found out.

    Attributes:
        table: Log-probabilities, ``(places, V, V, V)``: place, the token
            before, the token, what follows.
        bos: Id that begins.
        eos: Id that ends.
    """

    table: list[list[list[list[float]]]]
    bos: int
    eos: int

    def row(self, ids: Sequence[int]) -> list[float]:
        """Return the log-probabilities of what follows a beginning."""
        before, last = [self.bos, *ids][-2:]
        place = min(len(ids), len(self.table)) - 1
        return self.table[place][before][last]

    def gains(self, ids: Sequence[int]) -> list[float]:
        """Return the log-probability of each id after BOS."""
        return [self.row(ids[:t])[ids[t]] for t in range(1, len(ids))]


def draw_language(
    words: int, places: int, end: int | None = None, eos_score: float = 0.0
) -> Language:
    """Draw a decoder.

    Args:
        words: Tokens beside BOS and EOS.
        places: Places with numbers of their own.
        end: The place, from 0, where EOS is all but sure, and elsewhere all
            but impossible; ``None`` to leave it to chance.
        eos_score: What EOS's scores are centred on, if left to chance.
    """
    V = words + 2
    bos, eos = torch.randperm(V)[:2].tolist()
    scores = 1.5 * torch.randn(places, V, V, V, dtype=torch.double)
    scores[..., bos] = NEVER
    scores[..., eos] += eos_score
    if end is not None:
        scores[..., eos] = NEVER
        scores[end, ..., eos] = -NEVER
    return Language(scores.log_softmax(dim=-1).tolist(), bos, eos)


def draw_early_end() -> Language:
    """Draw a decoder in which EOS is narrowly the likeliest at first."""
    bos, eos, word, _ = torch.randperm(4).tolist()
    table = torch.full((3, 4, 4, 4), 1e-4, dtype=torch.double)
    table[0, ..., eos], table[0, ..., word] = 0.5, 0.4998
    table[1, ..., word] = table[2, ..., eos] = 0.9997
    return Language(table.log().tolist(), bos, eos)


def follower(
    language: Language, asked: list[tuple[int, ...]] | None = None
) -> Callable[[Any], Tensor]:
    """Return the `step` that a learner's search is given.

    Args:
        language: The decoder.
        asked: Where to note each beginning that it is asked about.
    """

    def step(ids: Any) -> Tensor:
        said = [int(token) for token in ids]
        if said[:1] != [language.bos]:
            raise ValueError(
                "step wants a whole beginning, a list of ids with bos first"
            )
        if asked is not None:
            asked.append(tuple(said))
        rows = [language.row(said[: t + 1]) for t in range(len(said))]
        return torch.tensor(rows, dtype=torch.double)  # (T, V)

    return step


# Greedy search ---


def greedily(
    language: Language, limit: int, row: int = -1, worst: bool = False
) -> Ids:
    """Search greedily, with places to go wrong in."""
    ids = [language.bos]
    pick = min if worst else max
    while len(ids) <= limit:
        place = ids if row == -1 else ids[: row + 1]
        scores = language.row(place)
        ids.append(pick(range(len(scores)), key=lambda i: scores[i]))
        if ids[-1] == language.eos:
            return ids[1:-1]
    return ids[1:]


# Beam search ---


def as_ids(found: Any) -> Ids:
    """Take a list of ids, whatever kind of list it is."""
    values = numbers(found)
    if values.ndim != 1:
        raise Wrong("return one list of ids.")
    return [int(value) for value in values]


@dataclass(frozen=True, slots=True)
class Case:
    """Something to search in.

    Attributes:
        language: The decoder.
        width: Beginnings to keep.
        limit: Most tokens, EOS included.
        alpha: The length penalty.
    """

    language: Language
    width: int
    limit: int
    alpha: float

    def divided(self, total: float, length: int) -> float:
        """Return a log-probability divided by the length's divisor."""
        return total / length_divisor(length, self.alpha)

    def asked(self, answer: Any, *start: Any) -> Found:
        """Let a learner search, from a step, and a state if there is one."""
        ends = self.language.bos, self.language.eos
        options = self.width, self.limit, self.alpha
        result = call(answer, *start, *ends, *options)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Wrong("return two things: the ids and their score.")
        ids, score = result
        if isinstance(ids, int | float):
            raise Wrong("the ids come first, then their score.")
        found = as_ids(ids)
        if set(ends) & set(found):
            raise Wrong(f"leave BOS and EOS out of the ids: {found}.")
        if len(found) > self.limit:
            raise Wrong(
                f"with a limit of {self.limit} it gives {len(found)} tokens."
            )
        return found, float(numbers(score, ()))


def search(
    case: Case,
    *,
    spread: bool = True,
    fill: bool = True,
    any_rank: bool = False,
    keep: str = "all",
    stop: str = "hope",
    choose: str = "score",
    narrower: int = 0,
    few: bool = False,
) -> Found:
    """Search with a beam; what is not the default is a mistake.

    Args:
        case: What to search in.
        spread: Sort the extensions of all beginnings together.
        fill: Fill the places of what ended with the next best.
        any_rank: Set aside every ending, however poor.
        keep: Which endings: "all", those of the "last" step, or "none".
        stop: When nothing can win any more ("hope"), "never" before the
            limit, with the "first" ending, when one leads ("top"), when
            `width` have ended ("enough"), or when the best beginning is
            behind "now", for its own length.
        choose: By "score", by "total"; "cut" lets what is cut off at the
            limit compete.
        narrower: How many beginnings fewer are kept.
        few: Look at `width` extensions of each beginning, not one more.
    """
    language, width = case.language, case.width - narrower
    going: list[Scored] = [(0.0, [language.bos])]
    ended: list[tuple[float, Found]] = []
    for length in range(1, case.limit + 1):
        extended = [
            sorted(
                (
                    (total + gain, [*ids, token])
                    for token, gain in enumerate(language.row(ids))
                ),
                reverse=True,
            )
            for total, ids in going
        ]
        if not spread and length > 1:
            extended = [own[:1] for own in extended]
        if few:
            extended = [own[:width] for own in extended]
        longer = sorted(chain(*extended), reverse=True)
        if keep == "last":
            ended = []
        if keep != "none":
            ended += [
                (total, (ids[1:-1], case.divided(total, length)))
                for total, ids in longer[: None if any_rank else width]
                if ids[-1] == language.eos
            ]
        kept = longer if fill else longer[:width]
        going = [one for one in kept if one[1][-1] != language.eos][:width]
        best = max((found[1] for _, found in ended), default=-inf)
        ahead = going[0][0] if going else -inf
        if (
            not going
            or (stop == "hope" and best >= case.divided(ahead, case.limit))
            or (stop == "first" and ended)
            or (stop == "top" and longer[0][1][-1] == language.eos)
            or (stop == "enough" and len(ended) >= width)
            or (stop == "now" and best >= case.divided(ahead, length))
        ):
            break
    cut = [
        (total, (ids[1:], case.divided(total, len(ids) - 1)))
        for total, ids in going
    ]
    if choose == "cut":
        ended += cut
    if choose == "total":
        return max(ended or cut)[1]
    return max((found for _, found in ended or cut), key=lambda one: one[1])


def competing(case: Case) -> Found:
    """Search with a beam in which what has ended keeps a place."""
    language = case.language
    kept: list[tuple[float, float, Ids]] = [(0.0, 0.0, [language.bos])]
    for length in range(1, case.limit + 1):
        pool = [one for one in kept if one[2][-1] == language.eos]
        for _, total, ids in kept:
            if ids[-1] != language.eos:
                for token, gain in enumerate(language.row(ids)):
                    score = case.divided(total + gain, length)
                    pool.append((score, total + gain, [*ids, token]))
        kept = sorted(pool, reverse=True)[: case.width]
    best = [one for one in kept if one[2][-1] == language.eos] or kept
    score, _, ids = best[0]
    return [i for i in ids[1:] if i != language.eos], score


def same(a: Found, b: Found) -> bool:
    """Say whether two searches found the same."""
    return a[0] == b[0] and is_near(a[1], b[1], 1e-5)


def telling(draw: Callable[[int], Case], mistakes: Mistakes) -> list[Case]:
    """Draw cases until they tell each mistake from the right search.

    And from each other, where there are other words for them.
    """
    ways = [(search, ""), *mistakes]
    missing = {
        (i, j)
        for j, (_, words) in enumerate(ways)
        for i, (_, others) in enumerate(ways[:j])
        if words != others
    }
    cases: list[Case] = []
    for number in count():
        case = draw(number)
        found = [way(case) for way, _ in ways]
        told = {(i, j) for i, j in missing if not same(found[i], found[j])}
        if told or number < 6:
            cases.append(case)
            missing -= told
        if not missing:
            break
    return cases


def judge_searches(
    ask: Callable[[Case], Found],
    draw: Callable[[int], Case],
    mistakes: Mistakes,
    advice: str,
) -> None:
    """Compare with the right search, and name the mistake in all cases.

    Args:
        ask: Lets a learner search.
        draw: Draws a case.
        mistakes: Wrong searches, and what to say of each.
        advice: What to say of any other.
    """
    cases = telling(draw, mistakes)
    found = [ask(case) for case in cases]
    right = [search(case) for case in cases]
    if all(map(same, found, right)):
        return
    for way, words in mistakes:
        if all(map(same, found, map(way, cases))):
            raise Wrong(words)
    case, ours, best = next(
        (case, a, b)
        for case, a, b in zip(cases, found, right, strict=True)
        if not same(a, b)
    )
    raise Wrong(
        f"with width {case.width}, limit {case.limit} and a length penalty of"
        f" {case.alpha:g} it finds {ours[0]} with {ours[1]:.4f}; the search"
        f" described finds {best[0]} with {best[1]:.4f}. {advice}"
    )
