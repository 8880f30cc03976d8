"""Grade a folder of submissions: a row for each, whatever it holds.

Nobody is judged before the reference solution scores full points in the very
same sandbox. Each result is kept as soon as it is there, so that a run that
was stopped can go on.
"""

import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue

from minitransformer import __version__
from minitransformer.errors import UserError
from minitransformer.files import write_text
from minitransformer.homework.grading.judges import Worker
from minitransformer.homework.grading.judging import Report
from minitransformer.homework.grading.sandbox import Limits, warnings_for
from minitransformer.homework.grading.submissions import (
    Submission,
    Unreadable,
    digest,
    find_submissions,
    guess,
    printable,
    require_folder,
)
from minitransformer.homework.honesty import PACKAGE
from minitransformer.homework.tasks import ASSIGNMENTS, tasks_of

SOLUTIONS = PACKAGE / "homework" / "solutions"
FORMULAS = "=+-@\t\r"  # a spreadsheet would run a cell that begins so


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a run.

    Attributes:
        assignment: Such as ``"hw2"``.
        seed: Draws the inputs.
        per_student: Whether each student gets a seed of their own.
        limits: What a submission may use.
        jobs: How many are judged at a time.
    """

    assignment: str
    seed: int = 0
    per_student: bool = False
    limits: Limits = field(default_factory=Limits)
    jobs: int = 1

    def seed_for(self, student: str) -> int:
        """Return a student's seed."""
        if not self.per_student:
            return self.seed
        text = f"{self.seed} {student}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:4]) % 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """A student's result.

    Attributes:
        student: As the submission names them.
        id: Their number in Moodle or Canvas, ``""`` if unknown.
        file: Name of what was judged.
        report: What came out.
    """

    student: str
    id: str
    file: str
    report: Report


def guess_assignment(folder: Path) -> str:
    """Return the assignment that the names in a folder speak of.

    Raises:
        UserError: If they speak of none, or of several; if it is no folder.
    """
    require_folder(folder)
    names = [folder.resolve().name]
    for place, _, files in os.walk(folder):
        names += [file for file in files if place.count(os.sep) < 50]
    found = set().union(*map(guess, names)) & set(ASSIGNMENTS)
    if len(found) != 1:
        raise UserError(
            f"The names in {folder} speak of"
            f" {' and '.join(sorted(found)) or 'no assignment'}: say which it"
            " is, such as --assignment hw2."
        )
    return found.pop()


def grade(
    folder: Path,
    plan: Plan,
    kept: Path,
    resume: bool = False,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[Row]:
    """Judge all submissions in a folder.

    Args:
        folder: Holds a file or a folder for each student.
        plan: How to judge.
        kept: File that keeps the results, a line each.
        resume: Whether to take what it holds from an earlier run.
        warn: Is told which walls are missing.

    Yields:
        A row for each student, as it is done.

    Raises:
        UserError: If there is nothing to grade, or the reference solution
            does not score full points.
    """
    submissions = find_submissions(folder, plan.assignment)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.open("a").close()  # a place that can't be written to is told now
    workers: SimpleQueue[Worker] = SimpleQueue()
    every = [Worker(plan.limits) for _ in range(max(plan.jobs, 1))]
    for worker in every:
        workers.put(worker)
    try:
        layers = try_reference(every[0], plan.assignment)
        for text in warnings_for(layers):
            warn(text)
        required = [name for name, why in layers.items() if not why]
        known = _kept(kept) if resume else {}
        with kept.open("a" if resume else "w", encoding="utf-8") as file:

            def one(submission: Submission) -> Row:
                seed = plan.seed_for(submission.student)
                key, report = _key(submission, plan, seed), None
                if key in known:
                    report = Report.from_json(known[key])
                if report is None:
                    report = _judged(submission, plan, seed, workers, required)
                    line = {"key": key, "report": asdict(report)}
                    file.write("\n" + json.dumps(line) + "\n")
                    file.flush()
                name = printable(submission.path.name)
                return Row(submission.student, submission.id, name, report)

            with ThreadPoolExecutor(len(every)) as pool:
                try:
                    yield from pool.map(one, submissions)
                finally:
                    pool.shutdown(cancel_futures=True, wait=False)
                    for worker in every:
                        worker.close()
    finally:
        for worker in every:
            worker.close()


def _judged(
    submission: Submission,
    plan: Plan,
    seed: int,
    workers: "SimpleQueue[Worker]",
    required: list[str],
) -> Report:
    if submission.problem:
        return Report.without_code(plan.assignment, seed, submission.problem)
    worker = workers.get()
    try:
        return worker.judge(submission.path, plan.assignment, seed, required)
    finally:
        workers.put(worker)


def try_reference(worker: Worker, assignment: str) -> dict[str, str]:
    """Judge our own solution as if a student had handed it in.

    Returns:
        For each layer of the sandbox ``""``, or why it is missing.

    Raises:
        UserError: If it does not score full points.
    """
    report = worker.judge(SOLUTIONS / f"{assignment}.py", assignment, 0, [])
    failed = [task for task in report.tasks if not task.passed]
    if failed:
        raise UserError(
            f"The reference solution of {assignment} scores {report.points} of"
            f" {report.out_of} points here, so nobody was judged:"
            f" {failed[0].name}: {failed[0].message}"
            + (f" ({report.reason})" if report.reason else "")
        )
    if sys.platform == "linux" and (why := report.layers["limits"]):
        raise UserError(
            f"A submission could stop this machine ({why}), so nobody was"
            " judged: grade as another user, or let all users read the"
            " folders of Python."
        )
    return report.layers


def _key(submission: Submission, plan: Plan, seed: int) -> str:
    """Return what a result depends on, in short."""
    try:
        content = submission.problem or digest(submission.path)
    except Unreadable as why:
        content = str(why)
    limits = asdict(plan.limits) | {"off": sorted(plan.limits.off)}
    known = [
        submission.path.name,
        submission.student,
        content,
        plan.assignment,
        seed,
        __version__,
        _tests(),
        limits,
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _tests() -> str:
    """Return a fingerprint of all tests."""
    found = hashlib.sha256()
    for path in sorted((PACKAGE / "homework").rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _kept(path: Path) -> dict[str, dict[str, object]]:
    """Read results of an earlier run; its last line may be torn."""
    found = {}
    if path.exists():
        for line in path.read_text("utf-8", "replace").splitlines():
            try:
                entry = json.loads(line)
                found[entry["key"]] = entry["report"]
            except (ValueError, KeyError, TypeError):
                continue
    return found


def table(rows: Iterable[Row], assignment: str) -> list[list[str]]:
    """Return the grades, a list of cells for each line."""
    tasks = [task.name for task in tasks_of(assignment)]
    head = ["student", "id", "file", "points", "out of", *tasks]
    lines = [[*head, "seed", "seconds", "reason"]]
    for row in rows:
        report = row.report
        points = {
            task.name: task.points if task.out_of else int(task.passed)
            for task in report.tasks
        }
        lines.append(
            [
                harmless(row.student),
                row.id,
                harmless(row.file),
                str(report.points),
                str(report.out_of),
                *(str(points.get(name, 0)) for name in tasks),
                str(report.seed),
                str(report.seconds),
                harmless(report.reason),
            ]
        )
    return lines


def harmless(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula.

    >>> harmless("=1+1")
    "'=1+1"
    """
    return f"'{cell}" if cell[:1] and cell[0] in FORMULAS else cell


def write_csv(path: Path, lines: list[list[str]]) -> None:
    """Write a table, whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_text(path, text.getvalue())
