"""The challenge set: Chinese sentences of ours, each with one difficulty.

A corpus tells how good a translator is; these sentences tell at what. Each
stands for one phenomenon, such as negation, and patterns say whether a
translation kept the point or missed it, however it is worded.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from minitransformer.challenge_table import NAMES, TABLE
from minitransformer.pairs import Corpus, Pair

NAME = "challenge-zh-en"
LICENCE = "CC BY 4.0"
CREDITS = (
    "Sentences, translations and patterns by the authors of Attention, Tested,"
    " written for it; CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"
    " like the text of the book."
)
NAMED = re.compile("|".join(sorted(NAMES, key=len, reverse=True)))


@dataclass(frozen=True, slots=True)
class Item:
    """A sentence, its translations, and how to tell if the point was kept.

    Attributes:
        source: The Chinese sentence.
        references: English translations, one or more.
        phenomenon: What is difficult about it.
        must: Regular expressions that a translation in lower case has to
            match, each of them.
        must_not: Those that it may not match.
        wrong: Mistranslations that miss the point, as a test of the patterns.
    """

    source: str
    references: tuple[str, ...]
    phenomenon: str
    must: tuple[str, ...]
    must_not: tuple[str, ...]
    wrong: tuple[str, ...]

    def kept(self, translation: str) -> bool:
        """Say whether a translation kept the point.

        It may still be wrong elsewhere: the patterns look at one thing.

        >>> item = next(i for i in challenge_items() if "三杯" in i.source)
        >>> item.source
        '桌上有三杯热茶。'
        >>> item.kept("On the table stand three cups of tea.")
        True
        >>> item.kept("There is a cup of tea on the table.")
        False
        """
        text = " ".join(translation.lower().replace("’", "'").split())
        return all(re.search(p, text) for p in self.must) and not any(
            re.search(p, text) for p in self.must_not
        )


@lru_cache(maxsize=1)
def challenge_items() -> tuple[Item, ...]:
    """Return all items, those of a phenomenon together."""
    return tuple(_parse(TABLE))


def load_challenge() -> Corpus:
    """Make the corpus: a test split, and nothing to train on."""
    pairs = [
        Pair(
            item.source,
            item.references[0],
            item.references if item.references[1:] else (),
        )
        for item in challenge_items()
    ]
    return Corpus(NAME, "zh", "en", {"test": pairs}, LICENCE, CREDITS)


def _parse(table: str) -> Iterator[Item]:
    """Read the blocks of `minitransformer.challenge_table`."""
    phenomenon = ""
    for block in table.replace("\\\n", "").strip().split("\n\n"):
        source, *lines = block.splitlines()
        if source.startswith("# "):
            phenomenon = source[2:]
            continue
        signed: dict[str, list[str]] = {sign: [] for sign in "=+-x"}
        for line in lines:
            signed[line[0]].append(line[2:])
        yield Item(
            source,
            tuple(signed["="]),
            phenomenon,
            tuple(map(_spell_out, signed["+"])),
            tuple(map(_spell_out, signed["-"])),
            tuple(signed["x"]),
        )


def _spell_out(pattern: str) -> str:
    """Put in what the names of a pattern stand for."""
    return NAMED.sub(lambda found: NAMES[found[0]], pattern)
