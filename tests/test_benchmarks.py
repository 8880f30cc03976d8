"""The benchmarks in miniature: they run, and they measure what they say."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def measuring():
    """Import the benchmarks' module as the scripts do."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import measuring
    finally:
        sys.path.pop(0)
    return measuring


def run(script, *arguments):
    """Run a script on one thread."""
    return subprocess.run(
        [sys.executable, script, *arguments],
        cwd=ROOT / "benchmarks",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )


def test_candidates_take_turns(measuring):
    calls = []
    candidates = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = measuring.alternate(candidates, rounds=3)
    assert "".join(calls) == "abc" + "bca" + "cab" + "abc"
    assert {name: len(each) for name, each in times.items()} == {
        name: 3 for name in "abc"
    }


def test_only_work_counts_as_time(measuring):
    times = measuring.alternate({"asleep": lambda: time.sleep(0.2)}, 1)
    assert times["asleep"][0] < 0.1


def test_ratios_by_hand(measuring):
    found = measuring.ratio([2.0, 3.0, 8.0], [1.0, 1.0, 2.0])
    assert found == {"median": 3.0, "low": 2.0, "high": 4.0}


def test_training_speed_is_measured(tmp_path):
    out = tmp_path / "result.json"
    done = run(
        "training_speed.py",
        *("--small", "--rounds", "2", "--pairs", "60", "--out", str(out)),
    )
    assert "x nn.Transformer" in done.stdout
    result = json.loads(out.read_text())
    assert {len(each) for each in result["seconds"].values()} == {2}
    for found in result["times_as_fast"].values():
        assert 0 < found["low"] <= found["median"] <= found["high"]
