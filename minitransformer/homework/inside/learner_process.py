"""What runs beside a learner's code and hands its objects to the judge.

Everything here shares a process with code that nobody vouches for. What it
says is taken as the learner's own word; the judge believes none of it.
"""

import builtins
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

import minitransformer.homework
from minitransformer.homework import checking
from minitransformer.homework.honesty import watched
from minitransformer.homework.inside.cells import Compiler, pieces
from minitransformer.homework.inside.wire import (
    Packer,
    Unpacker,
    WireError,
    frame,
    named,
    read_frame,
)

LONGEST = 300  # characters of a message
KINDS = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception)
}


class Late(BaseException):
    """Time is up; BaseException, so that fewer catch it by accident."""


def main(requests: int, replies: int, memory: int) -> None:
    """Serve the judge until it closes the pipe.

    Args:
        requests: Descriptor to read from.
        replies: Descriptor to write to.
        memory: Bytes that the learner's code may use on top of what is in
            use now.
    """
    torch.set_num_threads(1)
    checking.check = minitransformer.homework.check = neutral
    limit_memory(memory)
    with os.fdopen(requests, "rb") as reader, os.fdopen(replies, "wb") as out:
        service = Service(reader, out)
        service.send({"ready": True}, b"")
        with suppress(EOFError, BrokenPipeError):
            service.serve()


def neutral(name: str, answer: Any = None, seed: int = 0) -> checking.Verdict:
    """Stand in for `check` while a whole file runs: it is judged later."""
    message = "is judged when the whole file has run."
    return checking.Verdict(str(name), False, message)


def limit_memory(size: int) -> None:
    """Let the process grow by so many bytes and no more."""
    with suppress(ImportError, OSError, ValueError):  # not on every system
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + size
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `Late` in whatever runs when time is up, where that is possible.

    The judge has a clock of its own.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: types.FrameType | None) -> None:
        raise Late

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Service:
    """Answers the judge's requests, one at a time."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO):
        """Prepare a module for the learner's names, which is ``__main__``."""
        self._reader, self._writer = reader, writer
        self._module = types.ModuleType("__main__")
        self._module.__dict__["display"] = print
        self._objects: list[Any] = []

    def serve(self, until_answer: bool = False) -> tuple[Any, Unpacker]:
        """Handle requests; return when the judge answers a call of ours."""
        while True:
            message, data = read_frame(self._reader)
            unpacker = Unpacker(data, self._find)
            if until_answer and "answer" in message:
                return message["answer"], unpacker
            packer = Packer(self._keep)
            try:
                reply = self._handle(message, packer, unpacker)
            except Late:
                reply = {"wrong": "your code takes too long here."}
            except WireError as error:
                reply = {"wrong": f"{error}."}
            except BaseException as error:  # sys.exit, or worse
                reply = {"wrong": f"your code raises {short(error)}"}
            if "value" not in reply:
                packer.data.clear()
            self.send(reply | {"id": message["id"]}, bytes(packer.data))

    def send(self, message: dict[str, Any], data: bytes) -> None:
        """Write a frame."""
        try:
            whole = frame(message, data)
        except WireError as error:
            whole = frame({"id": message.get("id"), "wrong": f"{error}."})
        self._writer.write(whole)
        self._writer.flush()

    def _handle(
        self, message: dict[str, Any], packer: Packer, unpacker: Unpacker
    ) -> dict[str, Any]:
        do = message["do"]
        if do == "run":
            texts, notebook = message["texts"], message["notebook"]
            return {"errors": self._run(texts, notebook, message["seconds"])}
        if do == "find":
            names = self._module.__dict__
            if message["name"] not in names:
                return {"missing": message["name"]}
            return {"value": packer.pack(names[message["name"]])}
        target = self._find(message["of"])
        with at_most(message["seconds"]):
            if do == "attribute":
                try:
                    found = getattr(target, message["name"])
                except AttributeError as error:
                    return {"missing": str(error)[:LONGEST]}
                return {"value": packer.pack(checking.plain(found))}
            inputs = unpacker.unpack(message["inputs"])
            options = unpacker.unpack(message["options"])
            torch.set_rng_state(unpacker.unpack(message["state"]))
            if do == "unreached":
                target = partial(checking.unreached, target)
            try:
                with watched(frozenset(message["allowed"])):
                    found = checking.call_here(target, *inputs, **options)
            except checking.Unanswered:
                return {"waits": True}
            except checking.Wrong as wrong:
                found = {"wrong": str(wrong)[:LONGEST]}
                if wrong.__cause__ is not None:
                    found["raised"] = builtin_name(wrong.__cause__)
                return found
            return {"value": packer.pack(found)}

    def _run(
        self, texts: list[str], notebook: bool, seconds: float
    ) -> list[list[str]]:
        """Run a file piece by piece, and say which pieces failed."""
        sys.modules["__main__"] = self._module
        compiler, errors = Compiler(), []
        for where, source in pieces(texts, notebook):
            try:
                with at_most(seconds):
                    code = compiler.compile(where, source)
                    exec(code, self._module.__dict__)
            except Late:
                errors.append([where, f"takes longer than {seconds:.0f} s"])
            except SyntaxError as error:
                text = f"SyntaxError in line {error.lineno}: {error.msg}"
                errors.append([where, text])
            except BaseException as error:
                errors.append([where, short(error)])
        return errors[:100]

    def _keep(self, value: Any) -> list[Any]:
        self._objects.append(value)
        return ["object", len(self._objects) - 1, type(value).__name__[:80]]

    def _find(self, packed: list[Any]) -> Any:
        if packed[0] == "function":
            return self._callback(named(packed, "function"))
        return self._objects[named(packed, "object")]

    def _callback(self, number: int) -> Callable[..., Any]:
        """Return a function that runs in the judge's process."""

        def function(*inputs: Any, **options: Any) -> Any:
            packer = Packer(self._keep)
            message = {
                "callback": number,
                "inputs": packer.pack(list(inputs)),
                "options": packer.pack(options),
            }
            self._writer.write(frame(message, bytes(packer.data)))
            self._writer.flush()
            answer, unpacker = self.serve(until_answer=True)
            if "error" in answer:
                raise RuntimeError(answer["error"])
            return unpacker.unpack(answer["value"])

        return function


def builtin_name(error: BaseException) -> str:
    """Return the name of the nearest of Python's own kinds of errors."""
    kinds = (kind for kind in type(error).__mro__ if kind.__name__ in KINDS)
    return next(kinds, Exception).__name__


def short(error: BaseException) -> str:
    """Return an exception in one line, whatever its own methods do."""
    try:
        return checking.in_short(error)[:LONGEST]
    except BaseException:
        return type(error).__name__
