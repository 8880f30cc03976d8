"""Refuse an answer that lets the package do the work.

While a learner's code runs, the interpreter reports every function it enters.
One that belongs to a module of this package which does what assignments ask
for ends the call, however the learner came by it: imported, renamed, wrapped
or inherited. Code that was copied as text is the learner's, as far as this can
tell.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
# What no assignment asks for: text, data, drawings, and the judge itself.
OPEN = frozenset(
    {
        "__init__",
        "allocator",
        "challenge",
        "challenge_table",
        "checkpoints",
        "config",
        "corpora",
        "counting",
        "data",
        "downloads",
        "errors",
        "files",
        "homework",
        "homework.checking",
        "homework.honesty",
        "homework.inside.learner_process",
        "homework.tasks",
        "multi30k",
        "onednn",
        "own_files",
        "pairs",
        "probes",
        "recording",
        "story_french",
        "story_grammar",
        "story_lexicon",
        "story_patterns",
        "story_tables",
        "storybook",
        "tatoeba",
        "text",
        "traces",
        "tracing",
        "viz",
    }
)

# The modules that may run while an answer is judged; None: all of them.
_ALLOWED: ContextVar[frozenset[str] | None] = ContextVar(
    "_ALLOWED", default=None
)


class Borrowed(BaseException):
    """A learner's code entered the package; BaseException: not to be caught.

    Attributes:
        module: Where it went, such as ``"attention"``.
    """

    def __init__(self, module: str):
        super().__init__(module)
        self.module = module


@contextmanager
def watched(allowed: frozenset[str] = frozenset()) -> Iterator[None]:
    """Make `on_their_own` watch what learners' code does.

    Args:
        allowed: Modules that it may run beside those that are `OPEN`.
    """
    token = _ALLOWED.set(OPEN | allowed)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def is_watched() -> bool:
    """Return whether this runs under `watched`."""
    return _ALLOWED.get() is not None


def allowed_now() -> frozenset[str]:
    """Return the modules that may run now, `OPEN` ones included."""
    return _ALLOWED.get() or frozenset()


@contextmanager
def on_their_own() -> Iterator[None]:
    """Run learner's code, and raise `Borrowed` where ours does the work.

    It does nothing unless it runs under `watched`.
    """
    allowed = _ALLOWED.get()
    if allowed is None:
        yield
        return
    entered: list[str] = []

    def notice(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or entered:
            return
        module = module_of(frame.f_code.co_filename)
        if module and module not in allowed and not is_imported(frame):
            entered.append(module)
            raise Borrowed(module)

    before = sys.getprofile()
    sys.setprofile(notice)
    threading.setprofile(notice)  # of threads that begin meanwhile
    try:
        yield
    finally:
        threading.setprofile(None)
        sys.setprofile(before)
    if entered:  # whoever catches everything is told all the same
        raise Borrowed(entered[0])


def is_imported(frame: FrameType | None) -> bool:
    """Say whether a frame of ours runs because a module is being loaded."""
    while frame is not None and module_of(frame.f_code.co_filename):
        if frame.f_code.co_name == "<module>":
            return True
        frame = frame.f_back
    return False


@lru_cache(maxsize=4096)  # it is asked at every call of every function
def module_of(path: str) -> str:
    """Return the module of the package that a file holds, ``""`` if none.

    >>> module_of(str(PACKAGE / "homework" / "checking.py"))
    'homework.checking'
    >>> module_of("elsewhere.py")
    ''
    """
    if not path.startswith(str(PACKAGE)):
        return ""
    parts = Path(path).relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def lent(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of ours that learners' code may call."""

    @wraps(function)
    def unwatched(*inputs: Any, **options: Any) -> Any:
        before = sys.getprofile()
        sys.setprofile(None)
        try:
            return function(*inputs, **options)
        finally:
            sys.setprofile(before)

    return unwatched
