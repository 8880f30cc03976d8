"""Judge one submission: run it behind walls, and ask its objects."""

import json
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from minitransformer.homework.checking import Wrong
from minitransformer.homework.grading.remote import Ended, Session, tidy
from minitransformer.homework.grading.sandbox import Limits
from minitransformer.homework.grading.submissions import (
    Content,
    Unreadable,
    read_submission,
)
from minitransformer.homework.inside import kernel
from minitransformer.homework.tasks import Task, tasks_of

MAX_STARTS = 4  # of the process, if tests of single tasks end it
LONGEST = 1200  # characters of a message
JUDGE_MEMORY = 4 << 30  # bytes that a worker may use beside torch


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What came out for one task.

    Attributes:
        name: Such as ``"hw1.attention"``.
        points: What the answer earns: all or nothing.
        out_of: What the task is worth; 0 for a stretch goal.
        passed: Whether the answer is right.
        message: What to tell the learner.
    """

    name: str
    points: int
    out_of: int
    passed: bool
    message: str


@dataclass(slots=True)
class Report:
    """What came out for one submission.

    Attributes:
        assignment: Such as ``"hw1"``.
        seed: What the inputs were drawn from.
        tasks: A result for each task.
        errors: Where the submission's own code failed, and how.
        reason: What went wrong as a whole, ``""`` if nothing did.
        seconds: What it took.
        layers: For each layer of the sandbox ``""``, or why it was missing.
    """

    assignment: str
    seed: int
    tasks: list[TaskResult] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    reason: str = ""
    seconds: float = 0
    layers: dict[str, str] = field(default_factory=dict)

    @property
    def points(self) -> int:
        """Return what the submission earns."""
        return sum(task.points for task in self.tasks)

    @property
    def out_of(self) -> int:
        """Return what it could earn."""
        return sum(task.out_of for task in self.tasks)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Report":
        """Return a report from what `dataclasses.asdict` made of it."""
        tasks = [TaskResult(**task) for task in found["tasks"]]
        errors = [(where, text) for where, text in found["errors"]]
        return cls(**(found | {"tasks": tasks, "errors": errors}))

    @classmethod
    def without_code(cls, assignment: str, seed: int, why: str) -> "Report":
        """Return the report on a submission that can't be judged."""
        tasks = [
            TaskResult(task.name, 0, task.points, False, f"Not judged: {why}.")
            for task in tasks_of(assignment)
        ]
        return cls(assignment, seed, tasks, reason=why)


def judge_file(
    path: Path,
    assignment: str,
    seed: int,
    limits: Limits,
    required: Iterable[str] = (),
) -> Report:
    """Judge a notebook or a script; see `judge`."""
    try:
        content = read_submission(path)
    except Unreadable as why:
        return Report.without_code(assignment, seed, str(why))
    return judge(content, assignment, seed, limits, required)


def judge(
    content: Content,
    assignment: str,
    seed: int,
    limits: Limits,
    required: Iterable[str] = (),
) -> Report:
    """Judge a submission.

    A task that ends the process costs itself; for the next, the submission
    runs anew.

    Args:
        content: Its code.
        assignment: Such as ``"hw1"``.
        seed: Draws the inputs.
        limits: What it may use.
        required: Layers of the sandbox without which nothing is run.
    """
    began = time.monotonic()
    report = Report(assignment, seed)
    required = list(required)
    session: Session | None = None
    starts = 0
    try:
        for task in tasks_of(assignment):
            if session is None or session.ended:
                starts += 1
                if starts > MAX_STARTS:
                    report.reason = "its process ended too often"
                    break
                session = _start(content, limits, required)
                report.layers = session.layers
                report.errors = session.errors
                if session.ended:
                    report.reason = session.ended
                    break
            report.tasks.append(_judge_task(task, session, seed))
    finally:
        if session is not None:
            session.close("it was closed")
    for task in tasks_of(assignment)[len(report.tasks) :]:
        message = f"Not judged: your file was run, and {report.reason}."
        result = TaskResult(task.name, 0, task.points, False, message)
        report.tasks.append(result)
    if not report.reason and report.errors:
        where, text = report.errors[0]
        more = len(report.errors) - 1
        report.reason = f"{where}: {text}"
        report.reason += f" (and {more} more)" if more else ""
    report.seconds = round(time.monotonic() - began, 1)
    return report


def _start(content: Content, limits: Limits, required: list[str]) -> Session:
    session = Session(limits, required)
    with suppress(Ended):
        session.run(content.texts, content.notebook)
    return session


def _judge_task(task: Task, session: Session, seed: int) -> TaskResult:
    session.begin_task()
    passed = False
    try:
        verdict = task.verdict(session.find(task.wanted), seed)
        passed, message = verdict.passed, verdict.message
    except LookupError:
        message = f"Not yet: there is no {task.wanted!r} in your file."
    except Wrong as wrong:
        message = f"Not yet: {wrong}"
    message = tidy(message, LONGEST)
    points = task.points if passed else 0
    return TaskResult(task.name, points, task.points, passed, message)


def main() -> None:
    """Judge what is named on the standard input, a request a line."""
    torch.set_num_threads(1)
    if sys.platform == "linux":  # whoever kills the grading kills this too
        kernel.control(kernel.SET_DEATH_SIGNAL, signal.SIGKILL)
    with suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        size = pages * resource.getpagesize() + JUDGE_MEMORY
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (size, hard))
    for line in sys.stdin:
        request = json.loads(line)
        limits = request.pop("limits")
        limits["off"] = frozenset(limits["off"])
        request["path"] = Path(request["path"])
        report = judge_file(limits=Limits(**limits), **request)
        print(json.dumps(asdict(report)), flush=True)
