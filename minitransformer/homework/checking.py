"""Judge a learner's answer and, if it is wrong, say what is wrong with it.

A check is a function that takes the answer and returns if it is right; if
not, it raises `Wrong` with one or two sentences for the learner. It looks at
nothing but the object it is given, so any honest way to the answer counts.
"""

import copy
import dis
import re
from abc import ABC, abstractmethod
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import isfunction, isroutine
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minitransformer.errors import UserError
from minitransformer.homework.honesty import (
    Borrowed,
    is_watched,
    lent,
    on_their_own,
)

MAX_SEED = 2**31
MAX_PARTS = 1_000_000  # of what comes back piece by piece
QUESTIONS = 5  # of a quiz
WAITS = "waits for your answer: replace the dots (...)."
# What the interpreter does in a function of dots, pass or words alone.
_IDLE = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}


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
    """Check an answer to an exercise or a quiz of the book, or to homework.

    Args:
        name: The exercise, such as ``"3.1"``, a quiz, ``"3.quiz"``, a task of
            an assignment, ``"hw1.attention"``, or ``"ready"``, the questions
            before chapter 1.
        answer: What the exercise asks for: a function, a class, numbers. For
            a quiz, five letters; for ``"ready"``, ten.
        seed: Draws the inputs that the answer is tried on. Your own random
            numbers are left alone.

    Returns:
        A verdict, which is true if the answer is right, and shows as a
        sentence.

    Raises:
        UserError: If there is no such exercise, or no such seed.

    >>> from minitransformer.homework import check
    >>> check("2.1", ...)
    2.1 waits for your answer: replace the dots (...).
    """
    name = str(name)  # 3.1 will do for "3.1"
    require_seed(seed)
    if name.startswith("hw"):
        from minitransformer.homework.tasks import find_task

        return find_task(name).verdict(answer, seed)
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
            return Verdict(name, False, WAITS)
        except Wrong as wrong:
            return Verdict(name, False, f"Not yet: {wrong}")
    return Verdict(name, True, "Correct.")


def require_seed(seed: int) -> None:
    """Raise a ``UserError`` unless torch and numpy both take a seed."""
    if not 0 <= seed < MAX_SEED:
        raise UserError(f"seed={seed} must be 0 or more, and below 2^31.")


def _load_chapter(name: str) -> None:
    """Import the checks of the chapter that ``name`` begins with, if any."""
    number = re.match(r"\d{1,2}(?=\.)", name)
    chapter = int(number[0]) if number else 0
    module = f"{__package__}.chapters.chapter{chapter:02}"
    if name == "ready":
        module = f"{__package__}.ready"
    if find_spec(module) is not None:
        import_module(module)


def _in_order(name: str) -> tuple[int, str]:
    chapter, _, rest = name.partition(".")
    return int(chapter) if chapter.isdigit() else 0, rest


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


def is_stub(function: Callable[..., Any]) -> bool:
    """Say whether a function's body is still dots, pass or words alone.

    So may be a method that a module's ``forward`` calls.

    >>> def untouched(x): ...
    >>> def forgetful(x):
    ...     x + 1
    >>> is_stub(untouched), is_stub(forgetful)
    (True, False)
    """
    if isinstance(function, nn.Module):
        methods = filter(isfunction, vars(type(function)).values())
        return any(map(is_stub, methods))
    code = getattr(function, "__code__", None)  # a method has its function's
    return code is None or all(
        each.opname in _IDLE for each in dis.get_instructions(code)
    )


