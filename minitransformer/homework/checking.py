"""Judge a learner's answer and, if it is wrong, say what is wrong with it.

A check is a function that takes the answer and returns if it is right; if
not, it raises `Wrong` with one or two sentences for the learner. It looks at
nothing but the object it is given, so any honest way to the answer counts.
"""

import copy
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minitransformer.errors import UserError

QUESTIONS = 5  # of a quiz


class Wrong(Exception):  # noqa: N818 (no fault of the program)
    """A wrong answer; the message says what is wrong, in words."""


class Unanswered(Exception):  # noqa: N818 (no fault either)
    """The stub is still as it was."""


@dataclass(frozen=True, slots=True, repr=False)
class Verdict:
    """What a check says of an answer; true if it is right.

    Attributes:
        name: Of the exercise or quiz, such as ``"3.1"``.
        passed: Whether the answer is right.
        message: What to tell the learner.
    """

    name: str
    passed: bool
    message: str

    def __bool__(self) -> bool:
        """Return whether the answer is right."""
        return self.passed

    def __repr__(self) -> str:
        """Return what a notebook shows."""
        return f"{self.name} {self.message}"


_Check = Callable[[Any], None]
_CHECKS: dict[str, _Check] = {}
_KEYS: dict[str, Callable[[], str]] = {}


def exercise(name: str) -> Callable[[_Check], _Check]:
    """Register a check under the name of its exercise, such as ``"3.1"``."""

    def register(function: _Check) -> _Check:
        _CHECKS[name] = function
        return function

    return register


def quiz(
    chapter: int,
) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Register a function that computes a chapter's five right letters."""

    def register(function: Callable[[], str]) -> Callable[[], str]:
        _KEYS[f"{chapter}.quiz"] = function
        return function

    return register


