"""Homework 5: the tests of greedy search and of beam search."""

from collections import Counter
from functools import partial
from math import exp
from typing import Any

from minitransformer.decoding import length_divisor
from minitransformer.homework.checking import Wrong, call, explain, is_near
from minitransformer.homework.hw5.search import (
    FEW,
    Case,
    Found,
    Mistakes,
    as_ids,
    competing,
    draw_early_end,
    draw_language,
    follower,
    greedily,
    judge_searches,
    same,
    search,
)
from minitransformer.homework.hw5.tasks import beam, greedy

APART = (
    "each beginning keeps its own best extension: sort the extensions of all"
    " of them together."
)
BY_HAND = "By hand: the best word is not the best sentence"

# Greedy search ---


@greedy.test("it follows the likeliest token of the last row", 11, BY_HAND)
def check_likeliest(answer: Any) -> None:
    """Compare what comes up to the end, whatever is done there."""
    for words, end in ((4, 5), (6, 3), (3, 7)):
        language = draw_language(words, 12, end)
        found = as_ids(
            call(answer, follower(language), language.bos, language.eos, 12)
        )
        said = found[found[:1] == [language.bos] :]
        if language.eos in said:
            said = said[: said.index(language.eos)]
        right = greedily(language, 12)
        if said[: len(right) - 1] == right[: len(right) - 1]:
            continue
        n = len(said)
        if n > 1 and said == greedily(language, 12, row=0)[:n]:
            raise Wrong(
                "the same token again and again: that is the first row, what"
                " follows BOS. The last row says what follows all of them."
            )
        if said == greedily(language, 12, worst=True)[:n]:
            raise Wrong("these are the unlikeliest tokens: take the argmax.")
        raise Wrong(
            f"the ids {found} should begin {right}: append the likeliest"
            " token of the last row, and ask about the whole beginning again."
        )


@greedy.test("it stops at EOS, and leaves BOS and EOS out", 11, BY_HAND)
def check_end(answer: Any) -> None:
    """Try ends early and late, and one before the first word."""
    for words, end in ((4, 5), (5, 1), (3, 8), (4, 0)):
        language = draw_language(words, 12, end)
        asked: list[tuple[int, ...]] = []
        step = follower(language, asked)
        found = as_ids(call(answer, step, language.bos, language.eos, 12))
        right = greedily(language, 12)
        eos, bos = [language.eos], [language.bos]
        if len(found) > len(right) + 2 and found[: len(right)] in (
            right,
            (bos + right)[:-1],
        ):
            raise Wrong(
                f"it runs on after EOS: {found} should end after"
                f" {len(right)} tokens."
            )
        if found != right:
            for wrong, words_ in (
                (bos + right, "BOS is left in front: it is given, not said."),
                (right + eos, "EOS is left at the end: leave it out."),
                (bos + right + eos, "BOS and EOS are left in: return what"
                 " stands between them."),
                (right[:-1], "the last token is lost with EOS: cut off EOS"
                 " alone."),
            ):  # fmt: skip
                if found == wrong:
                    raise Wrong(words_)
            raise Wrong(f"the ids {found} should be {right}.")
        if any(language.eos in ids for ids in asked):
            raise Wrong(
                "right, but step is asked what follows EOS: stop as soon as"
                " it comes."
            )


@greedy.test("it gives up after `limit` tokens", 11, "How long?")
def check_limit(answer: Any) -> None:
    """Try decoders that do not end, and one that ends just in time."""
    for limit, end in ((1, None), (4, None), (7, None), (5, 4), (5, 5)):
        language = draw_language(4, 12, 11 if end is None else end)
        asked: list[tuple[int, ...]] = []
        step = follower(language, asked)
        found = as_ids(call(answer, step, language.bos, language.eos, limit))
        right = greedily(language, limit)
        if found == right:
            if len(asked) > limit + 1:  # one look more does no harm
                raise Wrong(
                    f"right, but with a limit of {limit} step is asked"
                    f" {len(asked)} times."
                )
            continue
        if len(found) > limit:
            raise Wrong(
                f"with a limit of {limit} it gives {len(found)} tokens."
            )
        if found == right[: len(found)] and len(asked) < limit:
            raise Wrong(
                f"with a limit of {limit} it takes {len(asked)}"
                f" token{'s' * (len(asked) != 1)}: BOS does not count, as it"
                " is given."
            )
        raise Wrong(f"with a limit of {limit} {found} should be {right}.")


# Beam search ---


