"""Sentence pairs, and how a corpus of them is split without leaks."""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation.

    Attributes:
        source: The sentence.
        target: Its translation, or the first of several.
        references: All its translations, ``target`` among them, if there
            are several; else empty.
    """

    source: str
    target: str
    references: tuple[str, ...] = ()

    @property
    def all_references(self) -> tuple[str, ...]:
        """Every known translation: at least one."""
        return self.references or (self.target,)


@dataclass(frozen=True)
class Corpus:
    """Sentence pairs to train on, to choose a model by, and to test with.

    Attributes:
        name: What `load_corpus` knows it by.
        source_language: Code such as ``"en"``; ``"und"`` if unknown.
        target_language: Likewise.
        splits: ``"train"``, ``"valid"``, ``"test"``; some have more.
        licence: The terms of the text.
        credits: Who made the text, and what was changed.
    """

    name: str
    source_language: str
    target_language: str
    splits: dict[str, Sequence[Pair]]
    licence: str
    credits: str

    def describe(self) -> dict[str, str]:
        """Say in a few words what is in it, for a table."""
        return {
            "name": self.name,
            "languages": f"{self.source_language}-{self.target_language}",
            "sizes": ", ".join(
                f"{split} {len(pairs):,}"
                for split, pairs in self.splits.items()
            ),
            "licence": self.licence,
        }


def assign_splits(
    texts: Sequence[tuple[str, str]], most: int
) -> tuple[list[str], int]:
    """Choose a split for each pair so that no sentence is in two splits.

    Where sentences have several translations, a random split leaks: a test
    sentence may have been trained on with another translation. So pairs that
    share a sentence on either side, directly or through others, stay
    together. Case, punctuation and spaces make no difference. The choice
    depends on the text only, not on its order or on a random seed.

    Args:
        texts: Source and target of each pair.
        most: Groups of pairs to hold out for ``"valid"``, and again for
            ``"test"``; fewer, a twentieth of them, if there are few.

    Returns:
        The split of each pair, and the number of groups.
    """
    keys = [(fold(source), fold(target)) for source, target in texts]
    groups = connected(keys)
    marks: dict[int, str] = {}  # the first key of each group names it
    for group, key in zip(groups, keys, strict=True):
        mark = "\t".join(key)
        marks[group] = min(mark, marks.get(group, mark))
    order = sorted(marks, key=lambda group: _digest(marks[group]))
    held_out = min(most, max(1, len(order) // 20))
    splits = dict.fromkeys(order, "train")
    splits |= dict.fromkeys(order[:held_out], "test")
    splits |= dict.fromkeys(order[held_out : 2 * held_out], "valid")
    return [splits[group] for group in groups], len(order)


def connected(keys: Sequence[tuple[str, str]]) -> list[int]:
    """Number the groups of pairs that share a source or a target.

    >>> connected([("a", "x"), ("b", "y"), ("c", "y"), ("d", "z")])
    [0, 1, 1, 3]
    """
    parents = list(range(len(keys)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]  # halve the way
            index = parents[index]
        return index

    first: dict[tuple[int, str], int] = {}
    for index, sides in enumerate(keys):
        for side in enumerate(sides):  # a source never equals a target
            other = first.setdefault(side, index)
            low, high = sorted((root(other), root(index)))
            parents[high] = low
    return [root(index) for index in range(len(keys))]


def fold(text: str) -> str:
    """Reduce text to what tells sentences apart: letters and digits.

    >>> fold("It's  LATE!") == fold("its late")
    True
    """
    kept = "".join(
        character
        for character in unicodedata.normalize("NFKC", text).casefold()
        if unicodedata.category(character)[0] not in "CPSZ"
    )
    return kept or text


def gather_references(texts: Iterable[tuple[str, str]]) -> list[Pair]:
    """Make one pair of each source, with all its translations.

    >>> gather_references([("a", "x"), ("b", "y"), ("a", "z")])[0].references
    ('x', 'z')
    """
    found: dict[str, dict[str, None]] = {}
    for source, target in texts:
        found.setdefault(source, {})[target] = None
    pairs = []
    for source, targets in found.items():
        references = tuple(targets)
        several = len(references) > 1
        pairs.append(
            Pair(source, references[0], references if several else ())
        )
    return pairs


def make_splits(
    texts: Sequence[tuple[str, str]], assigned: Sequence[str]
) -> dict[str, Sequence[Pair]]:
    """Put each pair into its split.

    The training split has every distinct pair; in the others each source is
    there once, with all its translations.
    """
    train: dict[tuple[str, str], None] = {}
    held: dict[str, list[tuple[str, str]]] = {"valid": [], "test": []}
    for text, split in zip(texts, assigned, strict=True):
        if split == "train":
            train[text] = None
        else:
            held[split].append(text)
    return {
        "train": [Pair(*text) for text in train],
        "valid": gather_references(held["valid"]),
        "test": gather_references(held["test"]),
    }


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
