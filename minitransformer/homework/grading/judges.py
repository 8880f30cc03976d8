"""Processes that judge, so that no submission can end the grading itself.

Each judges one submission after the other. One that dies, or that a
submission keeps busy for too long, is ended and replaced.
"""

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Timer
from typing import Any

from minitransformer.homework.grading.judging import MAX_STARTS, Report
from minitransformer.homework.grading.remote import START_SECONDS
from minitransformer.homework.grading.sandbox import Limits

PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from minitransformer.homework.grading.judging import main
main()
"""


class Worker:
    """A process that judges."""

    def __init__(self, limits: Limits, patience: float | None = None):
        """Prepare; the process starts when it is needed.

        Args:
            limits: What a submission may use.
            patience: Seconds after which a judge that says nothing is
                replaced.
        """
        self._limits = limits
        self._patience = patience or (
            MAX_STARTS * (START_SECONDS + 2 * limits.seconds)
        )
        self._process: subprocess.Popen[str] | None = None

    def judge(
        self, path: Path, assignment: str, seed: int, required: list[str]
    ) -> Report:
        """Have a file judged, whatever happens to the process."""
        request = {
            "path": str(path.absolute()),
            "assignment": assignment,
            "seed": seed,
            "required": required,
            "limits": asdict(self._limits) | {"off": sorted(self._limits.off)},
        }
        try:
            return Report.from_json(self._ask(request))
        except (OSError, ValueError, TypeError, KeyError):
            self.close()
            why = "judging it took too long or too much memory"
            return Report.without_code(assignment, seed, why)

    def _ask(self, request: dict[str, Any]) -> Any:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                start_new_session=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        clock = Timer(self._patience, process.kill)
        clock.daemon = True
        clock.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())
        finally:
            clock.cancel()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            self._process = None
