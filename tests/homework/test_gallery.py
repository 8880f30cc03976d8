"""Every classic mistake is met by its test, which says what is wrong."""

import re
from collections import Counter

import pytest

from minitransformer.homework.tasks import ASSIGNMENTS, tasks_of
from tools import gallery, gallery_page
from tools.gallery_page import FAILED, LETTERS, mistake, mistakes

ENTRIES = gallery.mutants()
KEYS = {"task", "title", "old", "new", "fails", "says"}
# Tests that no mistake of the gallery fails, each with the reason.
TRAINED = (
    "each mistake would have to be trained, for a minute or more;"
    " test_hw5.py tries this test on translators that need no training"
)
IDLE = {
    ("hw5.translate", "one French sentence for each English one"): TRAINED,
    ("hw5.translate", "it beats a word-for-word dictionary"): TRAINED,
}


def test_the_bank_is_large_and_every_assignment_has_its_share():
    shares = Counter(entry["task"].partition(".")[0] for entry in ENTRIES)
    assert sum(shares.values()) >= 40
    assert set(shares) == set(ASSIGNMENTS)
    assert min(shares.values()) >= 10


def test_no_mistake_is_there_twice():
    titles = [(entry["task"], entry["title"]) for entry in ENTRIES]
    assert len(set(titles)) == len(titles)
    sources = [(entry["task"], gallery.source_of(entry)) for entry in ENTRIES]
    assert len(set(sources)) == len(sources)


@pytest.mark.parametrize(
    "number",
    range(len(ENTRIES)),
    ids=[f"{entry['task']}: {entry['title']}" for entry in ENTRIES],
)
def test_a_mistake_is_met_by_its_test_and_told(number):
    entry, found = ENTRIES[number], mistake(number)
    assert set(entry) == KEYS
    assert (found.task.name, found.title) == (entry["task"], entry["title"])
    assert found.failed, "no test fails"
    test, words = found.first
    assert test.title == entry["fails"]
    assert entry["says"] in words
    assert len(entry["says"]) >= 6
    verdict = found.task.verdict(gallery.answer_of(entry))
    assert verdict.message == f"Not yet: {words} See {test.see}."


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_every_test_meets_a_mistake(assignment):
    idle = {
        (task.name, test.title)
        for task in tasks_of(assignment)
        if task.points
        for test in task.tests
        if not any(
            test in each.failed
            for each in mistakes()
            if each.task.name == task.name
        )
    }
    excused = {key for key in IDLE if key[0].startswith(assignment)}
    assert idle == excused
    assert all(len(IDLE[key]) > 20 for key in excused)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_every_task_with_points_has_two_mistakes(assignment):
    counts = Counter(each.task.name for each in mistakes())
    for task in tasks_of(assignment):
        unmet = all((task.name, test.title) in IDLE for test in task.tests)
        assert counts[task.name] >= 2 or not task.points or unmet


def test_a_text_that_is_not_there_once_is_told():
    entry = ENTRIES[0]
    for old in ("no such line", "def "):
        with pytest.raises(ValueError, match="not once"):
            gallery.source_of(entry | {"old": old})


def test_a_stub_is_no_mistake():
    entry, found = ENTRIES[0], mistake(0)
    text = gallery.answers_of(entry)
    stub = entry | {"old": text, "new": f"{found.task.wanted} = ...\n"}
    with pytest.raises(ValueError, match="no mistake but a stub"):
        gallery_page.judged(found.task, stub)


# The training run ---


def test_the_right_model_learns_the_batch_and_a_broken_one_does_not():
    right = (gallery.ANSWERS / "hw4.py").read_text("utf-8")
    assert gallery.steps_to_learn(right) < gallery.STEPS / 4
    frozen = right + "\nmean = loss\nloss = lambda x, y: mean(0 * x, y)"
    failing = right + "\nloss = lambda x, y: x @ y"
    spoilt = right + "\nmean = loss\nloss = lambda x, y: mean(x, y) * math.nan"
    for wrong in (frozen, failing, spoilt):
        assert gallery.steps_to_learn(wrong) == gallery.STEPS


def test_whether_a_model_learns_is_clear():
    found = [each.steps for each in mistakes() if each.steps is not None]
    assert len(found) >= 30
    for steps in found:
        assert steps == gallery.STEPS or steps < 0.7 * gallery.STEPS


# The page ---

PAGE = (gallery_page.BOOK / "gallery.md").read_text("utf-8")


def test_the_page_says_what_is_computed():
    # Split, so that a failure shows the first line that differs.
    made, kept = (text.split("\n") for text in (gallery_page.render(), PAGE))
    for line, old in zip(made, kept, strict=False):
        assert line == old, "run tools/gallery_page.py"
    assert len(made) == len(kept)


def test_the_page_shows_every_mistake_once_and_its_answer_folded():
    walls = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
    hung = 0
    for wall in walls:
        asked, folded = wall.split("<details>")
        name = asked.partition(":")[0]
        assert f"<summary>Answers: {name}</summary>" in folded
        pictures = re.findall(r"^\*\*(\d+)\.\*\* .+$", asked, re.MULTILINE)
        diffs = re.findall(r"^```diff\n(.*?)^```", asked, re.M | re.S)
        rows = re.findall(r"^\| (\d+) \| (.*) \|$", folded, re.MULTILINE)
        told = re.findall(r"^(\d+)\. \*\*([A-Z])\.\*\* ", folded, re.M)
        count = len(pictures)
        hung += count
        assert pictures == [str(i + 1) for i in range(count)]
        assert [number for number, _ in rows] == pictures
        assert [number for number, _ in told] == pictures
        assert len(diffs) == count
        for diff, (_, row), (_, letter) in zip(diffs, rows, told, strict=True):
            assert re.search(r"^[-+] ", diff, re.MULTILINE)
            cells = row.split(" | ")
            assert LETTERS[cells.index(FAILED)] == letter
            assert len(cells) <= 12  # as wide as a phone shows
    assert hung == len(ENTRIES)


def test_the_lessons_are_counted():
    lone = sum(len(each.failed) == 1 for each in mistakes())
    silent = sum(
        not any("your code raises" in words for words in each.words)
        for each in mistakes()
    )
    assert f"**{lone} of {len(ENTRIES)} fail one test only.**" in PAGE
    assert f"**{silent} of {len(ENTRIES)} raise no error.**" in PAGE


def test_markdown_in_a_message_stays_text():
    assert gallery_page.escaped("d_k * 2 <$>") == r"d\_k \* 2 \<\$\>"
    assert gallery_page.listed(["A", "B", "C"]) == "A, B and C"
    assert gallery_page.listed(["A"]) == "A"
    assert gallery_page.sentence("no mask") == "No mask."
