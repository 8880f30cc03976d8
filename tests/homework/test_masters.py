"""Masters of the assignments, the copies made of them, and what they hold."""

import re

import jupytext
import nbformat
import pytest

from minitransformer.homework.tasks import ASSIGNMENTS, WAITS, tasks_of
from tools import homework, nb

MASTERS = {path.stem: path for path in homework.masters()}
CHAPTERS = {int(path.stem[:2]): path for path in nb.chapters()}
HEADING = re.compile(r"^###? (.+)$", re.MULTILINE)


def learner(name):
    return nbformat.read(homework.LEARNERS / f"{name}.ipynb", as_version=4)


def solved(name):
    return nbformat.read(homework.SOLVED / f"{name}.ipynb", as_version=4)


def checks(notebook):
    """Give the cells that ask for a verdict and do nothing else."""
    return [
        cell
        for cell in notebook.cells
        if "check" in cell.metadata.get("tags", [])
    ]


def test_there_is_a_master_for_every_assignment():
    assert tuple(MASTERS) == ASSIGNMENTS


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_text_asks_for_the_tasks_that_are_judged(name):
    asked = nb.tasks(jupytext.read(MASTERS[name]))
    assert [(task, points) for task, points, _ in asked] == [
        (task.name, task.points) for task in tasks_of(name)
    ]
    assert sum(points for _, points, _ in asked) == 20
    assert 5 <= sum(points > 0 for _, points, _ in asked) <= 8
    assert any(points == 0 for _, points, _ in asked)  # a stretch goal
    assert 90 <= sum(minutes for _, _, minutes in asked) <= 240


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_every_message_leads_to_a_heading_of_the_book(name):
    for task in tasks_of(name):
        assert task.tests
        for test in task.tests:
            chapter = CHAPTERS[test.see.chapter].read_text("utf-8")
            assert test.see.section in HEADING.findall(chapter), test


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_no_solution_is_in_the_learners_copy(name):
    text = "\n".join(cell.source for cell in learner(name).cells)
    assert "SOLUTION" not in text
    answers = [
        cell.source
        for cell in jupytext.read(MASTERS[name]).cells
        if "answer" in cell.metadata.get("tags", [])
    ]
    hidden = [
        line.strip()
        for source in answers
        for block in homework.SOLUTION.finditer(source)
        for line in block[0].split("\n")
    ]
    telling = {line for line in hidden if len(line) > 25 and line[0] != "#"}
    given = homework.SOLUTION.sub("", "\n".join(answers))
    assert telling
    for line in telling:
        assert line in given or line not in text


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_figures_stay_in_the_learners_copy(name):
    figures = [
        cell
        for cell in learner(name).cells
        if cell.cell_type == "code" and cell.outputs
    ]
    assert len(figures) >= 2
    for cell in figures:
        assert all("image/png" in output.data for output in cell.outputs)
        assert cell.metadata.mystnb.figure.caption
        assert cell.metadata.mystnb.figure.name.startswith(f"fig-{name}")
        assert len(cell.metadata.mystnb.image.alt) > 30


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_solved_copy_is_right_throughout(name):
    verdicts = [
        cell.outputs[0].data["text/plain"] for cell in checks(solved(name))
    ]
    assert verdicts == [f"{task.name} Correct." for task in tasks_of(name)]


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_an_untouched_copy_runs_and_waits(name):
    notebook = nb.execute(learner(name))
    verdicts = [
        cell.outputs[0].data["text/plain"] for cell in checks(notebook)
    ]
    assert verdicts == [f"{task.name} {WAITS}" for task in tasks_of(name)]


def test_a_stub_takes_the_place_of_a_solution():
    source = (
        "def f(x):\n    a = 1\n    ### BEGIN SOLUTION\n    b = 2\n"
        "    return a + b\n    ### END SOLUTION\n    # end"
    )
    assert homework.SOLUTION.sub(homework.STUB, source) == (
        "def f(x):\n    a = 1\n    ...  # your code here\n    # end"
    )


@pytest.mark.parametrize("kind", range(3))
def test_a_copy_behind_its_master_is_told(kind, tmp_path, monkeypatch):
    copies = []
    for place in ("LEARNERS", "SOLVED", "ANSWERS"):
        original = getattr(homework, place)
        (tmp_path / place).mkdir()
        file = next(original.glob("hw1.*"))
        copy = tmp_path / place / file.name
        copy.write_bytes(file.read_bytes())
        copies.append(copy)
        monkeypatch.setattr(homework, place, tmp_path / place)
    monkeypatch.setattr(homework, "ROOT", tmp_path)
    master = MASTERS["hw1"]
    assert homework.differences(master) == []
    text = copies[kind].read_text("utf-8")
    copies[kind].write_text(text.replace("query", "quarry", 1), "utf-8")
    (words,) = homework.differences(master)
    assert "behind its master" in words
    copies[kind].unlink()
    assert "is missing" in homework.differences(master)[0]
