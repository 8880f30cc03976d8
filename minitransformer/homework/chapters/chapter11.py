"""The checks of chapter 11, "Decoding and evaluation"."""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate, product
from typing import Any

import torch
from torch import Tensor

from minitransformer.decoding import length_divisor
from minitransformer.homework.checking import (
    Wrong,
    call,
    exercise,
    explain,
    is_near,
    numbers,
    quiz,
)
from minitransformer.sampling import next_probabilities

Words = tuple[str, ...]
NextWords = Callable[[Words], dict[str, float]]
Scored = tuple[float, Words]


# 11.1 ---


@exercise("11.1")
def check_nucleus(answer: Any) -> None:
    """Try several sizes, one word alone, and lines that are just reached."""
    for values, p in (
        ((3, 1, 4, 2), 0.55),
        ((1, 2, 3, 4), 0.65),
        ((90, 5, 2, 2, 1), 0.5),
        ((2, 7, 1, 5, 3, 4, 6), 0.99),
        ((1, 4, 1, 2), 0.5),  # exact sums: nothing hangs on rounding
        ((2, 1, 8, 4, 1), 0.75),
        ((5, 3, 9, 1, 8, 2), 0.9),
    ):
        probabilities = torch.tensor(values).double() / sum(values)
        found = numbers(call(answer, probabilities, p), (len(values),))
        if not is_near(found, _nucleus(probabilities, p), 1e-6):
            _explain_nucleus(found, probabilities, p)


def _nucleus(probabilities: Tensor, p: float, share: bool = True) -> Tensor:
    """Keep the nucleus; ``share`` makes the sum 1 again."""
    ordered, words = probabilities.sort(descending=True)
    # By whole steps, so that rounding does not decide who crosses the line.
    stays = ordered.cumsum(dim=0) - ordered < p - 1e-9
    kept = torch.zeros_like(probabilities)
    kept[words] = ordered * stays
    return kept / kept.sum() if share else kept


def _explain_nucleus(found: Tensor, probabilities: Tensor, p: float) -> None:
    """Raise `Wrong` with what was kept instead."""
    ordered, words = probabilities.sort(descending=True)

    def renormalised(stays: Tensor, places: Tensor | None = None) -> Tensor:
        kept = torch.zeros_like(probabilities)
        if places is None:
            kept = probabilities * stays
        else:
            kept[places] = probabilities[places] * stays
        return kept / kept.sum()  # nan if nothing is kept

    before = ordered.cumsum(0) - ordered
    right = _nucleus(probabilities, p)
    upwards = words.flip(0)
    from_below = probabilities[upwards].cumsum(0)
    unsorted = probabilities.cumsum(0)
    explain(
        found,
        [
            (
                _nucleus(probabilities, p, share=False),
                "the right words are kept, and their probabilities no longer"
                " sum to 1. Divide by the sum.",
            ),
            (
                renormalised(ordered.cumsum(0) <= p + 1e-9, words),
                f"the word that crosses p = {p:g} is dropped, so what is kept"
                " has less than p. It must stay.",
            ),
            (
                renormalised(probabilities >= p),
                "each word is held against p by itself. It is the *sum* of"
                " the likeliest words that must reach p.",
            ),
            (
                renormalised(unsorted - probabilities < p - 1e-9),
                "the words are taken in the order of their ids. Begin with"
                " the likeliest: sort.",
            ),
            (
                renormalised(
                    from_below - probabilities[upwards] < p - 1e-9, upwards
                ),
                "this begins with the least likely words: sort the other way.",
            ),
            (
                right[words],
                "the numbers are right, and stand in sorted order. Put each"
                " back to its word's place.",
            ),
            (
                right[words][words],
                "the numbers are right, and in the wrong places. The first of"
                " the sorted ones goes to the place words[0], and so on.",
            ),
            (
                renormalised(before <= p, words),
                "one word more than needed is kept: those before it have"
                " exactly p, and that is enough.",
            ),
            (
                probabilities.where(right > 0, -math.inf).softmax(0),
                "the right words are kept. A softmax of probabilities changes"
                " their proportions: divide by the sum.",
            ),
            (probabilities, "nothing is cut off."),
            (
                next_probabilities(probabilities.log(), temperature=p),
                "this is a temperature. Here unlikely words get exactly 0.",
            ),
        ],
        f"for {_shown(probabilities)} and p = {p:g} this gives"
        f" {_shown(found)}. What do the likeliest words have together, one"
        " after the other?",
        1e-6,
    )


