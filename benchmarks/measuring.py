"""How the benchmarks measure: in turn, by processor time, with intervals."""

import math
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

# Student's t: 95 % of the means of n values lie this many deviations away.
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447}
STUDENT |= {8: 2.365, 9: 2.306, 10: 2.262}
LEAST = 6  # rounds, that an interval holds the median 95 times in 100
MORE = 4  # times as many rounds at most, where the first do not suffice
Times = dict[str, list[float]]  # name of each candidate: seconds, one a round
Enough = Callable[[Times], bool]
Clock = Callable[[], float]


def processor() -> str:
    """Name the processor, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1] for line in lines if "model name" in line]
    return names[0].strip() if names else platform.machine()


def commit(folder: Path = Path(__file__).parent) -> str | None:
    """Name the commit of the code, ``-changed`` if that is not all of it.

    Returns:
        ``None`` if there is no repository, or no git.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
        ).stdout.strip()

    try:
        name = git("rev-parse", "--short=10", "HEAD")
        # Results are written while others are still being measured.
        changed = git("status", "--porcelain", "--", ":/*.py")
    except OSError:
        return None
    return name + "-changed" * bool(changed) or None


def surroundings(*packages: str) -> dict[str, Any]:
    """Say what a figure was measured on, and with which code.

    Args:
        packages: The peers' names; those that are installed get a version.
    """
    return {
        "commit": commit(),
        "machine": processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **versions(packages),
        "threads": torch.get_num_threads(),
        "matmul_gflops": round(matmul_rate(), 1),
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def matmul_rate() -> float:
    """Return what one thread does now, in 10⁹ operations a second.

    A shared processor is twice as fast on one day as on another. This says
    on which day a figure was measured.
    """
    a, b = torch.rand(1_536, 128), torch.rand(128, 8_000)
    times = alternate({"product": lambda: a @ b}, rounds=9)["product"]
    work = 2 * a.shape[0] * a.shape[1] * b.shape[1]
    return work / statistics.median(times) / 1e9


def alternate(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Clock = time.process_time,
    parts: int = 1,
    enough: Enough | None = None,
) -> Times:
    """Run the candidates in turn, so that a bad moment hits all of them.

    Args:
        candidates: Name to what is timed, once it has warmed up.
        rounds: How often each is timed.
        clock: Processor time leaves out what the machine did meanwhile for
            others, but not what that did to the caches. With several threads
            it adds them up: take `clock_for`.
        parts: As in `in_turn`.
        enough: As in `in_turn`.

    Returns:
        Name to seconds, one a round.
    """

    def timed(work: Callable[[], object]) -> float:
        started = clock()
        work()
        return clock() - started

    for work in candidates.values():
        for _ in range(parts):
            work()
    return in_turn(
        {name: partial(timed, work) for name, work in candidates.items()},
        rounds,
        parts,
        enough,
    )


def in_turn(
    timed: Mapping[str, Callable[[], float]],
    rounds: int,
    parts: int = 1,
    enough: Enough | None = None,
) -> Times:
    """Let candidates take turns, each telling its seconds.

    Args:
        timed: Name to what works once and returns how long that took.
        rounds: How often each is timed.
        parts: A round is so many turns, and its seconds are their sum. The
            shorter a turn, the less the machine changes from one to the next.
        enough: Told the seconds, says whether they suffice. If not, there
            are twice as many rounds, and once more twice as many at most;
            not so if fewer than six are asked for, which is a quick look.

    Returns:
        Name to seconds, one a round.
    """
    times: Times = {name: [] for name in timed}
    wanted = most = rounds
    if enough and rounds >= LEAST:
        most *= MORE
    while True:
        for number in range(len(next(iter(times.values()))), wanted):
            taken = dict.fromkeys(timed, 0.0)
            for part in range(parts):
                for name in turn(list(timed), number * parts + part):
                    taken[name] += timed[name]()
            for name, seconds in taken.items():
                times[name].append(seconds)
        if wanted >= most or (enough and enough(times)):
            return times
        wanted *= 2


def turn(names: list[str], number: int) -> list[str]:
    """Draw an order for each turn: nobody always follows the same."""
    return random.Random(number).sample(names, len(names))


def sharp(ours: str) -> Enough:
    """Return what asks whether the times compare all others with ours.

    They do when the interval of each ratio lies within 10 % of its median.
    """
    return lambda times: all(
        is_sharp(ratio(each, times[ours]))
        for name, each in times.items()
        if name != ours
    )


def is_sharp(found: Mapping[str, float]) -> bool:
    """Say whether an interval lies within 10 % of its median.

    >>> is_sharp({"median": 2.0, "low": 1.8, "high": 2.1})
    True
    >>> is_sharp({"median": 2.0, "low": 1.9, "high": 2.3})
    False
    """
    furthest = max(
        found["high"] - found["median"], found["median"] - found["low"]
    )
    return furthest <= 0.1 * found["median"] + 1e-9


def clock_for(threads: int) -> Clock:
    """Return processor time for one thread, the wall's for several."""
    return time.process_time if threads == 1 else time.perf_counter


def serve(
    work: Callable[[], object],
    clock: Clock = time.process_time,
    parts: int = 1,
) -> None:
    """Work once for every line that comes, and tell how long it took."""
    for _ in range(parts):
        work()  # warms up
    print("ready", flush=True)
    for _ in sys.stdin:
        started = clock()
        work()
        print(clock() - started, flush=True)


def alternate_apart(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    parts: int = 1,
    enough: Enough | None = None,
) -> Times:
    """Do what `alternate` does with candidates that must not share a process.

    Args:
        commands: Name to the arguments of a Python process that calls `serve`.
        rounds: How often each is timed.
        parts: As in `in_turn`.
        enough: As in `in_turn`.

    Returns:
        Name to seconds, one a round.
    """
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(
                subprocess.Popen(
                    [sys.executable, *command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for name, command in commands.items()
        }

        def hear(name: str) -> str:
            stdout = processes[name].stdout
            assert stdout
            return stdout.readline()

        def timed(name: str) -> float:
            stdin = processes[name].stdin
            assert stdin
            stdin.write("go\n")
            stdin.flush()
            return float(hear(name))

        for name in processes:
            hear(name)
        return in_turn(
            {name: partial(timed, name) for name in processes},
            rounds,
            parts,
            enough,
        )


def ratio(
    slower: Sequence[float], faster: Sequence[float]
) -> dict[str, float]:
    """Say how many times as long the first took, round by round.

    Returns:
        The median of the rounds' ratios, and the ends of an interval that
        holds the true median at least 95 times in 100; with fewer than six
        rounds, less often.

    >>> ratio([2.0, 2.2, 2.0], [1.0, 1.0, 1.0])["median"]
    2.0
    """
    rounds = sorted(a / b for a, b in zip(slower, faster, strict=True))
    left_out = ranks_left_out(len(rounds))
    return {
        "median": round(statistics.median(rounds), 3),
        "low": round(rounds[left_out], 3),
        "high": round(rounds[-1 - left_out], 3),
    }


def ranks_left_out(count: int) -> int:
    """Return how many of the least and of the greatest values to leave out.

    Each value lies below the true median as often as above, so how many lie
    below is binomial, whatever they are. The ends of the interval are two
    of them (order statistics): as close together as 95 % allow.

    >>> [ranks_left_out(count) for count in (3, 5, 6, 9, 15)]
    [0, 0, 0, 1, 3]
    """
    outside, left_out = 0.0, -1
    while outside <= 0.025:
        left_out += 1
        outside += math.comb(count, left_out) / 2**count
    return max(left_out - 1, 0)


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Return the mean of a few seeds and its 95 % interval by Student's t.

    One value has no interval: its ends are not numbers.

    >>> mean_interval([1.0, 2.0, 3.0])["low"]
    -0.4843
    """
    mean, n = statistics.mean(values), len(values)
    half = math.nan
    if n > 1:
        half = STUDENT[n] * statistics.stdev(values) / math.sqrt(n)
    return {
        "mean": round(mean, 4),
        "low": round(mean - half, 4),
        "high": round(mean + half, 4),
    }
