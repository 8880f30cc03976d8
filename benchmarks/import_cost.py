"""What does ``import minitransformer`` cost on top of ``import torch``?

Run with ``python benchmarks/import_cost.py``. Each import gets a fresh
process; the two are measured in turn, so that a slow minute hits both. The
time is the processor's for the import itself, without the start of Python.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from measuring import ratio, surroundings, turn
from places import RESULTS, ROOT

from minitransformer.files import write_json

MODULES = ("torch", "minitransformer")
PROGRAM = """
import time
start = time.process_time()
import {module}
print(time.process_time() - start)
"""


def seconds(module: str) -> float:
    """Time one import in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def measure(rounds: int) -> dict[str, object]:
    """Time both imports ``rounds`` times, after one round to warm up."""
    times: dict[str, list[float]] = {module: [] for module in MODULES}
    for number in range(rounds + 1):
        for module in turn(list(MODULES), number):
            taken = seconds(module)
            if number:
                times[module].append(taken)
    return {
        "seconds": {m: [round(t, 4) for t in times[m]] for m in MODULES},
        "median_seconds": {
            m: round(statistics.median(times[m]), 4) for m in MODULES
        },
        "ratio": ratio(times["minitransformer"], times["torch"]),
        **surroundings(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "import_cost.json"
    )
    arguments = parser.parse_args()
    result = measure(arguments.rounds)
    write_json(arguments.out, result)
    print(f"{result['median_seconds']}: {result['ratio']} times torch alone")


if __name__ == "__main__":
    main()
