"""What was handed in is found, named and read; the rest is told."""

import json
import os
import sys

import pytest

from minitransformer.errors import UserError
from minitransformer.homework.grading import submissions
from minitransformer.homework.grading.submissions import (
    Unreadable,
    find_submissions,
    guess,
    read_submission,
    whose,
)


def notebook(*cells):
    cells = [{"cell_type": "code", "source": text} for text in cells]
    return json.dumps({"cells": cells, "nbformat": 4})


@pytest.mark.parametrize(
    ("name", "student", "number"),
    [
        ("Ada Lovelace_12345_assignsubmission_file_", "Ada Lovelace", "12345"),
        ("Ada Lovelace_12345_assignsubmission_file", "Ada Lovelace", "12345"),
        ("A_da_7_assignsubmission_file_hw2.ipynb", "A_da", "7"),
        ("lovelaceada_12345_67890_hw2.ipynb", "lovelaceada", "12345"),
        ("lovelaceada_LATE_12345_67890_hw2-3.ipynb", "lovelaceada", "12345"),
        ("Łukasz.ipynb", "Łukasz", ""),
        ("hw2_ada.py", "hw2_ada", ""),
        ("Ada.Lovelace", "Ada.Lovelace", ""),
        ("=1+1_1_2_hw2.py", "=1+1", "1"),
        ("a\x1bb\udcff.py", "a?b?", ""),
    ],
)
def test_students_are_read_from_names(name, student, number):
    assert whose(name) == (student, number)


def test_assignments_are_read_from_names():
    assert guess("HW 2, hw_3.ipynb") == {"hw2", "hw3"}
    assert guess("ada_hw12.ipynb") == guess("lecture.ipynb") == set()


def test_each_entry_of_the_folder_gives_one_submission(tmp_path):
    (tmp_path / "b_1_assignsubmission_file_").mkdir()
    (tmp_path / "b_1_assignsubmission_file_" / "deep").mkdir()
    deep = tmp_path / "b_1_assignsubmission_file_" / "deep" / "hw2.ipynb"
    deep.touch()
    for name in ("empty", "two", "chosen", ".hidden", "__MACOSX"):
        (tmp_path / name).mkdir()
    for name in ("two/a.py", "two/b.py", "chosen/hw1.py", "chosen/hw2.py"):
        (tmp_path / name).touch()
    (tmp_path / "empty" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "empty" / ".ipynb_checkpoints" / "x.ipynb").touch()
    (tmp_path / "a.py").touch()
    (tmp_path / "z.zip").touch()
    found = {s.student: s for s in find_submissions(tmp_path, "hw2")}
    assert list(found) == ["a", "b", "chosen", "empty", "two", "z"]
    assert found["b"].path == deep
    assert found["b"].id == "1"
    assert found["chosen"].path.name == "hw2.py"
    problems = {name: s.problem for name, s in found.items() if s.problem}
    assert problems == {
        "empty": "the folder holds no .ipynb or .py file",
        "two": "the folder holds 2 files: a.py, b.py",
        "z": "z.zip is neither .ipynb nor .py",
    }


def test_files_side_by_side_are_one_submission(tmp_path):
    for name in (
        "ada_1_10_hw1.ipynb",
        "ada_1_11_notes.pdf",
        "bo_2_12_a.py",
        "bo_2_13_b.py",
        "cy_3_14_only.pdf",
        "cy_3_15_this.pdf",
        "di.py",
        "di.ipynb",  # without a number: not surely the same person
    ):
        (tmp_path / name).touch()
    found = find_submissions(tmp_path, "hw1")
    assert [(s.student, s.problem) for s in found] == [
        ("ada", ""),
        ("bo", "there are 2 files: bo_2_12_a.py, bo_2_13_b.py"),
        ("cy", "cy_3_14_only.pdf is neither .ipynb nor .py"),
        ("di", ""),
        ("di", ""),
    ]
    assert found[0].path.name == "ada_1_10_hw1.ipynb"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_a_link_is_no_submission(tmp_path):
    secret = tmp_path / "secret.py"
    secret.write_text("x = 1")
    folder = tmp_path / "handed in"
    (folder / "ada").mkdir(parents=True)
    (folder / "bob.py").symlink_to(secret)
    (folder / "cy").symlink_to(tmp_path)
    (folder / "ada" / "hw2.py").symlink_to(secret)
    (folder / "ada" / "more").symlink_to(tmp_path)
    ada, bob, cy = find_submissions(folder, "hw2")
    assert "is a link" in bob.problem
    assert "is a link" in cy.problem
    for path in (ada.path, folder / "bob.py"):
        with pytest.raises(Unreadable, match="it is a link"):
            read_submission(path)


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(UserError, match="is empty"):
        find_submissions(tmp_path, "hw2")
    with pytest.raises(UserError, match="is no folder"):
        find_submissions(tmp_path / "absent", "hw2")


def test_code_cells_are_read(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(notebook("x = 1", ["y = 2\n", "z = 3"]), "utf-8-sig")
    assert read_submission(path).texts == ["x = 1", "y = 2\nz = 3"]
    old = {"cell_type": "code", "input": ["x = 1"]}
    text = {"cell_type": "markdown", "source": "x"}
    path.write_text(json.dumps({"worksheets": [{"cells": [text, old]}]}))
    assert read_submission(path).texts == ["x = 1"]
    script = tmp_path / "a.PY"
    script.write_bytes(b"x = 1\r\ny = 2")
    content = read_submission(script)
    assert content.texts == ["x = 1\ny = 2"]
    assert not content.notebook


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no notebook"),
        (b"[]", "no notebook"),
        (b'{"cells": 3}', "no notebook"),
        (b'{"cells": [3]}', "no notebook"),
        (b'{"worksheets": [{}], "nbformat": 3}', "no notebook"),
        (b'{"cells": [{"cell_type": "code", "source": [1]}]}', "no notebook"),
        (b'{"cells": [{"cell_type": "code", "source": 1}]}', "no notebook"),
        (b"[" * 200_000, "no notebook"),
        (b'{"cells": []}', "holds no code"),
        (b"\xff\xfe", "no UTF-8"),
        (notebook(" ", "").encode(), "holds no code"),
        (notebook("#" * (3 << 20)).encode(), "more than 2 MB of code"),
        (b" " * (21 << 20), "has 21 MB, and at most 20"),
    ],
    ids=range(13),
)
def test_what_can_not_be_read_is_told(tmp_path, content, why):
    path = tmp_path / "a.ipynb"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=why):
        read_submission(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
def test_what_is_no_plain_file_does_not_block(tmp_path):
    pipe = tmp_path / "a.py"
    os.mkfifo(pipe)
    with pytest.raises(Unreadable, match="no plain file"):
        read_submission(pipe)
    with pytest.raises(Unreadable, match="can't be read"):
        read_submission(tmp_path / "absent.py")
    (tmp_path / "b.py").mkdir()
    with pytest.raises(Unreadable):
        submissions.digest(tmp_path / "b.py")
