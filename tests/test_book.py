"""The notebooks are their chapters, run once, and fit to be read anywhere."""

import re
import tomllib

import nbformat
import pytest
import yaml

import minitransformer
from minitransformer.homework import check
from tools import homework, nb

CHAPTERS = {chapter.stem: chapter for chapter in nb.chapters()}
PATHS = {stem: nb.notebook_of(chapter) for stem, chapter in CHAPTERS.items()}
PATHS |= {
    f"homework/{master.stem}": homework.places(master)[0]
    for master in homework.masters()
}
NOTEBOOKS = {
    stem: nbformat.read(path, as_version=4) for stem, path in PATHS.items()
}
CODE = [
    pytest.param(stem, cell, id=f"{stem}-{cell.id}")
    for stem, notebook in NOTEBOOKS.items()
    for cell in notebook.cells
    if cell.cell_type == "code"
]
MYST = {
    "a directive": r"^(`{3,}|:{3,})\s*\{",
    "a fence of colons": r"^:{3,}",
    "a role": r"\{[a-z][\w:+-]*\}`",
    "a label": r"^\([\w-]+\)=",
    "a block of attributes": r"^\{[.#]",
    "a break between cells": r"^\+\+\+",
    "a comment": r"^%",
    "a footnote": r"\[\^",
}
TEXT = re.compile(r"`[^`]+`|\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)


def tags(cell):
    return set(cell.metadata.get("tags", []))


def mystnb(cell):
    """Return how the book shows a cell."""
    return cell.metadata.get("mystnb", {})


def markdown(notebook):
    """Return a notebook's text, without its code."""
    cells = (c for c in notebook.cells if c.cell_type == "markdown")
    return "\n\n".join(cell.source for cell in cells)


def shown(cell):
    """Return what a code cell shows as text."""
    return "".join(
        output.get("text", output.get("data", {}).get("text/plain", ""))
        for output in cell.outputs
    )


@pytest.mark.parametrize("stem", CHAPTERS)
def test_the_notebook_is_made_from_its_chapter(stem):
    assert nb.differences(CHAPTERS[stem]) == []


def test_no_notebook_is_without_a_chapter():
    assert {path.stem for path in nb.NOTEBOOKS.glob("*.ipynb")} == set(
        CHAPTERS
    )


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_every_notebook_is_in_the_table_of_contents(stem):
    toc = (nb.ROOT / "_toc.yml").read_text("utf-8")
    assert f"- file: notebooks/{stem}\n" in toc


@pytest.mark.parametrize("stem", CHAPTERS)
def test_the_number_stands_in_the_title(stem):
    title = NOTEBOOKS[stem].cells[0].source.split("\n")[0]
    assert title.startswith(f"# {int(stem[:2])} ")


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_notebook_opens_in_colab_and_sets_itself_up(stem):
    cells = NOTEBOOKS[stem].cells
    first = next(cell for cell in cells if cell.cell_type == "code")
    assert f"]({nb.colab_link(stem)})" in cells[0].source
    assert tags(first) == {"hide-input", "set-up"}
    assert [c for c in cells if "set-up" in tags(c)] == [first]
    assert first.outputs == []


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_no_output_is_of_one_machine_only(stem):
    assert nb.objections(NOTEBOOKS[stem]) == []


@pytest.mark.parametrize("stem", NOTEBOOKS)
@pytest.mark.parametrize("what", MYST)
def test_the_text_is_plain_markdown(stem, what):
    for cell in NOTEBOOKS[stem].cells:
        if cell.cell_type == "markdown":
            plain = (
                TEXT.sub("", cell.source)
                if "role" not in what
                else (cell.source)
            )
            found = re.search(MYST[what], plain, re.MULTILINE)
            assert found is None, f"{what}: {found[0]}"


@pytest.mark.parametrize("stem", CHAPTERS)
def test_exercises_are_a_few_and_rise(stem):
    found = nb.exercises(NOTEBOOKS[stem])
    numbers, stars, _ = zip(*found, strict=True)
    count = len(found)
    assert 3 <= count <= 6
    assert list(numbers) == [f"{int(stem[:2])}.{i + 1}" for i in range(count)]
    assert list(stars) == sorted(stars)
    text = markdown(NOTEBOOKS[stem])
    assert text.count("**Exercise ") == count  # none is written otherwise


@pytest.mark.parametrize("stem", CHAPTERS)
def test_every_exercise_has_three_hints(stem):
    tasks = markdown(NOTEBOOKS[stem]).split("> **Exercise ")[1:]
    for task in tasks:
        text = task.split("\n## ")[0]
        hints = re.findall(r"<summary>Hint (\d): ([^<]+)</summary>", text)
        names = ["a nudge", "the idea", "nearly there"]
        assert hints == list(zip("123", names, strict=True))


@pytest.mark.parametrize("stem", CHAPTERS)
def test_every_exercise_waits_and_has_a_solution_that_passes(stem):
    code = [c for c in NOTEBOOKS[stem].cells if c.cell_type == "code"]
    for number, _, _ in nb.exercises(NOTEBOOKS[stem]):
        call = f'check("{number}", '
        title = f"# @title Solution {number}\n"
        stub = next(cell for cell in code if call in cell.source)
        (solution,) = (c for c in code if c.source.startswith(title))
        assert f"{number} waits for your answer" in shown(stub)
        assert call in solution.source
        assert f"{number} Correct." in shown(solution)
    titles = [c for c in code if c.source.startswith("# @title ")]
    assert len(titles) == len(nb.exercises(NOTEBOOKS[stem]))


@pytest.mark.parametrize("stem", CHAPTERS)
def test_the_quiz_has_five_answers_and_they_are_right(stem):
    number = int(stem[:2])
    text = markdown(NOTEBOOKS[stem])
    quiz = text.split("\n## Quiz\n")[1].split("\n## ")[0]
    questions = re.findall(r"^\*\*(\d)\.\*\* .+\?$", quiz, re.M)
    answers = re.findall(
        r"<summary>Answer (\d)</summary>\n\n\*\*([A-D])\.\*\* ", quiz
    )
    assert questions == list("12345")
    assert [i for i, _ in answers] == questions
    # The key that this compares with is computed, not written down.
    assert check(f"{number}.quiz", [letter for _, letter in answers])
    call = f'check("{number}.quiz", answers)'
    (cell,) = (c for c in NOTEBOOKS[stem].cells if call in c.source)
    assert f"{number}.quiz waits for your answer" in shown(cell)


@pytest.mark.parametrize("stem", CHAPTERS)
def test_a_chapter_says_what_it_takes_and_has_its_parts(stem):
    notebook = NOTEBOOKS[stem]
    text = markdown(notebook)
    assert "*To read: about " in notebook.cells[0].source
    assert "> **After this chapter you can**" in text
    assert re.findall(r"^## (.+)$", text, re.M)[-1] == "Summary"
    figures = [c for c in notebook.cells if "image" in mystnb(c)]
    assert len(figures) >= 3


@pytest.mark.parametrize(("stem", "cell"), CODE)
def test_solutions_are_folded_in_the_book_and_in_colab(stem, cell):
    hidden = "hide-cell" in tags(cell)
    assert hidden or not cell.source.startswith("# @title ")
    assert not hidden or cell.source.startswith("# @title ")
    assert hidden == cell.metadata.get("jupyter", {}).get(
        "source_hidden", False
    )


@pytest.mark.parametrize(("stem", "cell"), CODE)
def test_every_figure_has_a_text_for_those_who_do_not_see_it(stem, cell):
    figures = [
        output
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(figures) <= 1
    assert bool(figures) == ("image" in mystnb(cell))
    assert not figures or len(mystnb(cell)["image"]["alt"]) >= 20


@pytest.mark.parametrize(("stem", "cell"), CODE)
def test_no_cell_measures_time_or_uses_magic(stem, cell):
    bad = re.compile(r"^\s*[%!]|perf_counter|\btimeit\b|^import time", re.M)
    assert bad.search(cell.source) is None


@pytest.mark.parametrize("name", ["README.md", "book/index.md"])
def test_the_example_on_a_front_page_runs(name):
    text = (nb.ROOT / name).read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    names = {}
    exec(example, names)
    result = names.get("output", names.get("logits"))
    assert result.isfinite().all()


@pytest.mark.parametrize("stem", CHAPTERS)
def test_a_numbered_equation_has_no_double_backslash(stem):
    # Sphinx would wrap it in "split", and MathJax allows no number in there.
    text = CHAPTERS[stem].read_text("utf-8")
    equations = re.findall(r"^\$\$\n(.*?)\n\$\$$", text, re.M | re.S)
    assert equations
    for equation in equations:
        assert "\\tag" not in equation or "\\\\" not in equation, equation


def test_chapters_lead_to_the_notation_where_it_begins():
    texts = [chapter.read_text("utf-8") for chapter in CHAPTERS.values()]
    found = set(re.findall(r"notation\.md#([\w-]+)", "".join(texts)))
    assert {"sizes", "masks", "tokens", "colours"} <= found


def test_the_repository_and_the_version_are_the_same_everywhere():
    project = tomllib.loads((nb.ROOT / "pyproject.toml").read_text("utf-8"))
    citation = yaml.safe_load((nb.ROOT / "CITATION.cff").read_text("utf-8"))
    changes = (nb.ROOT / "CHANGELOG.md").read_text("utf-8")
    assert project["project"]["urls"]["Source"] == nb.address()
    assert citation["repository-code"] == nb.address()
    assert citation["version"] == nb.version()
    assert minitransformer.__version__ == nb.version()
    assert f"## {nb.version()}" in changes
    addresses = {
        found
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
        for found in re.findall(
            r"https://github\.com/[\w-]+/[\w-]+",
            (nb.ROOT / name).read_text("utf-8"),
        )
    }
    assert addresses <= {nb.address()}