class Elsewhere(ABC):
    """Stands for an object of a learner's that lives in another process."""

    @abstractmethod
    def run(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Have `call_here` call it where it lives, and return the result."""

    @abstractmethod
    def unreached(self, inputs: Sequence[Any]) -> list[str]:
        """Have `call_here` call `unreached` where it lives."""


def call(function: Any, *inputs: Any, **options: Any) -> Any:
    """Run a learner's function on copies of ``inputs``.

    In homework, its random numbers begin where ours are, and ours then go on
    elsewhere: whatever it draws, and whatever seed it sets, our inputs are
    the same.

    Raises:
        Unanswered: If it is a stub, or returns dots.
        Wrong: If it is no function, fails, returns nothing, or changes its
            inputs in place.
    """
    with _numbers_apart():
        if isinstance(function, Elsewhere):
            return function.run(inputs, options)
        return call_here(function, *inputs, **options)


@contextmanager
def _numbers_apart() -> Iterator[None]:
    if not is_watched():
        yield
        return
    with torch.random.fork_rng(devices=[]):
        yield
    torch.manual_seed(int(torch.randint(2**62, ())))


def call_here(function: Any, *inputs: Any, **options: Any) -> Any:
    """Do what `call` does, in the process in which the function lives."""
    if not callable(function):
        raise Wrong(
            f"a function is wanted, and this is {type(function).__name__}:"
            " pass its name, without brackets behind it."
        )
    passed = [copy.deepcopy(value) for value in inputs]
    handed = [lent(x) if isroutine(x) else x for x in passed]
    try:
        with on_their_own():
            result = plain(function(*handed, **options))
    except NotImplementedError:
        raise Unanswered from None
    except Borrowed as borrowed:
        raise Wrong(
            f"minitransformer.{borrowed.module} does the work here: write it"
            " yourself."
        ) from None
    except (Exception, SystemExit) as error:
        raise Wrong(f"your code raises {in_short(error)}") from error
    if result is None and not is_stub(function):
        raise Wrong(
            "your code runs, but nothing comes back: is a return missing?"
        )
    refuse_stub(result)
    for before, after in zip(inputs, passed, strict=True):
        if _differ(before, after):
            raise Wrong(
                "your code changes its input in place; make a new tensor, so"
                " that the caller's numbers stay."
            )
    return result


def must_learn(
    answer: Any,
    *inputs: Any,
    apart_from: Callable[[str], bool] = lambda _: False,
) -> None:
    """Refuse what training could not change.

    Args:
        answer: A module, or a function.
        inputs: What it is called with.
        apart_from: Tells the names of parameters that need not learn.

    Raises:
        Wrong: If a loss on the result has no gradient with respect to some
            parameter, or to an input made of fractions.
    """
    with _numbers_apart():
        names = (
            answer.unreached(inputs)
            if isinstance(answer, Elsewhere)
            else call_here(partial(unreached, answer), *inputs)
        )
    names = [name for name in names if not apart_from(name)]
    if names:
        raise Wrong(
            f"no gradient comes back to {' and '.join(names[:2])}"
            f"{' and others' if len(names) > 2 else ''}, so training can't"
            " change what stands there: .data, .detach(), .item(), no_grad or"
            " a new torch.tensor cuts it off, or it is not used."
        )


def unreached(answer: Any, *inputs: Any) -> list[str]:
    """Name the parameters and inputs that get no gradient from a result.

    Args:
        answer: A module, or a function.
        inputs: What it is called with; those made of fractions count.
    """
    leaves = {
        f"input {number}": value.requires_grad_()
        for number, value in enumerate(inputs, start=1)
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    if isinstance(answer, nn.Module):
        parameters = answer.named_parameters()
        leaves |= {name: x for name, x in parameters if x.requires_grad}
    with torch.enable_grad():
        result = plain(answer(*inputs))
        parts = result if isinstance(result, list | tuple) else [result]
        sums = [
            part.sum()
            for part in parts
            if isinstance(part, Tensor) and part.requires_grad
        ]
    if not sums or not leaves:
        return list(leaves)
    gradients = torch.autograd.grad(
        sums, list(leaves.values()), allow_unused=True
    )
    pairs = zip(leaves, gradients, strict=True)
    return [name for name, gradient in pairs if gradient is None]


def in_short(error: BaseException) -> str:
    """Return an exception's type and the first line of its message."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}"


def plain(value: Any) -> Any:
    """Return a result whose tensors are tensors, and nothing cleverer.

    A subclass could answer every comparison as it likes.
    """
    if isinstance(value, Tensor) and type(value) is not Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            return Tensor.as_subclass(value, Tensor)
    if type(value) in (list, tuple):
        return type(value)(plain(part) for part in value)
    if isinstance(value, set | frozenset | range | Iterator):
        return [plain(part) for part in islice(value, MAX_PARTS)]
    if type(value) is dict:
        return {key: plain(part) for key, part in value.items()}
    return value


def _differ(before: Any, after: Any) -> bool:
    """Say whether a tensor, or a dictionary of them, was changed."""
    if isinstance(before, Tensor):
        return not _same(before, after)
    if isinstance(before, dict):
        return before.keys() != after.keys() or any(
            _differ(before[key], after[key]) for key in before
        )
    return False


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
