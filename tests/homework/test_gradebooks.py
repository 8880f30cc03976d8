"""Grades in the tables of Canvas and Moodle, and nothing else changed."""

import unicodedata

import pytest

from minitransformer.errors import UserError
from minitransformer.homework.grading.folders import Row, harmless, write_csv
from minitransformer.homework.grading.gradebooks import (
    fill_canvas,
    fill_moodle,
    read_table,
)
from minitransformer.homework.grading.judging import Report, TaskResult

CANVAS = """\
Student,ID,SIS User ID,SIS Login ID,Section,hw1 (11),hw2 (12),Final Score
,,,,,Manual Posting,,
    Points Possible,,,,,20,{possible},(read only)
"Lovelace, Ada",101,s1,ada,A,5,,50
"=cmd()",102,s2,eve,A,,7,
"Müller, Bo-Anne",103,s3,bo,B,,,
"Student, Test",104,,x,B,,3,
"""
MOODLE = """\
Identifier,Full name,Email address,Status,Grade,Maximum Grade,\
Grade can be changed,Last modified (submission),Last modified (grade),\
Feedback comments
Participant 101,Ada Lovelace,a@x.org,Submitted,,{possible},Yes,-,-,
Participant 102,=cmd(),e@x.org,Submitted,4.00,{possible},Yes,-,-,old
Participant 1010,Bo Müller,b@x.org,Submitted,,{possible},Yes,-,-,
"""


def row(student, number, points, message="Correct."):
    tasks = [
        TaskResult("hw2.a", points, 20, points == 20, message),
        TaskResult("hw2.b", 0, 0, True, "Correct."),
    ]
    return Row(student, number, "hw2.py", Report("hw2", 0, tasks))


def lines(tmp_path, text, possible="20", encoding="utf-8-sig"):
    path = tmp_path / "table.csv"
    path.write_text(text.format(possible=possible), encoding)
    return read_table(path)


def test_canvas_gets_the_points_and_keeps_the_rest(tmp_path):
    before = lines(tmp_path, CANVAS)
    rows = [row("lovelaceada", "101", 13), row("x", "103", 20)]
    after, unknown = fill_canvas(lines(tmp_path, CANVAS), rows, "hw2")
    assert unknown == []
    assert [line[6] for line in after[3:]] == ["13", "7", "20", "3"]
    for old, new in zip(before, after, strict=True):
        assert old[:6] + old[7:] == new[:6] + new[7:]
    place = tmp_path / "out.csv"
    write_csv(place, after)
    assert read_table(place) == after


@pytest.mark.parametrize(
    "name",
    ["lovelaceada", "Ada Lovelace", "ada", "Lovelace, Ada", "ada_lovelace"],
)
def test_canvas_students_without_a_number_are_found_by_name(tmp_path, name):
    table = lines(tmp_path, CANVAS)
    if name == "ada_lovelace":
        name = "lovelace_ada"
    after, unknown = fill_canvas(table, [row(name, "", 9)], "hw2")
    assert unknown == []
    assert after[3][6] == "9"


def test_a_line_that_two_claim_is_left_as_it_was(tmp_path):
    rows = [row("ada", "101", 13), row("ada", "101", 0), row("bo", "103", 5)]
    after, unknown = fill_canvas(lines(tmp_path, CANVAS), rows, "hw2")
    assert [line[6] for line in after[3:]] == ["", "7", "5", "3"]
    assert unknown == ["ada", "ada"]


def test_an_accent_may_be_a_sign_of_its_own(tmp_path):
    name = unicodedata.normalize("NFD", "Bo-Anne Müller")
    after, unknown = fill_canvas(
        lines(tmp_path, CANVAS), [row(name, "", 9)], "hw2"
    )
    assert unknown == []
    assert after[5][6] == "9"


def test_canvas_points_are_scaled(tmp_path):
    table = lines(tmp_path, CANVAS, possible="100")
    after, _ = fill_canvas(table, [row("a", "101", 13)], "hw2")
    assert after[3][6] == "65.00"


def test_who_is_not_in_the_table_is_named(tmp_path):
    rows = [row("Nobody", "999", 1), row("Points Possible", "", 2)]
    after, unknown = fill_canvas(lines(tmp_path, CANVAS), rows, "hw2")
    assert unknown == ["Nobody", "Points Possible"]
    assert after == lines(tmp_path, CANVAS)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("hw2 (12)", "exam (12)", "has 0 columns for hw2"),
        ("hw1 (11)", "Homework 2 again", "has 2 columns for hw2"),
        (",ID,", ",Number,", "no column 'ID'"),
    ],
)
def test_a_gradebook_that_is_no_use_is_told(tmp_path, old, new, words):
    table = lines(tmp_path, CANVAS.replace(old, new))
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        fill_canvas(table, [], "hw2")


def test_moodle_gets_points_and_words(tmp_path):
    table = lines(tmp_path, MOODLE, possible="20.00")
    rows = [
        row("Ada Lovelace", "101", 13, "=<b>no</b> & more"),
        row("Bo Müller", "", 20),
    ]
    after, unknown = fill_moodle(table, rows)
    assert unknown == []
    assert [line[4] for line in after[1:]] == ["13", "4.00", "20"]
    assert after[1][9] == (
        "13 of 20 points. hw2.a: =&lt;b>no&lt;/b> &amp; more"
    )
    assert after[2][9] == "old"
    assert after[3][9] == "20 of 20 points."


def test_moodle_points_are_scaled_and_columns_needed(tmp_path):
    table = lines(tmp_path, MOODLE, possible='"10,00"')
    after, _ = fill_moodle(table, [row("x", "101", 13)])
    assert after[1][4] == "6.50"
    assert fill_moodle(table, [row("x", "10", 13)])[1] == ["x"]
    for title in ("Identifier", "Grade", "Last modified (grade)"):
        text = MOODLE.replace(f"{title},", "Andere,", 1)
        with pytest.raises(UserError, match="English"):
            fill_moodle(lines(tmp_path, text), [])


def test_a_table_that_can_not_be_read_is_told(tmp_path):
    path = tmp_path / "a.csv"
    for content in (b"\xff\xfe\x00", b"a,\xff"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="can't be read as a CSV"):
            read_table(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="is empty"):
        read_table(path)
    with pytest.raises(UserError, match="can't be read"):
        read_table(tmp_path / "absent.csv")


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\tx", "\rx"])
def test_no_cell_becomes_a_formula(cell):
    assert harmless(cell) == "'" + cell
    assert harmless("a" + cell) == "a" + cell
    assert harmless("") == ""
