"""Fill the tables that Canvas and Moodle give out and take back.

What they hold is left as it is, but for the grades of this assignment.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from minitransformer.errors import UserError
from minitransformer.homework.grading.folders import Row, harmless

Lines = list[list[str]]


def read_table(path: Path) -> Lines:
    """Read a CSV file.

    Raises:
        UserError: If it can't be read, or is empty.
    """
    try:
        text = path.read_text("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path} can't be read as a CSV file in UTF-8 ({error})."
        ) from error
    if not lines:
        raise UserError(f"{path} is empty: export it again.")
    width = len(lines[0])
    return [line + [""] * (width - len(line)) for line in lines]


def fill_canvas(
    lines: Lines, rows: Sequence[Row], assignment: str
) -> tuple[Lines, list[str]]:
    """Fill in the gradebook that Canvas exported.

    Args:
        lines: Its table.
        rows: The results.
        assignment: Such as ``"hw2"``: the column whose name holds it.

    Returns:
        The table, filled, and the students who are not in it.

    Raises:
        UserError: If a column is missing.
    """
    head = lines[0]
    number = _column(head, "ID", "the gradebook")
    login = head.index("SIS Login ID") if "SIS Login ID" in head else None
    name = _column(head, "Student", "the gradebook")
    wanted = re.compile(
        rf"(?<!\w)(hw|homework) ?0?{assignment[2:]}(?!\d)", re.IGNORECASE
    )
    columns = [i for i, title in enumerate(head) if wanted.search(title)]
    if len(columns) != 1:
        raise UserError(
            f"The gradebook has {len(columns)} columns for {assignment}, and"
            f" one is needed, such as '{assignment} (1234)'."
        )
    column = columns[0]
    possible = None
    people = []
    for line in lines[1:]:
        if line[name].strip() == "Points Possible":
            possible = _number(line[column])
        elif line[number].strip():
            people.append(line)

    def is_them(line: list[str], row: Row) -> bool:
        if row.id:
            return line[number].strip() == row.id
        known = {_squeezed(line[name]), _turned(line[name])}
        if login is not None:
            known.add(_squeezed(line[login]))
        return _squeezed(row.student) in known

    def put(line: list[str], row: Row) -> None:
        line[column] = scaled(row, possible)

    return lines, _fill(people, rows, is_them, put)


def fill_moodle(lines: Lines, rows: Sequence[Row]) -> tuple[Lines, list[str]]:
    """Fill in the grading worksheet that Moodle exported.

    Args:
        lines: Its table.
        rows: The results.

    Returns:
        The table, filled, and the students who are not in it.

    Raises:
        UserError: If a column is missing.
    """
    head = lines[0]
    where = "the worksheet"
    number = _column(head, "Identifier", where)
    grade = _column(head, "Grade", where)
    _column(head, "Last modified (grade)", where)  # Moodle wants it back
    most, name, comment = (
        head.index(title) if title in head else None
        for title in ("Maximum Grade", "Full name", "Feedback comments")
    )

    def is_them(line: list[str], row: Row) -> bool:
        if row.id:
            return line[number].split()[-1:] == [row.id]
        if name is None:
            return False
        return _squeezed(line[name]) == _squeezed(row.student)

    def put(line: list[str], row: Row) -> None:
        possible = None if most is None else _number(line[most])
        line[grade] = scaled(row, possible)
        if comment is not None:
            line[comment] = harmless(in_a_line(row))

    return lines, _fill(lines[1:], rows, is_them, put)


def scaled(row: Row, possible: float | None) -> str:
    """Return a grade, out of what the gradebook has for full points."""
    points, full = row.report.points, row.report.out_of
    if possible is not None and full and possible != full:
        return f"{points * possible / full:.2f}"
    return str(points)


def in_a_line(row: Row) -> str:
    """Return feedback that fits into one cell."""
    parts = [f"{row.report.points} of {row.report.out_of} points."]
    parts += [
        f"{task.name}: {task.message}"
        for task in row.report.tasks
        if not task.passed
    ]
    if row.report.reason:
        parts.append(f"Remark: {row.report.reason}.")
    text = " ".join(parts)
    # Moodle takes it for HTML.
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _fill(
    lines: Lines,
    rows: Sequence[Row],
    is_them: Callable[[list[str], Row], bool],
    put: Callable[[list[str], Row], None],
) -> list[str]:
    unknown = []
    places = [[i for i, x in enumerate(lines) if is_them(x, y)] for y in rows]
    for row, found in zip(rows, places, strict=True):
        if len(found) == 1 and places.count(found) == 1:
            put(lines[found[0]], row)
        else:  # no line is theirs, or several, or somebody else's too
            unknown.append(row.student)
    return unknown


def _column(head: list[str], title: str, where: str) -> int:
    if title not in head:
        raise UserError(
            f"{where.capitalize()} has no column {title!r}: export it again,"
            " with the language set to English."
        )
    return head.index(title)


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _squeezed(name: str) -> str:
    # A letter and its accent may be one sign or two.
    name = unicodedata.normalize("NFC", name)
    return re.sub(r"[\W_]+", "", name).lower()


def _turned(name: str) -> str:
    """Return "Ada Lovelace" and "Lovelace, Ada" as the other way round."""
    last, comma, first = name.partition(",")
    if not comma:
        first, _, last = name.rpartition(" ")
        return _squeezed(last + first)
    return _squeezed(first + last)
