"""The gate has teeth: whatever is altered in a notebook, it sees."""

import base64
import io
import re
import subprocess
import sys

import nbformat
import pytest
from PIL import Image

from tools import gate, homework, nb

# Those that nbval runs.
NOTEBOOKS = sorted(nb.NOTEBOOKS.glob("*.ipynb"))
NOTEBOOKS += sorted(homework.SOLVED.glob("*.ipynb"))
CELLS = {
    f"{path.stem}-{cell.id}": cell
    for path in NOTEBOOKS
    for cell in nbformat.read(path, as_version=4).cells
    if cell.cell_type == "code"
}


def stream(text, name="stdout"):
    return [{"output_type": "stream", "name": name, "text": text}]


def figure():
    image = Image.new("RGB", (60, 40), "white")
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


# One cell's outputs with something for each alteration.
SAMPLE = [
    *stream("loss 0.146 after 100 steps"),
    {"output_type": "display_data", "data": {"image/png": figure()}},
    {"output_type": "error", "ename": "ValueError", "evalue": "too long"},
]


# By hand -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        ("loss 0.146", "loss 0.147"),
        ("loss 0.146", "loss 0.145"),
        ("0.15", "0.149"),
        ("1.5e-07", "1.6e-07"),
        ("tensor([-0.000, 1.])", "tensor([0.000, 1.])"),
        ("[-0.001, 2.5]", "[ 0.000,  2.5]"),
        ("is 3.14.", "is 3.15."),
    ],
)
def test_one_unit_of_the_last_digit_is_let_through(stored, new):
    assert gate.differences(stream(stored), stream(new)) == []


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        ("loss 0.146", "loss 0.148"),
        ("0.15", "0.145"),
        ("1.5e-07", "1.7e-07"),
        ("step 100", "step 101"),
        ("tensor([1., 2.])", "tensor([1., 3.])"),
        ("torch 2.13.0", "torch 2.14.0"),
        ("400x300", "400x301"),
        ("w_1", "w_2"),
        ("True", "False"),
        ("0.5", "nan"),
        ("a b", "a  b"),
        ("0.146", "0.146\n"),
    ],
)
def test_more_than_that_is_not(stored, new):
    assert gate.differences(stream(stored), stream(new)) != []


def test_how_a_stream_was_cut_does_not_matter():
    assert gate.differences(stream("ab"), stream("a") + stream("b")) == []


def test_stdout_and_stderr_are_not_the_same():
    assert gate.differences(stream("a"), stream("a", "stderr")) != []


def test_html_is_compared_to_the_letter():
    def shown(text):
        data = {"text/plain": "x", "text/html": text}
        return [{"output_type": "display_data", "data": data}]

    assert gate.differences(shown("<b>0.1</b>"), shown("<b>0.1</b>")) == []
    assert gate.differences(shown("<b>0.1</b>"), shown("<b>0.2</b>")) != []


# Every cell of every notebook ----------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_the_gate_passes_an_unaltered_cell(name):
    outputs = CELLS[name].outputs
    assert gate.differences(outputs, outputs) == []


@pytest.mark.parametrize("name", CELLS)
def test_the_gate_sees_every_alteration_of_a_cell(name):
    outputs = CELLS[name].outputs
    assert gate.let_through(outputs) == []


@pytest.mark.parametrize("alter", gate.ALTERATIONS)
def test_every_alteration_finds_something_to_alter(alter):
    copies = list(alter(SAMPLE))
    assert copies
    for copy in copies:
        assert gate.differences(copy, SAMPLE) != []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_has_numbers_and_figures_to_alter(path):
    cells = nbformat.read(path, as_version=4).cells
    kinds = [gate.figure_changed]
    if path.parent == nb.NOTEBOOKS:  # homework shows verdicts and figures
        kinds += [gate.number_changed, gate.integer_changed]
    for alter in kinds:
        assert any(list(alter(cell.get("outputs", []))) for cell in cells)


def test_a_gate_without_teeth_is_noticed(monkeypatch):
    monkeypatch.setitem(gate.COMPARE, "image/png", lambda stored, new: [])
    assert gate.let_through(SAMPLE) == ["figure_changed"]


def test_at_most_three_in_a_hundred_cells_are_not_compared():
    ignored = [
        cell
        for cell in CELLS.values()
        if nb.IGNORED & set(cell.metadata.get("tags", []))
    ]
    assert len(ignored) <= 0.03 * len(CELLS)
    for cell in ignored:
        assert re.match(r"# Not compared: \w+", cell.source)


@pytest.mark.parametrize("name", CELLS)
def test_no_cell_is_excused_by_a_comment(name):
    assert "NBVAL_" not in CELLS[name].source


# The whole way, through nbval ----------------------------------------------


def until_a_number(notebook):
    """Keep the cells up to the first that prints a decimal number."""
    for i, cell in enumerate(notebook.cells):
        if next(gate.number_changed(cell.get("outputs", [])), None):
            notebook.cells = notebook.cells[: i + 1]
            return notebook
    raise AssertionError("no cell prints a decimal number")


def test_nbval_fails_an_altered_notebook_and_that_cell_only(tmp_path):
    notebook = until_a_number(nbformat.read(NOTEBOOKS[0], as_version=4))
    nbformat.write(notebook, tmp_path / "true.ipynb")
    last = notebook.cells[-1]
    last.outputs = nbformat.from_dict(next(gate.number_changed(last.outputs)))
    nbformat.write(notebook, tmp_path / "altered.ipynb")
    count = sum(cell.cell_type == "code" for cell in notebook.cells)
    config = str(nb.ROOT / "pyproject.toml")
    command = [sys.executable, "-m", "pytest", "-q", "-c", config]
    command += ["--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(nb.ROOT), "-p", "conftest", str(tmp_path)]
    result = subprocess.run(
        command,
        cwd=nb.ROOT,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"altered.ipynb::Cell {count - 1}" in result.stdout
    assert f"1 failed, {2 * count - 1} passed" in result.stdout