def _shown(values: Tensor) -> str:
    """Write a few numbers."""
    return "[" + ", ".join(f"{value:.3g}" for value in values.tolist()) + "]"


# 11.2 ---

Grams = Counter[tuple[str, ...]]


def _n_grams(words: Sequence[str], n: int) -> Grams:
    """Count the runs of ``n`` words."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


@exercise("11.2")
def check_clipped(answer: Any) -> None:
    """Try one reference and several, all n, and a text that is too short."""
    cases = [
        ("the the the the", ["the cat sees the dog"], 1),
        ("the the the the cat", ["the cat runs", "the cat sits"], 1),
        ("we eat old bread", ["we run", "eat old fish"], 1),
        ("we eat", ["we eat bread"], 3),
        ("we eat", ["we eat bread today"], 4),
    ]
    rng = random.Random(int(torch.randint(10**6, ())))
    for n in (1, 2, 3, 4):
        first, *rest = (
            " ".join(rng.choices("abc", k=length)) for length in (13, 9, 11)
        )
        cases.append((first, rest, n))
    for text, texts, n in cases:
        ours, theirs = text.split(), [one.split() for one in texts]
        found = call(answer, ours, theirs, n)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise Wrong("return two numbers: how many are right, and all.")
        pair = numbers(found, (2,))
        right = torch.tensor(_clipped(ours, theirs, n))
        if not is_near(pair, right):
            _explain_clipped(pair, ours, theirs, n)


def _clipped(
    ours: Sequence[str], theirs: Sequence[Sequence[str]], n: int
) -> tuple[int, int]:
    """Count the right n-grams, and all of them."""
    most: Grams = Counter()
    for words in theirs:
        most |= _n_grams(words, n)
    mine = _n_grams(ours, n)
    return (mine & most).total(), mine.total()


def _explain_clipped(
    found: Tensor,
    ours: Sequence[str],
    theirs: Sequence[Sequence[str]],
    n: int,
) -> None:
    """Raise `Wrong` with what was counted instead."""
    mine = _n_grams(ours, n)
    each = [_n_grams(words, n) for words in theirs]
    added = sum(each, Counter())
    right, total = _clipped(ours, theirs, n)
    unclipped = sum(k for gram, k in mine.items() if gram in added)
    firsts = (mine & each[0]).total()
    here = (
        f"for {' '.join(ours)!r} against"
        f" {' / '.join(' '.join(words) for words in theirs)!r} and n = {n}"
    )
    mistakes: list[tuple[tuple[float, float], str]] = [
        (
            (unclipped, total),
            "the counts are not clipped: an n-gram is right at most as often"
            " as a reference has it.",
        ),
        (
            (len(mine.keys() & added.keys()), len(mine)),
            "every n-gram is counted once. One that we say twice, and the"
            " reference too, is right twice.",
        ),
        (
            ((mine & added).total(), total),
            "the references' counts are added up. An n-gram counts at most as"
            " often as in the *one* reference that has it most.",
        ),
        (
            (sum((mine & grams).total() for grams in each), total),
            "the right ones of all references are added up: the same n-gram"
            " of ours counts once.",
        ),
        ((firsts, total), "only the first reference is looked at."),
        (
            (max((mine & grams).total() for grams in each), total),
            "this is the best single reference. Different n-grams may find"
            " their match in different references.",
        ),
        ((right, len(ours)), "the second number counts words, not n-grams."),
        (
            (right, max(grams.total() for grams in each)),
            "the second number counts a reference's n-grams: that is recall."
            " Precision divides by all of *ours*.",
        ),
        ((total, right), "the two numbers have changed places."),
        (
            _clipped(ours, theirs, 1),
            f"this counts single words. Here n is {n}: runs of {n} words.",
        ),
        (
            _clipped(ours[:-1], [words[:-1] for words in theirs], n),
            "the last n-gram is left out: T words have T - n + 1.",
        ),
        (
            (right / max(total, 1), total),
            "return the count of right ones, not the share: BLEU adds counts"
            " up before it divides.",
        ),
    ]
    explain(
        found,
        [(torch.tensor(pair).double(), words) for pair, words in mistakes],
        f"{here} this gives {found[0]:g} and {found[1]:g}. List our n-grams"
        " one by one, and cross one off in the reference for each.",
    )


# 11.3 ---


@exercise("11.3")
def check_cached_step(answer: Any) -> None:
    """Walk through a sentence and compare with causal attention."""
    for D, d_k, d_v, T in ((4, 4, 4, 3), (7, 3, 5, 6), (5, 8, 2, 4)):
        x = torch.randn(T, D, dtype=torch.double)
        w_q, w_k, w_v = (
            torch.randn(D, width, dtype=torch.double) / math.sqrt(D)
            for width in (d_k, d_k, d_v)
        )
        for t in (*range(1, T), 0):  # the first token last: it is special
            parts = call(answer, x[t], x[:t] @ w_k, x[:t] @ w_v, w_q, w_k, w_v)
            if not isinstance(parts, tuple | list) or len(parts) != 3:
                raise Wrong("return three things: output, keys, values.")
            output, keys, values = map(numbers, parts)
            right_rows = x[: t + 1] @ w_k, x[: t + 1] @ w_v
            if is_near(keys, right_rows[1], 1e-6) and is_near(
                values, right_rows[0], 1e-6
            ):
                raise Wrong("keys and values have changed places.")
            _judge_rows("keys", keys, x[: t + 1] @ w_k, x[t], w_k)
            _judge_rows("values", values, x[: t + 1] @ w_v, x[t], w_v)
            scores = (x[: t + 1] @ w_k) @ (x[t] @ w_q) / math.sqrt(d_k)
            right = scores.softmax(0) @ (x[: t + 1] @ w_v)
            if is_near(output, right[None], 1e-6):
                raise Wrong(
                    f"the output has shape (1, {d_v}); one token's is"
                    f" ({d_v},)."
                )
            if not is_near(output, right, 1e-6):
                _explain_output(output, x[: t + 1], w_q, w_k, w_v)


def _judge_rows(
    name: str, found: Tensor, right: Tensor, x: Tensor, w: Tensor
) -> None:
    """Raise `Wrong` unless the cache has one right row more."""
    if is_near(found, right, 1e-6):
        return
    mistakes = [
        (right[:-1], f"the {name} come back as they were: append a row."),
        (right[-1:], f"the {name} before are lost: append to them."),
        (right[-1], f"the {name} before are lost: append to them."),
        (
            torch.cat([right[-1:], right[:-1]]),
            f"the newest of the {name} stands in front. Oldest first: append"
            " it at the end.",
        ),
        (
            torch.cat([right, right[-1:]]),
            f"the new row of the {name} is appended twice.",
        ),
    ]
    if w.shape[0] == w.shape[1]:
        mistakes += [
            (
                torch.cat([right[:-1], x[None]]),
                f"x itself is appended to the {name}: project it first.",
            ),
            (
                torch.cat([right[:-1], (w @ x)[None]]),
                f"the matrix of the {name} is transposed: a row vector meets"
                " it from the left, x @ w.",
            ),
        ]
    explain(
        found,
        mistakes,
        f"the {name} have shape {tuple(found.shape)}, and should have"
        f" {tuple(right.shape)}: those before and one new row."
        if found.shape != right.shape
        else f"the {name} are not right: the old rows stay as they are, and"
        " the new one is x, projected.",
        1e-6,
    )


def _explain_output(
    found: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor
) -> None:
    """Raise `Wrong` with what the newest token looked at, or how."""
    keys, values, query = x @ w_k, x @ w_v, x[-1] @ w_q
    raw = keys @ query
    scores = raw / math.sqrt(keys.shape[1])
    mistakes = [
        (raw.softmax(0) @ values, "the scores are not divided by √d_k."),
        (
            (raw / keys.shape[1]).softmax(0) @ values,
            "the scores are divided by d_k. The divisor is its root.",
        ),
        (
            (raw / math.sqrt(x.shape[1])).softmax(0) @ values,
            "the scores are divided by √D. The keys are d_k wide.",
        ),
        (
            (raw / math.sqrt(values.shape[1])).softmax(0) @ values,
            "the scores are divided by √d_v. Queries and keys are d_k wide.",
        ),
        (
            (raw / math.sqrt(len(x))).softmax(0) @ values,
            "the scores are divided by the root of the number of tokens. What"
            " they add up is d_k products.",
        ),
        (scores @ values, "the softmax is missing."),
        (values.mean(0), "this is the plain mean of the values."),
        (
            values[-1],
            "the newest token looks at itself alone. It may look at all"
            " before it, too.",
        ),
        (
            (keys @ keys[-1] / math.sqrt(keys.shape[1])).softmax(0) @ values,
            "the new key asks. The query is x @ w_q.",
        ),
    ]
    if len(x) > 1:
        mistakes.append(
            (
                scores[:-1].softmax(0) @ values[:-1],
                "the newest token does not look at itself: append its key and"
                " value first, then attend.",
            )
        )
    explain(
        found,
        mistakes,
        f"keys and values are right, and the output is not (D = {x.shape[1]},"
        f" {len(x)} tokens). One query meets all keys; its weights sum up the"
        " values."
        if found.shape == values[-1].shape
        else f"the output has shape {tuple(found.shape)}, and should have"
        f" {tuple(values[-1].shape)}.",
        1e-6,
    )


# 11.4 ---


def _table(seed: int, words: str, limit: int, first: float = 0.0) -> NextWords:
    """Make random chances for every beginning; the last word must be EOS.

    Some are nearly even and some nearly sure, so that at any step the better
    word may lead to the poorer sentence. ``first`` lifts the chance of one.
    """
    rng = random.Random(seed)
    kept: dict[Words, dict[str, float]] = {}

    def next_words(said: Words) -> dict[str, float]:
        if said not in kept:
            power = rng.choice((0.3, 4.0))
            parts = {word: rng.random() ** power for word in (*words, "EOS")}
            if len(said) == limit - 1:
                parts = {"EOS": 1.0}
            elif not said:
                parts["EOS"] *= 0.1
                parts[words[0]] += first
            total = sum(parts.values())
            kept[said] = {word: p / total for word, p in parts.items()}
        return dict(kept[said])

    for length in range(limit):  # fixed, in whatever order one asks
        for said in product(words, repeat=length):
            next_words(said)
    return next_words


def _every(next_words: NextWords, limit: int) -> dict[Words, float]:
    """Score all sentences that end within the limit."""
    found: dict[Words, float] = {}
    going: dict[Words, float] = {(): 1.0}
    for _ in range(limit):
        longer: dict[Words, float] = {}
        for said, p in going.items():
            for word, q in next_words(said).items():
                if word == "EOS":
                    found[said] = p * q
                else:
                    longer[(*said, word)] = p * q
        going = longer
    return found


def _extended(next_words: NextWords, going: list[Scored]) -> list[Scored]:
    """Extend every beginning by every word, and sort all together."""
    return sorted(
        (
            (p * q, (*said, word))
            for p, said in going
            for word, q in next_words(said).items()
        ),
        reverse=True,
    )


def _shrinking(next_words: NextWords, width: int) -> Words:
    """Search with a beam that is one narrower for each sentence that ended."""
    going: list[Scored] = [(1.0, ())]
    ended: list[Scored] = []
    while going:
        best = _extended(next_words, going)[: width - len(ended)]
        ended += [(p, said[:-1]) for p, said in best if said[-1] == "EOS"]
        going = [one for one in best if one[1][-1] != "EOS"]
    return max(ended)[1]


def _competing(next_words: NextWords, width: int) -> Words:
    """Search with a beam in which what has ended stays, and may be dropped."""
    kept: list[Scored] = [(1.0, ())]
    while any(said[-1:] != ("EOS",) for _, said in kept):
        over = [one for one in kept if one[1][-1:] == ("EOS",)]
        going = [one for one in kept if one not in over]
        pool = over + _extended(next_words, going)
        kept = sorted(pool, reverse=True)[:width]
    return kept[0][1][:-1]


def _first_to_end(next_words: NextWords, width: int) -> set[Words]:
    """Return what is found by stopping where something ends.

    Either where any of the best has ended or where the very best has.
    """
    going: list[Scored] = [(1.0, ())]
    found: list[Words] = []
    while True:
        longer = _extended(next_words, going)
        found = found or [s[:-1] for _, s in longer[:width] if s[-1] == "EOS"]
        first = longer[0][1]
        if first[-1] == "EOS":
            return {found[0], first[:-1]}
        going = [one for one in longer if one[1][-1] != "EOS"][:width]


def _searched(next_words: NextWords, width: int) -> set[Words]:
    """Return what the usual forms of beam search find.

    They differ in whether an ending takes a place in the beam, at this step or
    for good, whether it must be among the best, and in when they stop.
    """
    results = {_shrinking(next_words, width), _competing(next_words, width)}
    for takes_place, any_rank, early in product((True, False), repeat=3):
        going: list[Scored] = [(1.0, ())]
        ended: list[Scored] = []
        while going:  # until the table leaves nothing but EOS
            longer = _extended(next_words, going)
            best = longer[:width]
            ended += [
                (p, said[:-1])
                for p, said in (longer if any_rank else best)
                if said[-1] == "EOS"
            ]
            going = [
                one
                for one in (best if takes_place else longer)
                if one[1][-1] != "EOS"
            ][:width]
            if early and len(ended) >= width:
                break
        results.add(max(ended)[1])
    return results


class _Counted:
    """Next words that remember what was asked.

    Args:
        next_words: Whose answers are handed on.
    """

    def __init__(self, next_words: NextWords):
        self.next_words = next_words
        self.asked: set[Words] = set()

    def __call__(self, said: Any) -> dict[str, float]:
        """Answer as the table does."""
        said = tuple(said)
        if "EOS" in said:
            raise Wrong(
                "next_words is asked what follows EOS. A sentence that has"
                " ended is set aside."
            )
        if said and said[0] == "BOS":
            raise Wrong("`said` begins empty here, without BOS.")
        self.asked.add(said)
        return self.next_words(said)

    def __deepcopy__(self, _: Mapping[int, Any]) -> "_Counted":
        """Let the learner's copy write into this one."""
        return self

    def most(self) -> int:
        """Return how many beginnings of one length were asked for."""
        return max(Counter(map(len, self.asked)).values(), default=0)


