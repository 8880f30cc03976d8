"""The storybook: English-French sentences whose whole truth is known.

Every pair comes with its word alignment and with the antecedent of every
pronoun, so that what an attention head does can be scored. French must choose
*il* or *elle* by the gender of the word that "it" stands for, and which word
that is only the meaning tells: "The animal did not cross the street because
it was too tired." / "... too wide."

Alignment: words of one unit are all linked with each other. "did not open" and
"n'a pas ouvert" are two units: "not" with *n'* and *pas*, "did open" with *a
ouvert*. Articles are linked with articles; the full stop with the full stop.
"""

import random
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from minitransformer.story_grammar import Maker, Side, settle
from minitransformer.story_lexicon import ADJECTIVES, RESULTS, SUITED
from minitransformer.story_patterns import draft

WORD = re.compile(r"aujourd'hui|'s\b|[\w-]+(?:'(?!s\b))?|[^\w\s]", re.I)
HELD_OUT = 16  # one pair in so many is kept for the compositional test


@dataclass(frozen=True, slots=True)
class Pronoun:
    """A pronoun and the noun it stands for; indexes into `words`.

    Attributes:
        source_index: "it" or "they" in the English sentence.
        target_index: Its translation.
        source_antecedent: The English noun.
        target_antecedent: The French noun.
        gender: The French noun's, ``"m"`` or ``"f"``.
    """

    source_index: int
    target_index: int
    source_antecedent: int
    target_antecedent: int
    gender: str


@dataclass(frozen=True, slots=True)
class StoryPair:
    """An English sentence, its translation, and the truth about both.

    Attributes:
        source: English.
        target: French.
        pattern: Name of the pattern it was built by.
        alignment: Linked words, as (source index, target index) into
            `words`, sorted.
        pronouns: Those that have an antecedent in the sentence.
    """

    source: str
    target: str
    pattern: str
    alignment: tuple[tuple[int, int], ...]
    pronouns: tuple[Pronoun, ...]


def words(text: str) -> list[str]:
    """Split a sentence of either language into words and marks.

    >>> words("L'animal n'a pas mangé aujourd'hui.")
    ["L'", 'animal', "n'", 'a', 'pas', 'mangé', "aujourd'hui", '.']
    >>> words("The baker's dog slept.")
    ['The', 'baker', "'s", 'dog', 'slept', '.']
    """
    return WORD.findall(text)


# Pairs of a noun and what is said of it that are kept for one test ---


def _held_out() -> frozenset[tuple[str, str]]:
    """Choose the pairs that training never sees together.

    A noun or a word that has few partners keeps them all.
    """
    partners = {noun: set(names) for noun, names in SUITED.items()}
    for result in RESULTS:
        for noun in result.suits:
            partners[noun].add(result.en)
    suiting: dict[str, int] = dict.fromkeys(ADJECTIVES, 0)
    for names in partners.values():
        for name in names:
            suiting[name] = suiting.get(name, 0) + 1
    return frozenset(
        (noun, name)
        for noun, names in partners.items()
        for name in names
        if len(names) >= 4 and suiting[name] >= 4
        if zlib.crc32(f"{noun} {name}".encode()) % HELD_OUT == 0
    )


HELD_OUT_PAIRS = _held_out()


# Sentences ---


def _text(side: Side, french: bool) -> str:
    """Join words as each language writes them."""
    text = ""
    for word, _ in side:
        close = word in ".,'s" or (word in "?!" and not french)
        if text and not close and not text.endswith("'"):
            text += " "
        text += word
    return text


def _indexes(side: Side, link: int) -> list[int]:
    """Find the words that carry a link."""
    return [i for i, (_, links) in enumerate(side) if link in links]


def tell(rng: random.Random) -> tuple[StoryPair, bool]:
    """Make one pair.

    Args:
        rng: The source of every choice.

    Returns:
        The pair, and whether it holds a pair of words that is held out.
    """
    make = Maker(rng)
    pattern, sentence = draft(make)
    sides = []
    for side, french in ((sentence.phrase.en, 0), (sentence.phrase.fr, 1)):
        settled = settle(side, bool(french))
        first, links = settled[0]
        settled[0] = (first[0].upper() + first[1:], links)
        sides.append([*settled, (sentence.mark, (0,))])
    en, fr = sides
    places: dict[int, list[int]] = {}  # link -> indexes of English words
    for i, (_, links) in enumerate(en):
        for link in links:
            places.setdefault(link, []).append(i)
    alignment = {
        (i, j)
        for j, (_, links) in enumerate(fr)
        for link in links
        for i in places.get(link, ())
    }
    pronouns = tuple(
        Pronoun(
            _indexes(en, link)[0],
            _indexes(fr, link)[0],
            _indexes(en, antecedent.head)[0],
            _indexes(fr, antecedent.head)[0],
            antecedent.gender,
        )
        for link, antecedent in sentence.pronouns
    )
    pair = StoryPair(
        _text(en, french=False),
        _text(fr, french=True),
        pattern,
        tuple(sorted(alignment)),
        pronouns,
    )
    return pair, not HELD_OUT_PAIRS.isdisjoint(make.pairs)


def stories(seed: int = 0) -> Iterator[tuple[StoryPair, str]]:
    """Yield pairs without end, and the split each belongs to.

    The sentence itself decides the split, so that no sentence can be in two:
    ``"compositional"`` if it joins words that are held out, else by a
    checksum of the English.
    """
    rng = random.Random(seed)
    while True:
        pair, held_out = tell(rng)
        share = zlib.crc32(pair.source.encode()) % 50
        split = {0: "valid", 1: "test"}.get(share, "train")
        yield pair, "compositional" if held_out else split


@lru_cache(maxsize=1)
def splits(
    train_size: int = 60_000,
    valid_size: int = 1_000,
    test_size: int = 1_000,
    compositional_size: int = 1_000,
    seed: int = 0,
) -> Mapping[str, tuple[StoryPair, ...]]:
    """Make the corpus: the same on every machine, no sentence twice.

    Args:
        train_size: Pairs to learn from.
        valid_size: Pairs to choose by.
        test_size: Pairs to test on, of the same kind.
        compositional_size: Pairs to test on, each of which says of a noun
            what training never says of it.
        seed: Decides them all.

    Returns:
        The pairs under "train", "valid", "test" and "compositional", to be
        read only.
    """
    wanted = {
        "train": train_size,
        "valid": valid_size,
        "test": test_size,
        "compositional": compositional_size,
    }
    found: dict[str, list[StoryPair]] = {name: [] for name in wanted}
    missing = sum(wanted.values())
    seen: set[str] = set()
    for pair, split in stories(seed):
        if missing == 0:
            break
        if len(found[split]) < wanted[split] and pair.source not in seen:
            seen.add(pair.source)
            found[split].append(pair)
            missing -= 1
    # Later calls return the same object, so nobody may change it.
    return MappingProxyType(
        {name: tuple(pairs) for name, pairs in found.items()}
    )