@beam.test(
    "its score is the log-probability of all tokens, divided",
    11,
    "How long?",
)
def check_score(answer: Any) -> None:
    """Score what was found, whatever it is; stubs and shapes first."""
    for alpha, width in ((0.0, 2), (0.6, 3), (1.4, 2), (2.0, 3)):
        case = Case(draw_language(4, 6, 3), width, 6, alpha)
        language = case.language
        ids, score = case.asked(answer, follower(language))
        ended = len(ids) < case.limit
        whole = [language.bos, *ids, *[language.eos] * ended]
        gains = language.gains(whole)
        total, n = sum(gains), len(gains)
        if is_near(score, case.divided(total, n), 1e-5):
            continue
        divided = partial(case.divided, total)
        mistakes = [
            (case.divided(gains[-1], n), "the score is that of the last step"
             " alone: add each step's log-probability to what was before."),
            (case.divided(sum(gains[:-1]), n), "EOS's own log-probability is"
             " missing: ending, too, has its price."),
            (total, "the length penalty has no effect: this is the plain"
             " log-probability."),
            (divided(n - 1), "the length is one short: EOS counts."),
            (divided(n + 1), "the length is one too large: BOS does not"
             " count."),
            (divided(case.limit), "the score is divided for the limit's"
             " length; each translation has a length of its own."),
            (total / n, "this is the mean of a token. The divisor is"
             " ((5 + length) / 6) to the power of the penalty."),
            (total / n**alpha, "the divisor is a power of the length itself,"
             " and should be one of (5 + length) / 6."),
            (total / ((5 + n) / 6 * (alpha or 1)), "the penalty multiplies;"
             " it is an exponent."),
            (total * length_divisor(n, alpha), "the score is multiplied by"
             " the penalty's divisor: divide."),
            (-case.divided(total, n), "the sign is turned: log-probabilities"
             " are negative, and the largest is the best."),
            (exp(total), "this is a probability; the score is made of its"
             " logarithm."),
            (sum(map(exp, gains)), "probabilities are added up; add their"
             " logarithms."),
        ]  # fmt: skip
        explain(
            score,
            mistakes,
            f"the score of {ids} is {score:.4f}, and with a length penalty of"
            f" {alpha:g} should be {case.divided(total, n):.4f}.",
            1e-5,
        )


@beam.test(
    "a beam that drops nothing finds the best of all",
    11,
    "When is a beam wide enough?",
)
def check_exhaustive(answer: Any) -> None:
    """Try beams with room for everything, where mistakes in ending show."""

    def draw(number: int) -> Case:
        words, limit, alpha, eos_score = (
            (2, 4, 3.0, 1.0),
            (3, 3, 0.0, -1.0),
            (2, 4, 1.5, -1.0),
            (2, 4, 3.0, 0.0),
        )[number % 4]
        language = draw_language(words, limit, eos_score=eos_score)
        return Case(language, (words + 2) ** limit, limit, alpha)

    early = "sentences that ended in an earlier step are thrown away: keep"
    early += " them all until the end."
    hasty = "it stops too early: a beginning has lost only when its sum,"
    hasty += " divided for the limit's length, is not above the best score."
    plain = "the best is chosen by its plain log-probability: compare after"
    plain += " dividing."
    cut = "what is cut off at the limit must not beat what has ended."
    mistakes: Mistakes = [
        (partial(search, keep="none"), "sentences that have ended are thrown"
         " away: set them aside, and return the best of them."),
        (partial(search, spread=False), APART),
        (partial(search, keep="last"), early),
        (partial(search, keep="last", stop="never"), early),
        (partial(search, stop="first"), "it stops when the first sentence"
         " ends. A longer one may still have a better score."),
        (partial(search, stop="top"), hasty),
        (partial(search, stop="now"), hasty),
        (partial(search, choose="total"), plain),
        (partial(search, choose="total", stop="never"), plain),
        (partial(search, choose="cut"), cut),
        (partial(search, choose="cut", stop="never"), cut),
    ]  # fmt: skip

    def ask(case: Case) -> Found:
        try:
            return case.asked(answer, follower(case.language))
        except Wrong as wrong:
            if not isinstance(wrong.__cause__, Exception):
                raise
            V = len(case.language.row([case.language.bos]))
            more = ". K + 1 may be more than V: `topk(min(K + 1, V))`."
            raise Wrong(
                f"with width {case.width} and V = {V} {wrong}"
                f"{more if 'selected index k' in str(wrong) else ''}"
            ) from None

    judge_searches(
        ask,
        draw,
        mistakes,
        "Nothing has to be dropped here: is the best of all that ended"
        " returned?",
    )


