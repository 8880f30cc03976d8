"""Assignments: tasks worth points, each judged by a few named tests.

A task asks a learner for one object, which bears the task's last name:
``hw1.attention`` asks for ``attention``. Its tests run in order, and the
first that the object fails says what is wrong and where the book explains it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch

from minitransformer.errors import UserError
from minitransformer.homework.checking import (
    WAITS,
    Unanswered,
    Verdict,
    Wrong,
    in_short,
    refuse_stub,
)
from minitransformer.homework.honesty import watched

LEARNS = "a gradient reaches all that should learn", 3, "Common mistakes"
ASSIGNMENTS = ("hw1", "hw2", "hw3", "hw4", "hw5")

_Judge = Callable[[Any], None]
_TASKS: dict[str, "Task"] = {}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the book explains something.

    Attributes:
        chapter: Its number.
        section: A heading in it, to the letter.
    """

    chapter: int
    section: str

    def __str__(self) -> str:
        """Return it as words for a learner."""
        return f'chapter {self.chapter}, "{self.section}"'


@dataclass(frozen=True, slots=True)
class Test:
    """One thing that a right answer does.

    Attributes:
        title: What it does, as a short statement.
        judge: Raises `Wrong` for an answer that does not do it.
        see: Where the book explains it.
    """

    __test__ = False  # pytest looks for classes of this name

    title: str
    judge: _Judge
    see: Place


@dataclass(frozen=True, slots=True)
class Task:
    """Something to write, and how it is judged.

    Making one registers it.

    Attributes:
        name: Such as ``"hw1.attention"``.
        points: What it is worth; 0 for a stretch goal.
        allowed: Modules of the package that an answer may run beside those
            that every answer may; see `minitransformer.homework.honesty`.
        tests: In the order in which they run.
    """

    name: str
    points: int
    allowed: frozenset[str] = frozenset()
    tests: list[Test] = field(default_factory=list)

    def __post_init__(self) -> None:
        _TASKS[self.name] = self

    @property
    def wanted(self) -> str:
        """The name that a submission gives its answer."""
        return self.name.partition(".")[2]

    def test(
        self, title: str, chapter: int, section: str
    ) -> Callable[[_Judge], _Judge]:
        """Register a test; see `Test` and `Place`."""

        def register(judge: _Judge) -> _Judge:
            self.tests.append(Test(title, judge, Place(chapter, section)))
            return judge

        return register

    def findings(
        self, answer: Any, seed: int = 0
    ) -> Iterator[tuple[Test, str]]:
        """Run the tests, one by one.

        Args:
            answer: The learner's object.
            seed: Draws the inputs. Each test draws its own, whichever tests
                ran before it.

        Yields:
            Each test, and what it found wrong: nothing, if ``""``.

        Raises:
            Unanswered: If the answer is the untouched stub.
        """
        refuse_stub(answer)
        for number, test in enumerate(self.tests):
            with torch.random.fork_rng(devices=[]), watched(self.allowed):
                torch.manual_seed(seed * 1_000 + number)
                try:
                    test.judge(answer)
                except Wrong as wrong:
                    words = str(wrong)
                except Unanswered:
                    raise
                except Exception as error:  # a result that nobody foresaw
                    words = (
                        "what your code returns is not what the task asks"
                        f" for: reading it raises {in_short(error)}"
                    )
                else:
                    words = ""
            if words and not words.endswith((".", "?", "!")):
                words += "."
            yield test, words

    def verdict(self, answer: Any, seed: int = 0) -> Verdict:
        """Judge an answer by the first thing that is wrong with it."""
        try:
            for test, words in self.findings(answer, seed):
                if words:
                    message = f"Not yet: {words} See {test.see}."
                    return Verdict(self.name, False, message)
        except Unanswered:
            return Verdict(self.name, False, WAITS)
        return Verdict(self.name, True, "Correct.")


def tasks_of(assignment: str) -> list[Task]:
    """Return the tasks of an assignment, such as ``"hw1"``, in order."""
    import_module(f"{__package__}.{assignment}")
    return [
        task
        for name, task in _TASKS.items()
        if name.partition(".")[0] == assignment
    ]


def require_assignment(name: str) -> None:
    """Refuse what is no assignment.

    Raises:
        UserError: If there is none of this name.
    """
    if name not in ASSIGNMENTS:
        raise UserError(
            f"There is no assignment {name!r}: choose one of"
            f" {', '.join(ASSIGNMENTS)}."
        )


def find_task(name: str) -> Task:
    """Return a task by its name, such as ``"hw1.attention"``.

    Raises:
        UserError: If there is none.
    """
    assignment = name.partition(".")[0]
    require_assignment(assignment)
    tasks = {task.name: task for task in tasks_of(assignment)}
    if name not in tasks:
        raise UserError(
            f"There is no task {name!r}: {assignment} has {', '.join(tasks)}."
        )
    return tasks[name]
