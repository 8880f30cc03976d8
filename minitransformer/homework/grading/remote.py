"""The judge's end of the pipe: a learner's objects, seen from here.

`Session` starts a learner's process and asks it; `Remote` stands for one of
its objects. Whatever comes back is data. A process that ends, hangs or sends
nonsense costs its learner the test that runs, and nothing else.
"""

import builtins
import queue
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

import torch

from minitransformer.homework.checking import Elsewhere, Unanswered, Wrong
from minitransformer.homework.grading.sandbox import Limits, Sandbox
from minitransformer.homework.honesty import allowed_now
from minitransformer.homework.inside.wire import (
    Packer,
    Unpacker,
    WireError,
    frame,
    named,
    read_frame,
)

START_SECONDS = 180  # to import torch, on a busy machine
GRACE = 5  # seconds between asking a process to stop and making it
LONGEST = 300  # characters of a message
MAX_CALLBACKS = 100_000
Frame = tuple[dict[str, Any], bytes]


class Ended(Exception):  # noqa: N818 (no fault of the program)
    """The learner's process is no more; says why."""


def tidy(text: Any, longest: int = LONGEST) -> str:
    """Return a learner's text as one short line without control characters."""
    words = str(text)[: 4 * longest].encode("utf-8", "replace").decode()
    line = "".join(c if c.isprintable() else " " for c in words)
    return " ".join(line.split())[:longest]


def cause(name: Any) -> Exception | None:
    """Return an exception of the kind that a learner's code raised."""
    kind = vars(builtins).get(name) if isinstance(name, str) else None
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        return None
    try:
        return kind("in a learner's process")
    except TypeError:  # UnicodeDecodeError wants more
        return Exception(name)