@beam.test("a narrow beam keeps the best of all extensions", 11, "Beam search")
def check_narrow(answer: Any) -> None:
    """Try beams where something must be dropped."""

    def draw(number: int) -> Case:
        words, limit, width, alpha = (
            (4, 6, 3, 3.0),
            (5, 5, 2, 0.0),
            (4, 6, 2, 3.0),
            (5, 5, 3, 1.0),
        )[number % 4]
        language = draw_language(words, limit, eos_score=0.8)
        return Case(language, width, limit, alpha)

    mistakes: Mistakes = [
        (partial(search, narrower=1), "the beam is one too narrow."),
        (partial(search, narrower=-1), "the beam is one too wide."),
        (lambda case: search(case, narrower=case.width - 1), "one beginning"
         " is kept, as greedy search does: keep `width`."),
        (partial(search, fill=False), "an ending takes a place of those that"
         " go on: keep `width` beginnings that have not ended."),
        (partial(search, any_rank=True), "every ending is set aside; only one"
         " among the best `width` extensions is."),
        (partial(search, stop="enough"), "it stops when `width` sentences"
         " have ended. Go on for as long as a beginning can still win (unlike"
         " the loop of chapter 11)."),
        (competing, "what has ended keeps a place in the beam, and may be"
         " dropped: set it aside."),
        (partial(search, few=True), FEW),
        (partial(search, spread=False), APART),
    ]  # fmt: skip
    judge_searches(
        lambda case: case.asked(answer, follower(case.language)),
        draw,
        mistakes,
        "Which extensions are kept, and which end?",
    )


@beam.test("a beam of one goes on past an early EOS", 11, "Beam search")
def check_one(answer: Any) -> None:
    """Try width 1, where only the second extension can go on, and wins."""
    case = Case(draw_early_end(), 1, 4, 2.0)
    here = "with width 1, where EOS is narrowly the likeliest at first,"
    further = "Set that end aside, and go on with the next: look at K + 1"
    further += " extensions, as one may be EOS."
    try:
        found = case.asked(answer, follower(case.language))
    except Wrong as wrong:
        if not isinstance(wrong.__cause__, Exception):
            raise
        raise Wrong(f"{here} {wrong}. {further}") from None
    right = search(case)
    if not same(found, right):
        raise Wrong(
            f"{here} it finds {found[0]} with {found[1]:.3f}, and"
            f" {right[0]} has {right[1]:.3f}. {further}"
        )


@beam.test("it returns the best beginning where nothing ends", 11, "How long?")
def check_cut(answer: Any) -> None:
    """Try decoders that never end."""
    for width, limit, alpha in ((2, 3, 1.0), (3, 4, 0.0)):
        language = draw_language(4, limit + 2, limit + 1)
        case = Case(language, width, limit, alpha)
        try:
            found = case.asked(answer, follower(language))
        except Wrong as wrong:
            if not isinstance(wrong.__cause__, Exception):
                raise
            raise Wrong(
                f"where nothing ends within the limit {wrong}. Return the"
                " best beginning, cut off."
            ) from None
        right = search(case)
        if not same(found, right):
            raise Wrong(
                f"nothing ends within {limit} tokens, and it returns"
                f" {found[0]} with {found[1]:.4f}; the best beginning is"
                f" {right[0]} with {right[1]:.4f}, divided for its {limit}"
                " tokens."
            )


@beam.test("it stops when nothing can win any more", 11, "How long?")
def check_effort(answer: Any) -> None:
    """Count what is asked, where the end is all but sure."""
    for width, alpha in ((2, 0.0), (3, 1.0)):
        case = Case(draw_language(4, 40, 2), width, 40, alpha)
        asked: list[tuple[int, ...]] = []
        case.asked(answer, follower(case.language, asked))
        if any(case.language.eos in ids for ids in asked):
            raise Wrong(
                "step is asked what follows EOS: what has ended does not go"
                " on."
            )
        most = max(Counter(map(len, set(asked))).values())
        if most > width:
            raise Wrong(
                f"with width {width}, step is asked about {most} beginnings"
                " of one length."
            )
        if max(map(len, asked)) > 12:
            raise Wrong(
                "right, but it goes on to the limit. Stop when the best"
                " beginning's sum, divided for the limit's length, is not"
                " above the best score: it can only fall."
            )