@exercise("11.4")
def check_search(answer: Any) -> None:
    """Try narrow beams, exhaustive ones, and tables where greedy loses."""
    start = int(torch.randint(10**6, ()))
    for number in range(24):
        words, limit = ("abc", 5) if number % 2 else ("uvwxy", 3)
        table = _table(start + number, words, limit, 0.6 * (number % 3))
        for width in (1, 2, 3, len(words) ** limit):
            counted = _Counted(table)
            found = _read(_ask(answer, counted, width, limit))
            _judge_search(found, counted, table, width, limit)


def _ask(answer: Any, *inputs: Any) -> Any:
    """Call the learner's function; a `Wrong` from inside it stays one."""
    try:
        return call(answer, *inputs)
    except Wrong as error:
        if isinstance(error.__cause__, Wrong):
            raise error.__cause__ from None
        raise


def _read(found: Any) -> tuple[Words, float]:
    """Take the two parts of an answer."""
    if (
        not isinstance(found, tuple | list)
        or len(found) != 2
        or all(isinstance(one, str) for one in found)
    ):
        raise Wrong("return two things: the sentence and its probability.")
    said, chance = found
    if isinstance(said, int | float):
        raise Wrong("the sentence comes first, then its probability.")
    if isinstance(said, str) or not all(isinstance(w, str) for w in said):
        raise Wrong("the sentence is a tuple of words.")
    if "EOS" in said:
        raise Wrong("leave EOS out of the sentence.")
    return tuple(said), float(numbers(chance, ()))