class Remote(Elsewhere):
    """An object of a learner's, in the learner's process."""

    def __init__(self, session: "Session", number: int, kind: str):
        """Name the object.

        Args:
            session: Where it lives.
            number: Its name there.
            kind: Its type, for messages.
        """
        self._session, self._number, self._kind = session, number, kind

    def __repr__(self) -> str:
        """Return what messages show."""
        return f"<{self._kind} in a learner's process>"

    def run(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Have it called there; see `minitransformer.homework.checking`."""
        return self._session.call(self._number, inputs, options)

    def unreached(self, inputs: Sequence[Any]) -> list[str]:
        """Have its gradients looked at there."""
        found = self._session.call(self._number, inputs, {}, "unreached")
        if not isinstance(found, list):
            raise Wrong("your code's answer: its gradients can't be read.")
        return [tidy(name) for name in found]

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Do what `run` does."""
        return self.run(inputs, options)

    def __getattr__(self, name: str) -> Any:
        """Ask for an attribute."""
        if name.startswith("__"):  # Python's own questions stay here
            raise AttributeError(name)
        return self._session.attribute(self._number, name)


class Session:
    """A learner's process, its walls, and the talk with it.

    Attributes:
        errors: Where the learner's own code failed, and how.
        ended: Why the process is no more, ``""`` while it is.
        layers: For each layer of the sandbox ``""``, or why it is missing.
        deadline: When what runs now must be done, by `time.monotonic`.
    """

    def __init__(self, limits: Limits, required: Iterable[str] = ()):
        """Start the process.

        Args:
            limits: What it may use.
            required: Layers without which it shall not start.
        """
        self.errors: list[tuple[str, str]] = []
        self.ended = ""
        self._limits = limits
        self._count = self._callbacks = 0
        self._functions: list[Callable[..., Any]] = []
        self._stop = Event()
        self._in: queue.Queue[Frame | Exception] = queue.Queue(2)
        self._out: queue.Queue[bytes | None] = queue.Queue(8)
        self._sandbox = Sandbox(limits, required)
        self._threads = [
            Thread(target=work, daemon=True)
            for work in (self._read, self._write)
        ]
        for thread in self._threads:
            thread.start()
        self.deadline = time.monotonic() + START_SECONDS
        try:
            self._receive()
        except Ended:
            missing = [name for name in required if self.layers.get(name)]
            if missing:
                self.ended = f"a wall is missing: {', '.join(missing)}"

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self.close("it was closed")

    @property
    def layers(self) -> dict[str, str]:
        """Return which layers the process has."""
        return self._sandbox.layers

    @property
    def printed(self) -> str:
        """Return the last line that the process printed."""
        lines = self._sandbox.printed.decode("utf-8", "replace").split("\n")
        return tidy(next((x for x in reversed(lines) if x.strip()), ""))

    def run(self, texts: list[str], notebook: bool) -> None:
        """Run the learner's file.

        Args:
            texts: The code cells of a notebook, or the text of a script.
            notebook: Which of the two it is.

        Raises:
            Ended: If the process does not survive it.
        """
        seconds = self._limits.seconds
        self.deadline = time.monotonic() + seconds + GRACE
        reply, _ = self._ask(
            {
                "do": "run",
                "texts": texts,
                "notebook": notebook,
                "seconds": seconds / 2,
            }
        )
        errors = reply.get("errors")
        if not isinstance(errors, list):
            errors = [["the file", tidy(reply.get("wrong", "did not run"))]]
        for pair in errors[:100]:
            if isinstance(pair, list) and len(pair) == 2:
                self.errors.append((tidy(pair[0]), tidy(pair[1])))

    def begin_task(self) -> None:
        """Set the clock for the tests of one task."""
        self.deadline = time.monotonic() + self._limits.seconds / 2 + GRACE

    def find(self, name: str) -> Any:
        """Return what the learner's file calls ``name``.

        Raises:
            LookupError: If it has no such name.
            Wrong: If the process fails.
        """
        reply = self._value({"do": "find", "name": name})
        if "missing" in reply[0]:
            raise LookupError(name)
        return self._unpacked(*reply)

    def attribute(self, number: int, name: str) -> Any:
        """Return an attribute of an object."""
        reply = self._value({"do": "attribute", "of": number, "name": name})
        if "missing" in reply[0]:
            raise AttributeError(tidy(reply[0]["missing"]))
        return self._unpacked(*reply)

    def call(
        self,
        number: int,
        inputs: Sequence[Any],
        options: Mapping[str, Any],
        do: str = "call",
    ) -> Any:
        """Call an object, or ask what no gradient reaches if it is called."""
        packer = Packer(self._keep)
        message = {
            "do": do,
            "of": number,
            "inputs": packer.pack(list(inputs)),
            "options": packer.pack(dict(options)),
            "state": packer.pack(torch.get_rng_state()),
            "allowed": sorted(allowed_now()),
        }
        reply, data = self._value(message, bytes(packer.data))
        if reply.get("waits") is True:
            raise Unanswered
        return self._unpacked(reply, data)

    def _value(self, message: dict[str, Any], data: bytes = b"") -> Frame:
        """Ask within the clock of a task; a failure is a wrong answer."""
        message["seconds"] = self.deadline - GRACE - time.monotonic()
        if "of" in message:
            message["of"] = ["object", message["of"]]
        try:
            reply, data = self._ask(message, data)
        except Ended as end:
            raise Wrong(f"your code ended its own process: {end}.") from None
        if "wrong" in reply:
            raise Wrong(tidy(reply["wrong"])) from cause(reply.get("raised"))
        return reply, data

    def _unpacked(self, reply: dict[str, Any], data: bytes) -> Any:
        try:
            return Unpacker(data, self._find).unpack(reply.get("value"))
        except (WireError, RuntimeError, ValueError, OverflowError) as error:
            self.close(f"it sent what can't be read ({tidy(error)})")
            raise Wrong(f"your code's answer: {self.ended}.") from None

    def _ask(self, message: dict[str, Any], data: bytes = b"") -> Frame:
        """Send a request, answer what comes back before its reply does."""
        self._count += 1
        number = self._count
        self._send(message | {"id": number}, data)
        while True:
            reply, data = self._receive()
            if "callback" in reply:
                self._answer(reply, data)
            elif reply.get("id") == number:
                return reply, data
            else:
                self.close("it sent what nobody asked for")
                raise Ended(self.ended)

    def _answer(self, message: dict[str, Any], data: bytes) -> None:
        """Run a function of the judge's for the learner's code."""
        packer = Packer(self._keep)
        self._callbacks += 1
        try:
            if self._callbacks > MAX_CALLBACKS:
                raise WireError("too many calls")
            unpacker = Unpacker(data, self._find)
            function = self._functions[
                named(["function", message["callback"]], "function")
            ]
            inputs = unpacker.unpack(message["inputs"])
            options = unpacker.unpack(message["options"])
            answer = {"value": packer.pack(function(*inputs, **options))}
        except Exception as error:
            packer.data.clear()
            answer = {"error": f"{type(error).__name__}: {tidy(error)}"}
        self._send({"answer": answer}, bytes(packer.data))

    def _keep(self, value: Any) -> list[Any]:
        if isinstance(value, Remote):
            return ["object", value._number]
        if callable(value):
            self._functions.append(value)
            return ["function", len(self._functions) - 1]
        raise TypeError(f"{type(value).__name__} can't be sent to a learner")

    def _find(self, packed: list[Any]) -> Remote:
        kind = packed[2] if len(packed) > 2 else "object"
        return Remote(self, named(packed, "object"), tidy(kind))

    # The two pipes ---

    def _send(self, message: dict[str, Any], data: bytes) -> None:
        try:
            self._out.put(frame(message, data), timeout=self._left())
        except queue.Full:
            self.close("it took too long")
            raise Ended(self.ended) from None

    def _receive(self) -> Frame:
        if self.ended:
            raise Ended(self.ended)
        try:
            found = self._in.get(timeout=self._left())
        except queue.Empty:
            self.close("it took too long")
            raise Ended(self.ended) from None
        if isinstance(found, tuple):
            return found
        if isinstance(found, WireError):
            self.close(f"it sent what can't be read ({found})")
        else:
            self.close(self._sandbox.how_it_ended())
        raise Ended(self.ended)

    def _left(self) -> float:
        return max(self.deadline - time.monotonic(), 0.001)

    def _read(self) -> None:
        """Put frames into the queue, in a thread of its own."""
        stream = self._sandbox.replies
        found: Frame | Exception
        try:
            self._sandbox.learn_layers(stream.readline(8192))
        except Exception:
            self._put(EOFError())
            return
        while not self._stop.is_set():
            try:
                found = read_frame(stream)  # type: ignore[arg-type]
            except WireError as error:
                found = error
            except Exception:  # the end, or a pipe that was closed
                found = EOFError()
            self._put(found)
            if isinstance(found, Exception):
                return

    def _put(self, found: "Frame | Exception") -> None:
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._in.put(found, timeout=0.5)
                return

    def _write(self) -> None:
        """Write frames from the queue, in a thread of its own."""
        stream = self._sandbox.requests
        with suppress(OSError, ValueError):  # it has ended, or will be ended
            while (piece := self._out.get()) is not None:
                stream.write(piece)
                stream.flush()

    def close(self, why: str) -> None:
        """End the process, for a reason that may be told to the learner."""
        if self.ended and self._stop.is_set():
            return
        self.ended = why
        self._stop.set()
        with suppress(queue.Full):
            self._out.put_nowait(None)
        self._sandbox.close(self._threads)
