"""The gate: nbval runs the notebooks, ``tools/gate.py`` compares outputs.

nbval alone ignores figures, compares numbers letter by letter, and lets a
cell that was never run print whatever it likes.
"""

import os

import pytest
from nbval.plugin import IPyNbCell

from tools import gate

run_cell = IPyNbCell.runtest


def runtest(self):
    """Refuse a cell without a count: nbval would not compare its outputs."""
    if self.cell.execution_count is None:
        self.raise_cell_error("The cell was never run: `make notebooks`")
    run_cell(self)


def compare_outputs(self, test, ref, skip_compare=None):
    """Compare as the gate does, and prove that it would see a change."""
    found = gate.differences(ref, test)
    if not found:
        passed = gate.let_through(test)
        found = [f"the gate would not see: {name}" for name in passed]
    self.comparison_traceback = found
    return not found


def pytest_configure(config: pytest.Config) -> None:
    """Run the notebooks as ``tools/nb.py`` does: one thread, no surprises."""
    IPyNbCell.runtest = runtest
    IPyNbCell.compare_outputs = compare_outputs
    if config.option.nbval:
        os.environ.update(OMP_NUM_THREADS="1", PYTHONHASHSEED="0")
        os.environ.pop("MPLBACKEND", None)