def _judge_search(
    found: tuple[Words, float],
    counted: _Counted,
    table: NextWords,
    width: int,
    limit: int,
) -> None:
    """Raise `Wrong` unless a beam search of this width finds it."""
    said, chance = found
    every = _every(table, limit)
    here = f"with width {width} and a limit of {limit}"
    if said not in every:
        raise Wrong(
            f"{here} this returns {' '.join(said)!r}, which has not ended in"
            " time. Only sentences that took EOS count."
        )
    right = every[said]
    if not is_near(chance, right, 1e-6):
        factors = [
            table(said[:i])[word] for i, word in enumerate((*said, "EOS"))
        ]
        *_, before = accumulate(factors[:-1] or [1.0], lambda p, q: p * q)
        explain(
            torch.tensor(chance).double(),
            [
                (math.log(right), "return the probability, not its log."),
                (before, "the factor of EOS is missing."),
                (factors[-1], "this is the last factor, not the product."),
                (
                    sum(factors),
                    "the factors are added up. A sentence's probability is"
                    " their product.",
                ),
                (
                    right ** (1 / len(factors)),
                    "this is a mean over the words. Return the product.",
                ),
            ],
            f"{here} {' '.join(said)!r} has the probability {right:.3g}, and"
            f" this returns {chance:.3g}.",
            1e-6,
        )
    if counted.most() > width:
        raise Wrong(
            f"{here} next_words is asked about {counted.most()} beginnings of"
            " one length. Sort the extensions of all beginnings *together*,"
            " and keep the best `width`."
        )
    if said in _searched(table, width):
        return
    stopped = len(counted.asked) == 1 or counted.most() > 1
    if stopped and said in _first_to_end(table, width):
        raise Wrong(
            f"{here} this returns the first sentence that ends. Another may"
            " end later and be better: set it aside, go on, and take the best"
            " of all that ended."
        )
    if said in _searched(table, 1):
        raise Wrong(
            f"{here} this finds what greedy search finds. Keep `width`"
            " beginnings, not one."
        )
    best = max(every, key=lambda words: every[words])
    raise Wrong(
        f"{here} this finds {' '.join(said)!r}, {right:.3g}; there is"
        f" {' '.join(best)!r}, {every[best]:.3g}, and a beam search finds"
        " something better. Which beginnings are kept, and is the best of"
        " all that ended returned?"
    )