def check(name: str, answer: Any, seed: int = 0) -> Verdict:
    """Check an answer to an exercise or a quiz of the book.

    Args:
        name: The exercise, such as ``"3.1"``, or a quiz, ``"3.quiz"``.
        answer: What the exercise asks for: a function, a class, numbers. For
            a quiz, five letters.
        seed: Draws the inputs that the answer is tried on. Your own random
            numbers are left alone.

    Returns:
        A verdict, which is true if the answer is right, and shows as a
        sentence.

    Raises:
        UserError: If there is no such exercise.

    >>> from minitransformer.homework import check
    >>> check("2.1", ...)
    2.1 waits for your answer: replace the dots (...).
    """
    name = str(name)  # 3.1 will do for "3.1"
    _load_chapter(name)
    if name not in _CHECKS and name not in _KEYS:
        known = ", ".join(sorted({*_CHECKS, *_KEYS}, key=_in_order))
        raise UserError(
            f"There is no exercise {name!r}: of its chapter, there are"
            f" {known or 'none'}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            if name in _KEYS:
                return _judge_quiz(name, answer)
            refuse_stub(answer)
            _CHECKS[name](answer)
        except Unanswered:
            message = "waits for your answer: replace the dots (...)."
            return Verdict(name, False, message)
        except Wrong as wrong:
            return Verdict(name, False, f"Not yet: {wrong}")
    return Verdict(name, True, "Correct.")


def _load_chapter(name: str) -> None:
    """Import the checks of the chapter that ``name`` begins with, if any."""
    number = re.match(r"\d{1,2}(?=\.)", name)
    module = f"{__package__}.chapter{int(number[0]) if number else 0:02}"
    if find_spec(module) is not None:
        import_module(module)


def _in_order(name: str) -> tuple[int, str]:
    chapter, _, rest = name.partition(".")
    return int(chapter), rest


def _judge_quiz(name: str, answers: Any) -> Verdict:
    """Compare letters with the computed key, and give nothing else away."""
    refuse_stub(answers)
    count = len(answers) if isinstance(answers, Sequence) else 1
    if count != QUESTIONS:
        raise Wrong(
            f"a quiz has {QUESTIONS} answers, such as 'A'; here there"
            f" {'is' if count == 1 else 'are'} {count}."
        )
    given = [str(letter).strip().upper() for letter in answers]
    pairs = zip(given, _KEYS[name](), strict=True)
    wrong = [str(i + 1) for i, (a, b) in enumerate(pairs) if a != b]
    if not wrong:
        return Verdict(name, True, "Correct, all five.")
    right = QUESTIONS - len(wrong)
    raise Wrong(
        f"{right} of {QUESTIONS} are right. Think again about"
        f" {', '.join(wrong)}."
    )


def refuse_stub(answer: Any) -> None:
    """Raise `Unanswered` for dots, for nothing, and for a list of them."""
    parts = answer if isinstance(answer, list | tuple) else [answer]
    if any(part is ... or part is None for part in parts):
        raise Unanswered


def call(function: Any, *inputs: Any, **options: Any) -> Any:
    """Run a learner's function on copies of ``inputs``.

    Raises:
        Unanswered: If it returns dots or nothing.
        Wrong: If it is no function, fails, or changes its inputs in place.
    """
    if not callable(function):
        raise Wrong(
            f"a function is wanted, and this is {type(function).__name__}:"
            " pass its name, without brackets behind it."
        )
    lent = copy.deepcopy(inputs)
    try:
        result = function(*lent, **options)
    except NotImplementedError:
        raise Unanswered from None
    except Exception as error:
        text = str(error).strip().split("\n")[0]
        raise Wrong(
            f"your code raises {type(error).__name__}: {text}"
        ) from error
    refuse_stub(result)
    for before, after in zip(inputs, lent, strict=True):
        if isinstance(before, Tensor) and not _same(before, after):
            raise Wrong(
                "your code changes its input in place; make a new tensor, so"
                " that the caller's numbers stay."
            )
    return result


def _same(before: Tensor, after: Tensor) -> bool:
    return before.shape == after.shape and torch.equal(
        torch.nan_to_num(before.detach()), torch.nan_to_num(after.detach())
    )


def numbers(answer: Any, shape: Sequence[int] | None = None) -> Tensor:
    """Return an answer made of numbers as a tensor in float64.

    Args:
        answer: A number, nested lists, an array or a tensor.
        shape: What it must have, ``()`` for a single number; any if not
            given.

    Raises:
        Wrong: If it holds anything but numbers, or has another shape.
    """
    refuse_stub(answer)
    try:
        if not isinstance(answer, Tensor):  # fractions too: numpy reads them
            answer = np.asarray(answer, dtype=float)
        found = torch.as_tensor(answer).detach().to(torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(
            f"numbers are wanted, and this is {type(answer).__name__} that"
            " holds something else, or rows of unequal length."
        ) from None
    if shape == () and found.numel() == 1:
        found = found.reshape(())  # [3.5] is as good as 3.5
    if shape is not None and found.shape != tuple(shape):
        raise Wrong(
            f"the shape is {tuple(found.shape)}, and should be {tuple(shape)}."
        )
    return found


def is_near(answer: Any, right: Any, tolerance: float = 1e-4) -> bool:
    """Say whether two arrays of numbers are the same, shapes included."""
    a = torch.as_tensor(answer).detach().to(torch.float64)
    b = torch.as_tensor(right).detach().to(torch.float64)
    return a.shape == b.shape and torch.allclose(
        a, b, rtol=tolerance, atol=tolerance, equal_nan=True
    )


def explain(
    answer: Any,
    mistakes: Iterable[tuple[Any, str]],
    otherwise: str,
    tolerance: float = 1e-4,
) -> None:
    """Raise `Wrong` with the words for the mistake that gives ``answer``.

    Args:
        answer: What the learner's code gave, known to be wrong.
        mistakes: Wrong results, each with what to say of it.
        otherwise: What to say if it is none of them.
        tolerance: How near counts as the same.
    """
    for result, words in mistakes:
        if is_near(answer, result, tolerance):
            raise Wrong(words)
    raise Wrong(otherwise)
