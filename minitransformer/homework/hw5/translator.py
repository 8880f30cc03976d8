"""Homework 5: a translator of the learner's own, and its cache."""

from collections import Counter
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minitransformer.evaluation import bleu as corpus_bleu
from minitransformer.homework.checking import Wrong, call
from minitransformer.homework.hw5.search import (
    FEW,
    Case,
    Found,
    Ids,
    Language,
    draw_language,
    judge_searches,
    search,
)
from minitransformer.homework.hw5.tasks import cached, translate
from minitransformer.storybook import StoryPair, stories

# The translator ---

ENOUGH = 50.0  # BLEU; a dictionary stays well below, see the tests
TRAINED = "Train it"


def unseen(count: int) -> list[StoryPair]:
    """Draw pairs of the storybook's test split, no sentence twice."""
    found: dict[str, StoryPair] = {}
    seed = int(torch.randint(10**6, ())) + 1  # 0 is what everyone trains on
    for pair, split in stories(seed):
        if split == "test":
            found.setdefault(pair.source, pair)
            if len(found) == count:
                break
    return list(found.values())


def translated(answer: Any, pairs: list[StoryPair]) -> list[str]:
    """Let a learner translate."""
    found = call(answer, [pair.source for pair in pairs])
    if isinstance(found, str) or not isinstance(found, list | tuple):
        raise Wrong("return a list of sentences, one for each that came in.")
    if len(found) != len(pairs):
        raise Wrong(
            f"{len(pairs)} sentences came in, and {len(found)} come out."
        )
    if not all(isinstance(text, str) for text in found):
        raise Wrong("return text: let the tokenizer decode the ids.")
    return list(found)


@translate.test("one French sentence for each English one", 10, TRAINED)
def check_sentences(answer: Any) -> None:
    """Try a few sentences, and one of them alone."""
    pairs = unseen(8)
    found = translated(answer, pairs)
    if sum(not text.strip() for text in found) > 4:
        raise Wrong("the translations are empty.")
    if sum(a == pair.source for a, pair in zip(found, pairs, strict=True)) > 4:
        raise Wrong("the sentences come back as they were, in English.")
    if max(Counter(found).values()) > 4:
        raise Wrong(
            f"different sentences become the same: {found[0]!r}. Does the"
            " decoder see the source?"
        )
    if sum(babbles(text) for text in found) > 4:
        raise Wrong(
            f"one word again and again: {found[0][:60]!r}. Take the last row"
            " of what the decoder gives, and ask about the whole beginning."
        )
    alone = translated(answer, pairs[5:6])
    if alone[0] in found and alone[0] != found[5]:
        raise Wrong(
            "the translations come in another order than the sentences."
        )


def babbles(text: str) -> bool:
    """Say whether a text is little but one word."""
    words = text.split() or [""]
    return max(Counter(words).values()) > max(3, len(words) // 2)


@translate.test(
    "it beats a word-for-word dictionary", 11, "What is a score worth?"
)
def check_quality(answer: Any) -> None:
    """Score 60 sentences of the test split."""
    pairs = unseen(60)
    found = translated(answer, pairs)
    value = corpus_bleu(found, [[pair.target] for pair in pairs]).value
    if value < ENOUGH:
        pair, text = pairs[0], found[0]
        raise Wrong(
            f"on 60 unseen sentences it has {value:.0f} BLEU, and"
            f" {ENOUGH:.0f} are asked for; a dictionary, word for word, has"
            f" about 26. {pair.source!r} became {text!r}. Is the loss near"
            " 0.2 at the end? Train on more sentences, or for longer."
        )


# Stretch: a state that follows the beam ---

KEPT = "Keep the keys and values"


def keeper(language: Language, calls: list[int]) -> Any:
    """Return the `step` that a learner's search is given.

    Args:
        language: The decoder.
        calls: Where to note how many rows come each time.
    """

    def step(tokens: Any, state: Any) -> tuple[Tensor, Tensor]:
        tokens = torch.as_tensor(tokens)
        if tokens.shape != state.shape[:1]:
            raise ValueError(
                f"step wants one token for each row of the state: tokens have"
                f" shape {tuple(tokens.shape)}, the state"
                f" {tuple(state.shape)}"
            )
        calls.append(len(tokens))
        new = tokens.to(state.dtype)[:, None, None]  # (K, 1, 1)
        longer = torch.cat([state, new], dim=1)  # (K, t + 1, 1)
        said = [[int(i) for i in row] for row in longer[:, :, 0].tolist()]
        rows = [language.row(ids) for ids in said]
        return torch.tensor(rows, dtype=torch.double), longer

    return step


def with_state(case: Case, follow: str) -> Found:
    """Search as `search` does, with a state that goes wrong.

    Args:
        case: What to search in.
        follow: What the state's rows do when beginnings change places:
            "stay"; or go where the "ranks" say, endings counted in.
    """
    language, width = case.language, case.width
    going: list[tuple[float, Ids, Ids]] = [(0.0, [language.bos], [])]
    ended: list[tuple[float, Ids]] = []
    for length in range(1, case.limit + 1):
        kept = [[*state, ids[-1]] for _, ids, state in going]
        longer = sorted(
            (
                (total + gain, row, [*ids, token])
                for row, (total, ids, _) in enumerate(going)
                for token, gain in enumerate(language.row(kept[row]))
            ),
            reverse=True,
        )
        ended += [
            (case.divided(total, length), ids[1:-1])
            for total, _, ids in longer[:width]
            if ids[-1] == language.eos
        ]
        best = [one for one in longer if one[2][-1] != language.eos][:width]
        rows = [row for _, row, _ in (longer if follow == "ranks" else best)]
        if follow == "stay":
            rows = [row % len(kept) for row in range(width)]
        going = [
            (total, ids, kept[row])
            for (total, _, ids), row in zip(best, rows, strict=False)
        ]
    cut = [(case.divided(t, len(i) - 1), i[1:]) for t, i, _ in going]
    value, ids = max(ended or cut)
    return ids, value


@cached.test("the rows of the state follow the beginnings", 11, KEPT)
def check_rows(answer: Any) -> None:
    """Try cases where rows that stay, or go elsewhere, are found out."""

    def draw(number: int) -> Case:
        language = draw_language(4, 6, eos_score=0.8)
        return Case(language, 2 + number % 3, 6, (1.0, 0.0)[number % 2])

    def ask(case: Case) -> Found:
        calls: list[int] = []
        state = torch.zeros(1, 0, 1, dtype=torch.double)
        found = case.asked(answer, keeper(case.language, calls), state)
        if len(calls) > case.limit:
            raise Wrong(
                f"within a limit of {case.limit}, step runs {len(calls)}"
                " times: once a token, for all beginnings together."
            )
        if max(calls) > case.width:
            raise Wrong(
                f"with width {case.width}, step gets {max(calls)} rows."
            )
        return found

    mistakes = [
        (partial(with_state, follow="stay"), "the state's rows stay where"
         " they are while the beginnings change places: reorder them by each"
         " one's parent."),
        (partial(with_state, follow="ranks"), "the state's rows follow the"
         " extensions with the endings counted in: take the parents of those"
         " that go on."),
        (partial(search, few=True), FEW),
    ]  # fmt: skip
    judge_searches(
        ask,
        draw,
        mistakes,
        "After each step the state must hold, row by row, the past of the"
        " beginning that goes on there.",
    )