# Quiz ---


@quiz(11)
def key() -> str:
    """Compute the five letters."""
    return _count() + _longer() + _sharper() + _passes() + _the()


def _count() -> str:
    """Question 1: sentences of at most three of ten words."""
    count = sum(1 for n in range(4) for _ in product(range(10), repeat=n))
    return {30: "A", 1000: "B", 1111: "C"}[count]


def _longer() -> str:
    """Question 2: which translation wins, for two exponents."""
    zero, one = (
        -3.6 / length_divisor(7, alpha) > -3.0 / length_divisor(4, alpha)
        for alpha in (0.0, 1.0)
    )
    letters = {(False, True): "A", (False, False): "B", (True, True): "C"}
    return letters[zero, one]


def _sharper() -> str:
    """Question 3: the temperature that makes 0.94 of 0.8."""
    logits = torch.tensor([0.8, 0.2]).log()
    return next(
        letter
        for letter, temperature in (("A", 2.0), ("B", 0.5), ("C", 0.25))
        if abs(next_probabilities(logits, temperature)[0] - 0.94) < 0.005
    )


def _passes() -> str:
    """Question 4: tokens that pass the decoder, all again at each step."""
    return {30: "A", 465: "B", 900: "C"}[sum(range(1, 31))]


def _the() -> str:
    """Question 5: a clipped precision."""
    found = Fraction(*_clipped(["the"] * 3, [["the", "cat"]], 1))
    thirds = {3: "A", 2: "B", 1: "C"}
    return thirds[int(3 * found)]
