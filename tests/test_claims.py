"""Ledger, FAQ and chapters say the same: no claim without its cell."""

import ast
import re

import nbformat
import pytest
import yaml

from tools import nb

VERDICTS = {"shown", "refuted", "corrected", "depends", "reproduced"}
CLAIMS = yaml.safe_load((nb.BOOK / "claims.yml").read_text("utf-8"))
FAQ = yaml.safe_load((nb.BOOK / "faq.yml").read_text("utf-8"))
CHAPTERS = [chapter.stem for chapter in nb.chapters()]
# (chapter, id, cell) for each tag of a claim, in the order of the book.
TAGGED = [
    (stem, tag.removeprefix("claim-"), cell)
    for stem in CHAPTERS
    for cell in nbformat.read(nb.NOTEBOOKS / f"{stem}.ipynb", 4).cells
    for tag in cell.metadata.get("tags", [])
    if tag.startswith("claim-")
]


def asserts(cell):
    """Say whether a cell can fail: by assert, or because it must raise."""
    names = {
        getattr(node.func, "id", getattr(node.func, "attr", ""))
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call)
    }
    return (
        any(
            isinstance(n, ast.Assert) for n in ast.walk(ast.parse(cell.source))
        )
        or any(name.startswith("assert_") for name in names)
        or "raises-exception" in cell.metadata.tags
    )


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim["id"])
def test_a_claim_is_complete(claim):
    assert set(claim) == {"id", "chapter", "claim", "verdict", "finding"}
    assert re.fullmatch(r"[CXN]\d+\.\d+", claim["id"])
    assert claim["verdict"] in VERDICTS
    assert claim["claim"].endswith((".", "?"))
    assert claim["finding"].endswith(".")


@pytest.mark.parametrize("entry", FAQ, ids=lambda entry: entry["id"])
def test_a_question_is_complete(entry):
    keys = {"id", "chapter", "section", "question", "answer"}
    assert set(entry) == keys
    assert re.fullmatch(r"Q\d+\.\d+", entry["id"])
    assert entry["question"].endswith("?")
    assert entry["answer"].endswith(".")


@pytest.mark.parametrize("entry", CLAIMS + FAQ, ids=lambda entry: entry["id"])
def test_an_entry_is_of_a_chapter_that_exists(entry):
    assert entry["chapter"] in CHAPTERS
    number = entry["id"][1:].split(".")[0]
    assert int(entry["chapter"][:2]) == int(number)


def test_no_id_stands_twice():
    ids = [entry["id"] for entry in CLAIMS + FAQ]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim["id"])
def test_a_claim_has_one_cell_that_can_fail(claim):
    cells = [
        cell
        for stem, name, cell in TAGGED
        if (stem, name) == (claim["chapter"], claim["id"])
    ]
    assert len(cells) == 1
    assert asserts(cells[0])


@pytest.mark.parametrize(
    ("stem", "name"), [(stem, name) for stem, name, _ in TAGGED]
)
def test_a_tagged_cell_has_an_entry(stem, name):
    entries = {(entry["chapter"], entry["id"]) for entry in CLAIMS + FAQ}
    assert (stem, name) in entries


def test_a_cell_that_cannot_fail_is_not_evidence():
    cell = nbformat.v4.new_code_cell("print(1)", metadata={"tags": []})
    assert not asserts(cell)
