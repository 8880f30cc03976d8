"""tools/nb.py: the same bytes twice, and every way to be out of step."""

import nbformat
import pytest

from tools import nb

CHAPTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# 7 A small chapter

Some text.

> **Exercise 7.1. Six.** ★★ 12 minutes. How many?

```{code-cell} ipython3
x = 6
print(f"{x} of them")
x / 4
```

```{code-cell} ipython3
:tags: [hide-cell]

# @title Solution 7.1
assert x == 6
```

```{code-cell} ipython3
:tags: [raises-exception]

{}["key"]
```
"""


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Let nb.py work in an empty folder with one chapter."""
    monkeypatch.setattr(nb, "BOOK", tmp_path / "book")
    monkeypatch.setattr(nb, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(nb, "ROOT", tmp_path)
    monkeypatch.setattr(nb, "address", lambda: "https://github.com/a/b")
    monkeypatch.setattr(nb, "version", lambda: "1.2.3")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "07_small.md").write_text(CHAPTER, "utf-8")
    return tmp_path


@pytest.fixture
def made(shelf):
    assert nb.run([]) == 0
    return shelf


def edit(path, old, new):
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_a_notebook_made_twice_has_the_same_bytes(made):
    path = made / "notebooks" / "07_small.ipynb"
    once = path.read_bytes()
    assert nb.run(["book/07_small.md"]) == 0
    assert path.read_bytes() == once


def test_a_notebook_has_what_is_added_to_its_chapter(made):
    notebook = nbformat.read(made / "notebooks" / "07_small.ipynb", 4)
    title, setup, first, solution, error = notebook.cells
    assert title.source == (
        "# 7 A small chapter\n\n[Open this chapter in Colab]"
        "(https://colab.research.google.com/github/a/b/blob/main/notebooks/"
        "07_small.ipynb)\n\n*To read: about 5 minutes. Exercises: 12 minutes."
        " To run: less than 60 seconds of one processor core, and less than"
        " 2 GB of memory.*\n\nSome text.\n\n> **Exercise 7.1. Six.** ★★ 12"
        " minutes. How many?"
    )
    assert "git+https://github.com/a/b@v1.2.3" in setup.source
    assert [output.output_type for output in first.outputs] == [
        "stream",
        "execute_result",
    ]
    assert solution.metadata.jupyter.source_hidden
    assert solution.metadata.cellView == "form"
    assert error.outputs[0].traceback == ["KeyError: 'key'"]


def test_a_chapter_that_trains_may_take_longer():
    notebook = nbformat.v4.new_notebook(cells=[])
    assert "less than 60 seconds" in nb.effort(notebook, "07_add_and_norm")
    assert "less than 150 seconds" in nb.effort(notebook, "10_training")


def test_the_time_to_read_leaves_out_what_is_folded():
    def minutes(*cells):
        text = nb.effort(nbformat.v4.new_notebook(cells=cells))
        return int(text.split("about ")[1].split()[0])

    prose = nbformat.v4.new_markdown_cell("word " * 1_800)
    hints = f"<details>\n{'word ' * 9_000}\n</details>"
    code = nbformat.v4.new_code_cell("\n" * 119)
    folded = nbformat.v4.new_code_cell(
        "\n" * 999, metadata={"tags": ["hide-cell"]}
    )
    assert minutes(prose) == 10
    assert minutes(prose, nbformat.v4.new_markdown_cell(hints), folded) == 10
    assert minutes(prose, code) == 20


def test_a_caption_is_shown_where_the_book_is_not():
    figure = {"figure": {"caption": "Rows sum to one."}}
    cell = nbformat.v4.new_code_cell("plot()", metadata={"mystnb": figure})
    same, caption = nb.with_caption(cell)
    assert same is cell
    assert caption.source == "**Figure.** Rows sum to one."
    assert caption.metadata.tags == ["remove-cell"]  # the book has it already
    plain = nbformat.v4.new_code_cell("plot()")
    assert nb.with_caption(plain) == [plain]


def test_in_step(made, capsys):
    assert nb.check() == 0
    assert capsys.readouterr().out.endswith("in step\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Some text.", "Other text."),
        ("x = 6", "x = 7"),
        ("[raises-exception]", "[raises-exception, claim-C7.1]"),
    ],
)
def test_an_edited_chapter_is_out_of_step(made, capsys, old, new):
    edit(made / "book" / "07_small.md", old, new)
    assert nb.check() == 1
    assert "Run `make notebooks`." in capsys.readouterr().out


def test_a_notebook_edited_by_hand_is_out_of_step(made):
    edit(made / "notebooks" / "07_small.ipynb", "x = 6", "x = 7")
    assert nb.check() == 1


def test_a_cell_that_was_not_run_is_out_of_step(made):
    path = made / "notebooks" / "07_small.ipynb"
    edit(path, '"execution_count": 3', '"execution_count": null')
    assert nb.check() == 1


def test_a_missing_notebook_and_an_orphan_are_out_of_step(made, capsys):
    path = made / "notebooks" / "07_small.ipynb"
    path.rename(path.with_name("08_orphan.ipynb"))
    assert nb.check() == 1
    said = capsys.readouterr().out
    assert "07_small.ipynb is missing" in said
    assert "08_orphan.ipynb has no chapter" in said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('import warnings; warnings.warn("old")', "stderr"),
        ("object()", "address in memory"),
        ("import os; os.getcwd()", "path of this machine"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_repeated_is_not_written(shelf, capsys, code, said):
    edit(shelf / "book" / "07_small.md", "x / 4", code)
    assert nb.run([]) == 1
    assert said in capsys.readouterr().out
    assert not (shelf / "notebooks").exists()


def test_an_output_not_compared_does_not_change(made):
    chapter = made / "book" / "07_small.md"
    source = "# Not compared: chance\\nimport random; random.random()"
    edit(
        chapter,
        "x / 4\n```",
        f"x\n```\n\n```{{code-cell}} ipython3\n"
        f":tags: [nbval-ignore-output]\n\n{source}\n```".replace("\\n", "\n"),
    )
    nb.run([])
    once = (made / "notebooks" / "07_small.ipynb").read_bytes()
    nb.run([])
    assert (made / "notebooks" / "07_small.ipynb").read_bytes() == once


def test_an_unknown_chapter_is_named(shelf, capsys):
    assert nb.run(["99_none"]) == 1
    assert "99_none" in capsys.readouterr().out


def test_a_chapter_without_a_title_is_refused(shelf):
    edit(shelf / "book" / "07_small.md", "# 7 A small", "A small")
    with pytest.raises(SystemExit, match="must be its title"):
        nb.run([])


def test_formatting_touches_the_code_only(shelf):
    path = shelf / "book" / "07_small.md"
    edit(path, "x / 4", "x/4")
    edit(path, "Some text.", "Some  'text'.")
    nb.format_code()
    expected = CHAPTER.replace("Some text.", "Some  'text'.")
    assert path.read_text("utf-8") == expected
