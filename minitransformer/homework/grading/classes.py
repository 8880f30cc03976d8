"""Grade a class from its folder of submissions to the tables it needs."""

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from minitransformer.errors import UserError
from minitransformer.files import write_text
from minitransformer.homework.grading.feedback import file_names, page
from minitransformer.homework.grading.folders import (
    Plan,
    Row,
    grade,
    table,
    write_csv,
)
from minitransformer.homework.grading.gradebooks import (
    Lines,
    fill_canvas,
    fill_moodle,
    read_table,
)
from minitransformer.homework.grading.submissions import find_submissions

Fill = Callable[[Lines, list[Row]], tuple[Lines, list[str]]]


def grade_class(
    folder: Path,
    plan: Plan,
    out: Path,
    feedback: Path | None = None,
    resume: bool = False,
    canvas: Path | None = None,
    moodle: Path | None = None,
) -> Iterator[str]:
    """Judge all submissions and write all that is asked for.

    Args:
        folder: Holds a file or a folder for each student.
        plan: How to judge.
        out: For the grades.
        feedback: Folder for a page for each student.
        resume: Whether to keep what an earlier run judged.
        canvas: The gradebook that Canvas exported, to be filled in.
        moodle: The worksheet that Moodle exported, to be filled in.

    Yields:
        What was done, in lines for a person.

    Raises:
        UserError: If nothing can be graded, or a table can't be used.
    """
    books: list[tuple[str, Lines, Fill]] = []
    if canvas is not None:

        def into_canvas(
            lines: Lines, rows: list[Row]
        ) -> tuple[Lines, list[str]]:
            return fill_canvas(lines, rows, plan.assignment)

        books.append(("canvas", read_table(canvas), into_canvas))
    if moodle is not None:
        books.append(("moodle", read_table(moodle), fill_moodle))
    for _, lines, fill in books:
        fill(lines, [])  # a table that is no use is told before the work
    count = len(find_submissions(folder, plan.assignment))
    for place in filter(None, (out, feedback)):
        if folder.resolve() in place.resolve().parents:
            raise UserError(
                f"{place} is among the submissions: choose a place elsewhere."
            )
    if out.is_dir():
        raise UserError(f"{out} is a folder: name a file for the grades.")
    if feedback is not None and feedback.exists() and not feedback.is_dir():
        raise UserError(f"{feedback} is a file: name a folder for the pages.")
    written = [out, *(into(out, name) for name, _, _ in books)]
    for table_in in filter(None, (canvas, moodle)):
        if table_in.resolve() in [place.resolve() for place in written]:
            raise UserError(
                f"{table_in} would be overwritten: choose another --out."
            )
    rows = []
    with tqdm(
        total=count, unit="file", leave=False, disable=not sys.stderr.isatty()
    ) as bar:
        kept = out.with_name(out.name + ".results")
        for row in grade(folder, plan, kept, resume, warnings.warn):
            rows.append(row)
            bar.update()
    write_csv(out, table(rows, plan.assignment))
    yield f"{len(rows)} submissions judged; the grades are in {out}."
    for name, lines, fill in books:
        place = into(out, name)
        filled, unknown = fill(lines, rows)
        write_csv(place, filled)
        yield f"{len(rows) - len(unknown)} grades for {name} are in {place}."
        if unknown:
            yield f"Not found in the table of {name}: {', '.join(unknown)}."
    if feedback is not None:
        for row, name in zip(rows, file_names(rows), strict=True):
            write_text(feedback / name, page(row))
        yield f"A page for each student is in {feedback}."


def into(out: Path, name: str) -> Path:
    """Return where a table of Canvas or Moodle is written, filled in."""
    return out.with_name(f"{out.stem}-{name}.csv")
