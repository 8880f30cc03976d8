"""``import minitransformer`` pays for torch, and for nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = {
    "IPython",
    "matplotlib",
    "opencc",
    "pooch",
    "sacrebleu",
    "tokenizers",
    "typer",
}
PROGRAM = """
import sys
import {module}
print(*{{name.partition(".")[0] for name in sys.modules}})
"""


def loaded_by(module):
    """Name the top-level packages in memory after one import."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_no_tool():
    loaded = loaded_by("minitransformer")
    assert {"torch", "minitransformer"} <= loaded
    assert not loaded & HEAVY


def test_the_command_line_imports_only_typer_until_it_is_told_what_to_do():
    loaded = loaded_by("minitransformer.cli")
    assert loaded & HEAVY == {"typer"}


def test_the_check_can_fail():
    assert loaded_by("minitransformer, sacrebleu") & HEAVY == {"sacrebleu"}


def test_the_measured_cost_is_small():
    path = ROOT / "minitransformer" / "results" / "import_cost.json"
    result = json.loads(path.read_text())
    assert len(result["seconds"]["torch"]) >= 7
    assert result["ratio"]["median"] <= 1.1
