"""Start a process that learners' code may run in, and end it.

The walls are built by `minitransformer.homework.inside.jail`, in the new
process. Here is what they are, what stays readable, and how the process is
ended with all that it started.
"""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import IO

from minitransformer.homework.grading.visible import (
    environment,
    hidden,
    import_path,
    readable,
)
from minitransformer.homework.honesty import PACKAGE

MEBIBYTE = 1 << 20
MAX_PRINTED = 10 * MEBIBYTE
FIRST_USER, USERS = 65533, 14  # ids that systems leave unused, downwards
# What is lost with each layer.
LAYERS = {
    "network": "submissions can reach the network",
    "messages": "submissions can reach shared memory of other programs",
    "processes": "submissions can see other processes",
    "root": "folders are not hidden from submissions",
    "files": "the kernel does not check which files submissions open",
    "user": "submissions run as you, not as a user of their own",
    "privileges": "submissions keep the privileges that you have",
    "limits": "memory, processor time and processes are not limited",
}
ENDS = {
    "SIGABRT": "it crashed (abort)",
    "SIGKILL": "it was killed",
    "SIGSEGV": "it crashed (segmentation fault)",
    "SIGXCPU": "it used too much processor time",
}
START = """
import sys, types
for name, place in {places!r}.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [place]
from minitransformer.homework.inside.jail import main
main()
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a submission may use.

    Attributes:
        seconds: For all of its cells together. One cell may take half of it,
            and so may the tests of one task.
        memory: Megabytes for each of its processes, on top of what torch
            takes.
        disk: Megabytes of files.
        processes: Processes and threads at a time.
        off: Layers to do without.
    """

    seconds: float = 300
    memory: int = 4096
    disk: int = 256
    processes: int = 32
    off: frozenset[str] = field(default=frozenset())


def limits_for(
    assignment: str, seconds: float | None = None, memory: int | None = None
) -> Limits:
    """Return the limits for an assignment; what is not given suits it.

    The fifth trains a translator.
    """
    slow = Limits(seconds=900) if assignment == "hw5" else Limits()
    return replace(
        slow, seconds=seconds or slow.seconds, memory=memory or slow.memory
    )


class Sandbox:
    """A process for a learner's code.

    Attributes:
        layers: For each layer, ``""`` or why it is missing; known once
            `learn_layers` was called.
        printed: The end of what it printed.
        flooded: Whether it was killed for printing without end.
    """

    def __init__(self, limits: Limits, required: Iterable[str] = ()):
        """Start the process.

        Args:
            limits: What it may use.
            required: Layers without which it shall not start.
        """
        self.layers: dict[str, str] = {}
        self.printed = b""
        self.flooded = False
        self._claim, user = claim_user()
        self._box = tempfile.mkdtemp(prefix="minitransformer-")
        trees = readable()
        plan = {
            "box": self._box,
            "cpu_seconds": int(3 * limits.seconds) + 60,
            "disk": limits.disk * MEBIBYTE,
            "hidden": hidden(),
            "memory": limits.memory * MEBIBYTE,
            "off": sorted(limits.off),
            "package": str(PACKAGE),
            "path": import_path(trees),
            "processes": limits.processes,
            "readable": trees,
            "required": list(required),
            "user": user,
        }
        homework = PACKAGE / "homework"
        places = {  # without what these packages would import
            "minitransformer": str(PACKAGE),
            "minitransformer.homework": str(homework),
            "minitransformer.homework.inside": str(homework / "inside"),
        }
        self._process = subprocess.Popen(
            [
                sys.executable,
                *("-I", "-S", "-B", "-u", "-c"),
                START.format(places=places),
                json.dumps(plan),
            ],
            cwd=self._box,
            env=environment(self._box),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.requests: IO[bytes] = self._process.stdin
        self.replies: IO[bytes] = self._process.stdout
        self._drain = Thread(
            target=self._read_prints, args=[self._process.stderr], daemon=True
        )
        self._drain.start()

    def learn_layers(self, line: bytes) -> None:
        """Read which layers the process got.

        Raises:
            ValueError: If it does not say.
        """
        told = json.loads(line)
        self.layers = {
            name: str(told.get(name, "it exists only on Linux"))
            for name in LAYERS
        }

    def _read_prints(self, stream: IO[bytes]) -> None:
        """Read what is printed; keep little of it, and end a flood."""
        total = 0
        with suppress(OSError, ValueError):
            while piece := stream.read1(1 << 16):  # type: ignore[attr-defined]
                total += len(piece)
                self.printed = (self.printed + piece)[-2000:]
                if total > MAX_PRINTED:
                    self.flooded = True
                    self._kill()
                    return

    def how_it_ended(self) -> str:
        """Say in words why the process has ended."""
        if self.flooded:
            return f"it printed more than {MAX_PRINTED // MEBIBYTE} MB"
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        code = self._process.poll()
        if code is None:
            return "it closed its pipe to the judge"
        number = code - 128 if code > 128 else -code
        names = {getattr(signal, name, -1): ENDS[name] for name in ENDS}
        return names.get(number, f"it ended itself (exit code {code})")

    def _kill(self) -> None:
        process = self._process
        if process.poll() is not None:
            return
        if os.name == "nt":
            subprocess.run(
                ["taskkill", "/T", "/F", "/PID", str(process.pid)],
                capture_output=True,
                check=False,
            )
            return
        if self.layers.get("processes", "?") and sys.platform == "linux":
            process.terminate()  # it then looks for all that it started
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)

    def close(self, users: Iterable[Thread] = ()) -> None:
        """End the process and all that it started, and clean up.

        Args:
            users: Threads that use the pipes, and end when these do.
        """
        self._kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if os.name != "nt":  # what is left of its group
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        assert self._process.stderr is not None
        ends = (self.requests, self.replies, self._process.stderr)
        for thread in (*users, self._drain):
            thread.join(2)
        if not any(thread.is_alive() for thread in (*users, self._drain)):
            for pipe in ends:
                with suppress(OSError):
                    pipe.close()
        remove(self._box)
        if self._claim is not None:
            self._claim.close()


def remove(folder: str) -> None:
    """Remove a folder, even where its parts were made hard to remove."""
    waiting = [folder]
    while waiting:
        with suppress(OSError):
            place = waiting.pop()
            os.chmod(place, stat.S_IRWXU)
            with os.scandir(place) as entries:
                waiting += [
                    entry.path
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False)
                ]
    shutil.rmtree(folder, ignore_errors=True)


def claim_user() -> tuple[socket.socket | None, int]:
    """Take the id of a user who has no process, if we may.

    Returns:
        What holds the claim until it is closed, and the id.
    """
    if sys.platform != "linux" or os.getuid() != 0:
        return None, 0
    for user in range(FIRST_USER, FIRST_USER - USERS, -1):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0minitransformer-user-{user}")
        except OSError:
            claim.close()
        else:
            return claim, user
    return None, FIRST_USER - USERS


def warnings_for(layers: dict[str, str]) -> Iterator[str]:
    """Say what is missing, in a sentence for each layer."""
    for name, why in layers.items():
        if why:
            yield f"{LAYERS[name]}: this wall could not be built ({why})."
