"""Find what was handed in, whose it is, and read it without trusting it."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minitransformer.errors import UserError

SUFFIXES = (".ipynb", ".py")
MAX_FILE = 20 << 20  # a notebook holds its figures
MAX_CODE = 2 << 20
MAX_DEPTH = 4  # folders within a student's folder
# As the two systems name what a teacher downloads.
MOODLE = re.compile(
    r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_[a-z]+_?(?P<rest>.*)"
)
CANVAS = re.compile(
    r"(?P<name>[^_]+)_(?:LATE_)?(?P<id>\d+)_\d+_(?P<rest>.+)", re.IGNORECASE
)
ASSIGNMENT = re.compile(r"hw ?_?([1-9])(?!\d)", re.IGNORECASE)


class Unreadable(Exception):  # noqa: N818 (no fault of the program)
    """A file can't be judged; says why."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What one student handed in.

    Attributes:
        student: As the file or folder names them.
        id: Their number in Moodle or Canvas, ``""`` if there is none.
        path: The file; the folder, if there is no file to judge.
        problem: Why there is none, ``""`` if there is one.
    """

    student: str
    id: str
    path: Path
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """The code of a submission.

    Attributes:
        texts: The code cells of a notebook, or the text of a script.
        notebook: Which of the two it is.
    """

    texts: list[str]
    notebook: bool


def require_folder(folder: Path) -> None:
    """Raise a ``UserError`` if a path is no folder."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give one with submissions.")


def find_submissions(folder: Path, assignment: str) -> list[Submission]:
    """Find what was handed in.

    Args:
        folder: Holds a file or a folder for each student.
        assignment: Such as ``"hw2"``, to choose among several files.

    Raises:
        UserError: If there is nothing.
    """
    require_folder(folder)
    found = [_submission(path, assignment) for path in _entries(folder)]
    if not found:
        raise UserError(f"{folder} is empty: there is nothing to grade.")
    return list(_one_for_each(found))


def _one_for_each(found: list[Submission]) -> Iterator[Submission]:
    """Join what one student attached as several files, side by side."""
    groups: dict[tuple[str, str], list[Submission]] = {}
    for number, one in enumerate(found):
        own = one.id or f"file {number}"  # without an id, names may be alike
        groups.setdefault((one.student, own), []).append(one)
    for group in groups.values():
        code = [one for one in group if not one.problem] or group[:1]
        if len(code) == 1:
            yield code[0]
        else:
            names = ", ".join(printable(one.path.name) for one in code[:5])
            problem = f"there are {len(code)} files: {names}"
            first = code[0]
            yield Submission(first.student, first.id, first.path, problem)


def _entries(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.name[0] != "." and path.name != "__MACOSX"
    )


def _submission(path: Path, assignment: str) -> Submission:
    student, number = whose(path.name)
    if path.is_symlink():
        problem = f"{printable(path.name)} is a link, and no file of its own"
        return Submission(student, number, path, problem)
    if not path.is_dir():
        problem = ""
        if path.suffix.lower() not in SUFFIXES:
            problem = f"{printable(path.name)} is neither .ipynb nor .py"
        return Submission(student, number, path, problem)
    files = list(_files_in(path))
    named = [file for file in files if guess(file.name) == {assignment}]
    if len(files) > 1 and len(named) == 1:
        files = named
    if len(files) == 1:
        return Submission(student, number, files[0])
    problem = "the folder holds no .ipynb or .py file"
    if files:
        names = ", ".join(printable(file.name) for file in files[:5])
        problem = f"the folder holds {len(files)} files: {names}"
    return Submission(student, number, path, problem)


def _files_in(folder: Path, depth: int = 0) -> Iterator[Path]:
    for path in _entries(folder):
        if path.is_dir() and not path.is_symlink():
            if depth < MAX_DEPTH:
                yield from _files_in(path, depth + 1)
        elif path.suffix.lower() in SUFFIXES:
            yield path


def whose(name: str) -> tuple[str, str]:
    """Return student and number from the name of a file or folder.

    >>> whose("Ada Lovelace_12345_assignsubmission_file_")
    ('Ada Lovelace', '12345')
    >>> whose("lovelaceada_LATE_12345_67890_hw2-1.ipynb")
    ('lovelaceada', '12345')
    >>> whose("ada.ipynb")
    ('ada', '')
    """
    name = printable(name)
    for form in (MOODLE, CANVAS):
        if match := form.fullmatch(name):
            return match["name"], match["id"]
    path = Path(name)
    known = (*SUFFIXES, ".pdf", ".zip")
    return path.stem if path.suffix.lower() in known else name, ""


def guess(name: str) -> set[str]:
    """Return the assignments that a name speaks of.

    >>> guess("lovelaceada_12345_67890_hw2-1.ipynb")
    {'hw2'}
    """
    return {f"hw{number}" for number in ASSIGNMENT.findall(name)}


def printable(text: str) -> str:
    """Return a name without what can't be written or would act on a screen."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)


def read_bytes(path: Path) -> bytes:
    """Read a plain file, not through a link.

    Raises:
        Unreadable: If it is something else, too large, or can't be read.
    """
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        if path.is_symlink():
            raise Unreadable("it is a link, and no file of its own")
        handle = os.open(path, flags)
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                raise Unreadable("it is no plain file")
            if about.st_size > MAX_FILE:
                raise Unreadable(
                    f"the file has {about.st_size >> 20} MB, and at most"
                    f" {MAX_FILE >> 20} are read"
                )
            return file.read(MAX_FILE + 1)[:MAX_FILE]
    except OSError as error:
        raise Unreadable(
            f"the file can't be read ({error.strerror or error})"
        ) from error


def digest(path: Path) -> str:
    """Return a fingerprint of a file's content."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def read_submission(path: Path) -> Content:
    """Read the code of a notebook or of a script.

    Raises:
        Unreadable: If there is no code in it that can be read.
    """
    content = read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("the file is no UTF-8 text") from None
    notebook = path.suffix.lower() == ".ipynb"
    texts = [text.replace("\r\n", "\n")]
    if notebook:
        try:
            texts = list(_code_cells(json.loads(text)))
        except (
            *(ValueError, RecursionError, TypeError),
            *(AttributeError, LookupError),
        ):
            raise Unreadable("the file is no notebook") from None
    if not any(text.strip() for text in texts):
        raise Unreadable("the file holds no code")
    if sum(map(len, texts)) > MAX_CODE:
        raise Unreadable(
            f"the file holds more than {MAX_CODE >> 20} MB of code"
        )
    return Content(texts, notebook)


def _code_cells(notebook: Any) -> Iterator[str]:
    cells = notebook.get("cells")
    if cells is None:  # notebooks before version 4
        sheets = notebook.get("worksheets", [])
        cells = [cell for sheet in sheets for cell in sheet["cells"]]
    for cell in cells:
        if cell.get("cell_type") == "code":
            source = cell.get("source", cell.get("input", ""))
            yield source if isinstance(source, str) else "".join(source)
