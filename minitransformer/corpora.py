"""Where sentence pairs come from: one name for each corpus."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from minitransformer import challenge, multi30k, storybook, tatoeba
from minitransformer.errors import UserError
from minitransformer.multi30k import load_multi30k
from minitransformer.own_files import files_corpus, tsv_corpus
from minitransformer.pairs import Corpus, Pair
from minitransformer.tatoeba import load_tatoeba, tatoeba_credits

__all__ = [
    "CORPORA",
    "Corpus",
    "CorpusInfo",
    "Pair",
    "corpus_names",
    "credit_lines",
    "files_corpus",
    "load_corpus",
    "tsv_corpus",
]


STORYBOOK_LICENCE = "MIT"
STORYBOOK_CREDITS = "Made by minitransformer's own grammar."


@dataclass(frozen=True)
class CorpusInfo:
    """What is known of a corpus before it is loaded or fetched.

    Attributes:
        name: What `load_corpus` knows it by.
        source_language: Code such as ``"en"``.
        target_language: Likewise.
        pairs: About how many pairs there are to train on.
        about: What it is, in a few words.
        how: How it gets here.
        licence: The terms of the text.
        credits: Who made it.
        load: Given the user's folder, returns the corpus.
    """

    name: str
    source_language: str
    target_language: str
    pairs: int
    about: str
    how: str
    licence: str
    credits: str
    load: Callable[[Path | None], Corpus]


def _load_storybook(data_dir: Path | None) -> Corpus:
    """Make the corpus of our own grammar; it needs no folder."""
    return Corpus(
        "storybook",
        "en",
        "fr",
        {
            name: [Pair(pair.source, pair.target) for pair in pairs]
            for name, pairs in storybook.splits().items()
        },
        STORYBOOK_LICENCE,
        STORYBOOK_CREDITS,
    )


def _load_challenge(data_dir: Path | None) -> Corpus:
    """Make the corpus of our own sentences; it needs no folder."""
    return challenge.load_challenge()


def _tatoeba_info(source: str, target: str) -> CorpusInfo:
    return CorpusInfo(
        f"tatoeba-{source}-{target}",
        source,
        target,
        54_000,
        "everyday sentences",
        "fetched once with pip (17 MB)",
        tatoeba.LICENCE,
        tatoeba.CREDITS,
        partial(load_tatoeba, source, target),
    )


def _multi30k_info(source: str, target: str) -> CorpusInfo:
    return CorpusInfo(
        f"multi30k-{source}-{target}",
        source,
        target,
        29_000,
        "captions of photographs",
        "fetched once (1.3 MB)",
        multi30k.LICENCE,
        multi30k.CREDITS,
        partial(load_multi30k, source, target),
    )


CORPORA = {
    info.name: info
    for info in [
        CorpusInfo(
            "storybook",
            "en",
            "fr",
            60_000,
            "stories from our own grammar",
            "comes with minitransformer",
            STORYBOOK_LICENCE,
            STORYBOOK_CREDITS,
            _load_storybook,
        ),
        CorpusInfo(
            challenge.NAME,
            "zh",
            "en",
            0,
            "one difficulty in each sentence, to test only",
            "comes with minitransformer",
            challenge.LICENCE,
            challenge.CREDITS,
            _load_challenge,
        ),
        _tatoeba_info("zh", "en"),
        _tatoeba_info("en", "zh"),
        _multi30k_info("en", "de"),
        _multi30k_info("de", "en"),
        _multi30k_info("en", "fr"),
        _multi30k_info("fr", "en"),
    ]
}


def corpus_names() -> list[str]:
    """List the names that `load_corpus` knows."""
    return list(CORPORA)


def load_corpus(
    name: str | None = None,
    *,
    data_dir: Path | str | None = None,
    source: Path | str | None = None,
    target: Path | str | None = None,
) -> Corpus:
    """Load a corpus by its name, or make one of the user's files.

    Args:
        name: One of `corpus_names`; None, or ``"files"``, with ``source``.
        data_dir: Folder to look for files in before they are fetched;
            without it, ``$MINITRANSFORMER_DATA``.
        source: A file for `files_corpus`, or alone for `tsv_corpus`.
        target: The other file for `files_corpus`.

    Raises:
        UserError: If there is no such corpus, or it can't be had.
    """
    if source is not None:
        if name not in (None, "files"):
            raise UserError(
                f"Give the corpus {name!r} or files of your own, not both."
            )
        if target is None:
            return tsv_corpus(source)
        return files_corpus(source, target)
    if target is not None:
        raise UserError(f"{target} has no source: give that file, too.")
    folder = Path(data_dir) if data_dir else None
    return _info(name).load(folder)


def credit_lines(
    name: str, data_dir: Path | str | None = None
) -> Iterator[str]:
    """Yield whom a corpus is owed to, line by line.

    For Tatoeba that is the terms and then the number of every sentence, as
    its licence asks for.

    Raises:
        UserError: If there is no such corpus, or it can't be had.
    """
    info = _info(name)
    yield f"{info.name}: {info.licence}"
    if name.startswith("tatoeba"):
        yield from tatoeba_credits(Path(data_dir) if data_dir else None)
    else:
        yield info.credits


def _info(name: str | None) -> CorpusInfo:
    if name not in CORPORA:
        raise UserError(
            f"There is no corpus {name!r}: choose from"
            f" {', '.join(CORPORA)}, or give files of your own."
        )
    return CORPORA[name]
