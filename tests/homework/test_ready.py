"""The ten questions before chapter 1: page and computed key agree."""

import re
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch
from judging import fails, passes

from minitransformer.errors import UserError
from minitransformer.homework import check
from minitransformer.homework.ready import QUESTIONS
from tools import nb

PAGE = (nb.BOOK / "ready.md").read_text("utf-8")
PARTS = re.split(r"^\*\*\d+\.\*\* ", PAGE, flags=re.MULTILINE)[1:]
KEY = [asked.letter for asked in QUESTIONS]
numbered = pytest.mark.parametrize("number", range(1, 11))


def plain(text):
    return " ".join(text.replace("`", "").split())


@numbered
def test_the_page_has_the_options_and_the_letter(number):
    text, asked = PARTS[number - 1], QUESTIONS[number - 1]
    found = re.findall(r"^- ([A-D])\. (.+)$", text, re.MULTILINE)
    assert [letter for letter, _ in found] == list("ABCD")
    assert [plain(option) for _, option in found] == list(asked.options)
    assert len(set(asked.options)) == 4
    (answer,) = re.findall(
        rf"<summary>Answer {number}</summary>\n\n\*\*([A-D])\.\*\* ", text
    )
    assert answer == asked.letter


@numbered
def test_a_code_block_prints_the_right_option(number):
    text, asked = PARTS[number - 1], QUESTIONS[number - 1]
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    assert bool(blocks) == text.startswith("What is printed?")
    for block in blocks:
        shown = StringIO()
        with redirect_stdout(shown):
            exec(block, {})
        assert shown.getvalue().strip() == asked.right()


@numbered
def test_a_route_leads_to_where_the_page_does(number):
    text, asked = PARTS[number - 1], QUESTIONS[number - 1]
    route = text.split("To read:")[1]
    if place := re.match(r'chapter (\d+), "(.+)"', asked.route):
        (source,) = nb.BOOK.glob(f"{int(place[1]):02}_*.md")
        headings = re.findall(
            r"^###? (.+)$", source.read_text("utf-8"), re.MULTILINE
        )
        assert place[2] in headings
        slug = re.sub(r"[^\w\- ]", "", place[2].lower()).replace(" ", "-")
        assert f"{source.stem}.ipynb#{slug}" in route
    else:
        assert "https://docs.p" in route


def test_the_letters_are_mixed():
    assert all(KEY.count(letter) in (1, 2, 3, 4) for letter in "ABCD")


@pytest.mark.parametrize("answers", [KEY, "".join(KEY).lower(), tuple(KEY)])
def test_all_ten_right(answers):
    assert passes("ready", answers)


def test_the_key_hangs_on_no_seed():
    for seed in range(5):
        torch.manual_seed(seed)
        assert [asked.letter for asked in QUESTIONS] == KEY


@pytest.mark.parametrize("stub", [..., None, [...] * 10, (*KEY[:9], ...)])
def test_a_stub_waits(stub):
    assert "waits for your answer" in check("ready", stub).message


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (1, "9 of ten are right: enough to begin"),
        (2, "8 of ten are right: enough to begin"),
        (3, "7 of ten are right: give a day or two"),
        (5, "5 of ten are right: give a day or two"),
        (6, "4 of ten are right: take a first course"),
    ],
)
def test_what_to_read_is_named(wrong, advice):
    answers = ["E"] * wrong + KEY[wrong:]
    assert fails("ready", answers, advice)
    message = check("ready", answers).message
    for number, asked in enumerate(QUESTIONS, 1):
        listed = f"{number}, {asked.topic}: {asked.route}" in message
        assert listed == (number <= wrong)


@pytest.mark.parametrize(
    ("answers", "words"),
    [("A", "there is 1."), (3, "there is 1."), (["A"] * 9, "there are 9.")],
)
def test_another_number_of_letters_is_told(answers, words):
    assert fails("ready", answers, words)


def test_an_unknown_name_is_told_with_these_loaded():
    with pytest.raises(UserError, match="no exercise 'nope'"):
        check("nope", KEY)
