"""A corpus from the user's own files, checked line by line."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from minitransformer.errors import UserError
from minitransformer.files import read_lines
from minitransformer.pairs import Corpus, assign_splits, make_splits
from minitransformer.tatoeba import HAN
from minitransformer.text import normalize

MAX_WORDS = 1000
MAX_CHARACTERS = 10 * MAX_WORDS  # for text without spaces
MIN_GROUPS = 10
MAX_HELD_OUT = 1000


def files_corpus(
    source: Path | str,
    target: Path | str,
    source_language: str | None = None,
    target_language: str | None = None,
) -> Corpus:
    """Make a corpus of two files: line n of one translates that of the other.

    A twentieth of the text is held out for the valid split, at most 1,000
    groups of pairs, and as much for the test split.

    Args:
        source: UTF-8 text.
        target: UTF-8 text.
        source_language: Code such as ``"de"``; without it, a file named
            ``x.de`` is German, and text in Chinese characters Chinese.
        target_language: Likewise.

    Raises:
        UserError: If a file can't be used; the message names file and line.
    """
    source, target = Path(source), Path(target)
    sides = [
        [_sentence(line, path, number) for number, line in read_lines(path)]
        for path in (source, target)
    ]
    counts = [len(side) for side in sides]
    if counts[0] != counts[1]:
        raise UserError(
            f"{source} has {counts[0]:,} lines but {target} has"
            f" {counts[1]:,}: line n of one must translate line n of the"
            " other."
        )
    return _split(
        source,
        list(zip(*sides, strict=True)),
        source_language or _language_of_file(source),
        target_language or _language_of_file(target),
    )


def tsv_corpus(
    path: Path | str,
    source_language: str | None = None,
    target_language: str | None = None,
) -> Corpus:
    """Make a corpus of one file: a sentence, a tab, its translation.

    Otherwise as `files_corpus`.

    Args:
        path: UTF-8 text.
        source_language: Code such as ``"de"``.
        target_language: Likewise.

    Raises:
        UserError: If the file can't be used; the message names the line.
    """
    path = Path(path)
    return _split(path, list(_columns(path)), source_language, target_language)


def _split(
    path: Path,
    texts: list[tuple[str, str]],
    source_language: str | None,
    target_language: str | None,
) -> Corpus:
    """Choose the splits, if there is enough text for them."""
    assigned, groups = assign_splits(texts, MAX_HELD_OUT)
    if groups < MIN_GROUPS:
        raise UserError(
            f"{path} has only {groups} sentences that differ, translation"
            f" included: give {MIN_GROUPS} or more."
        )
    sources, targets = zip(*texts, strict=True)
    return Corpus(
        "files",
        source_language or _language_of_script(sources),
        target_language or _language_of_script(targets),
        make_splits(texts, assigned),
        "as you say",
        "Your own files.",
    )


def _columns(path: Path) -> Iterator[tuple[str, str]]:
    """Read a file of two columns."""
    for number, line in read_lines(path):
        columns = line.rstrip("\r\n").split("\t")
        if len(columns) != 2:
            raise UserError(
                f"{path}, line {number}, has {len(columns)} columns: write a"
                " sentence, one tab and its translation."
            )
        source, target = (
            _sentence(column, path, number) for column in columns
        )
        yield source, target


def _sentence(line: str, path: Path, number: int) -> str:
    """Normalise a sentence and refuse what is none."""
    text = normalize(line)
    if not text:
        raise UserError(
            f"{path}, line {number}, has no text: write a sentence there, or"
            " remove the line and its translation."
        )
    words = text.count(" ") + 1
    if words > MAX_WORDS or len(text) > MAX_CHARACTERS:
        raise UserError(
            f"{path}, line {number}, has {words:,} words and {len(text):,}"
            f" characters: a line may have {MAX_WORDS:,} words and"
            f" {MAX_CHARACTERS:,} characters, so split it into sentences."
        )
    return text


def _language_of_file(path: Path) -> str | None:
    """Read the code off a name such as ``x.de``."""
    ending = path.suffix.removeprefix(".")
    is_code = len(ending) == 2 and ending.isalpha()
    return ending.lower() if is_code else None


def _language_of_script(texts: Sequence[str]) -> str:
    """Tell Chinese; other languages share their letters."""
    chinese = sum(HAN.search(text) is not None for text in texts)
    return "zh" if 2 * chinese > len(texts) else "und"
