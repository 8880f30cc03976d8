"""Write book/gallery.md: each classic mistake, and the tests that see it.

python tools/gallery_page.py
"""

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from minitransformer.homework.checking import Unanswered
from minitransformer.homework.tasks import ASSIGNMENTS, Task, Test, find_task
from tools import gallery
from tools.pages import BOOK, table, write

FAILED, PASSED = "✗", "·"
RAISES = "your code raises"
UNTRAINED = {"hw4.load", "hw4.step"}  # training does without these
CONTEXT = 1  # lines shown around a change


@dataclass(frozen=True)
class Mistake:
    """A wrong answer and what each test of its task says of it.

    Attributes:
        task: What it is an answer to.
        title: What is wrong, in a few words.
        change: The lines that differ, with ``-`` and ``+`` in front.
        words: What each test says; ``""`` where it passes.
        steps: In how many steps a small model with it learns one batch by
            heart; ``None`` if the task is no part of a model in training.
    """

    task: Task
    title: str
    change: str
    words: tuple[str, ...]
    steps: int | None

    @property
    def failed(self) -> tuple[Test, ...]:
        """The tests it fails, in order."""
        pairs = zip(self.task.tests, self.words, strict=True)
        return tuple(test for test, words in pairs if words)

    @property
    def first(self) -> tuple[Test, str]:
        """The test that a learner hears of, and its words."""
        return self.failed[0], next(words for words in self.words if words)

    @property
    def learns(self) -> bool:
        """Whether a model with it learns its batch by heart."""
        return self.steps is not None and self.steps < gallery.STEPS

    @property
    def raises(self) -> bool:
        """Whether torch or Python stops it with an error, in any test."""
        return any(RAISES in words for words in self.words)


def mistakes() -> tuple[Mistake, ...]:
    """Judge every mistake of the gallery by every test of its task."""
    return tuple(mistake(i) for i in range(len(gallery.mutants())))


@cache
def mistake(number: int) -> Mistake:
    """Judge one mistake of the gallery, counted from 0."""
    entry = gallery.mutants()[number]
    task = find_task(entry["task"])
    steps = None
    if task.name.startswith("hw4.") and task.name not in UNTRAINED:
        steps = gallery.steps_to_learn(gallery.source_of(entry))
    words = judged(task, entry)
    return Mistake(task, entry["title"], change(entry), words, steps)


def judged(task: Task, entry: dict[str, str]) -> tuple[str, ...]:
    """Return what each test of a task says of a mistake."""
    words: list[str] = []
    try:
        for _, said in task.findings(gallery.answer_of(entry)):
            words.append(said)
    except Unanswered as error:
        raise ValueError(
            f"{task.name}, {entry['title']!r}, gives nothing: it is no"
            " mistake but a stub."
        ) from error
    return tuple(words)


def change(entry: dict[str, str]) -> str:
    """Show what a mistake changes, with little around it."""
    right = gallery.answers_of(entry).split("\n")
    wrong = gallery.source_of(entry).split("\n")
    lines = list(difflib.unified_diff(right, wrong, lineterm="", n=CONTEXT))
    shown = [
        line
        for line in lines[2:]
        if not line.startswith("@@") and line.strip() not in ("", '"""')
    ]
    bodies = dedent("\n".join(line[1:] for line in shown)).split("\n")
    return "\n".join(
        f"{line[0]} {body}".rstrip()
        for line, body in zip(shown, bodies, strict=True)
    )


# The page ---

PAGE = """\
# The gallery of wrong Transformers

Here hang {count} parts of a Transformer, and each is wrong. Each is a small
change of a right answer to the [homework](homework/index.md), of a kind that
is easily made. The checks of the homework are tried on all of them whenever
anything changes: a check that lets one pass is no check.

## How to visit

Below each task stand its tests, with letters, and mistakes, with numbers. A
minus is the right line, a plus what stands there instead. Before you unfold
the answers, say for each mistake:

1. Does Python or torch stop it with an error, or does it run to the end?
2. Which tests does it fail, and which of these comes first? A learner is told
   of the first only.
3. Which mistakes would pass if one test were missing?

Do the homework first: the lines with a minus are solutions.

The answers are computed. Each mistake is put into the right answer, run, and
judged by every test of its task, with seed 0. In the tables, {failed} is a
test that it fails, and {passed} one that it passes. Below stands the verdict
that a learner gets, word for word, with a link to the section that explains.

## What the gallery shows

{lessons}

{rooms}"""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def render() -> str:
    """Return the page."""
    rooms = [room(name) for name in ASSIGNMENTS]
    return PAGE.format(
        count=len(mistakes()),
        failed=FAILED,
        passed=PASSED,
        lessons=lessons(),
        rooms="\n".join(part for part in rooms if part),
    )


def lessons() -> str:
    """Say what can be counted."""
    every = mistakes()
    silent = [each for each in every if not each.raises]
    lone = [each for each in every if len(each.failed) == 1]
    guards: dict[tuple[str, str], int] = {}
    for each in lone:
        key = each.task.name, each.first[0].title
        guards[key] = guards.get(key, 0) + 1
    lines = [
        f"- **{len(silent)} of {len(every)} raise no error.** They run to the"
        " end and give numbers. Of these, no error message will ever tell.",
        f"- **{len(lone)} of {len(every)} fail one test only.** Without that"
        " test they would pass, and nothing else in the homework would tell."
        " The tests that stand alone most often:",
    ]
    often = sorted(guards.items(), key=lambda item: (-item[1], item[0]))
    lines += [
        f"  - {escaped(title)} (`{name}`): {times} mistakes"
        for (name, title), times in often[:5]
        if times > 1
    ]
    trained = [each for each in every if each.steps is not None]
    learned = [each for each in trained if each.learns]
    if trained:
        lines.append(
            f"- **{len(learned)} of {len(trained)} would not show in a loss"
            " curve.** Homework 4 holds a whole model, so its mistakes can be"
            " trained (but for those of `load` and `step`): a small model, one"
            f" batch of eight pairs. With these {len(learned)} the loss falls"
            f" below {gallery.LEARNED} within {gallery.STEPS} steps, as it"
            " does with the right answers. Whoever looks at the curve alone"
            " goes on to the big run. They have a tick in the last column of"
            " their table."
        )
    return "\n".join(lines)


def room(assignment: str) -> str:
    """Show the mistakes of an assignment; nothing, if it has none."""
    shown = [
        wall(name, title)
        for name, title in titles(assignment)
        if of_task(name)
    ]
    if not shown:
        return ""
    text = master(assignment).read_text("utf-8")
    title = re.findall(r"^# (.+)$", text, re.MULTILINE)[0]
    return "\n".join([f"## {title}\n", *shown])


def wall(name: str, title: str) -> str:
    """Show the tests of a task, its mistakes and, folded, the answers."""
    task, hung = find_task(name), of_task(name)
    tests = [
        f"- **{letter}.** {sentence(test.title)}"
        for letter, test in zip(LETTERS, task.tests, strict=False)
    ]
    pictures = [
        f"**{number}.** {sentence(each.title)}\n\n"
        f"```diff\n{each.change}\n```\n"
        for number, each in enumerate(hung, 1)
    ]
    return "\n".join(
        [
            f"### {name}: {title}\n",
            *tests,
            "",
            *pictures,
            answers(task, hung),
        ]
    )


def answers(task: Task, hung: Sequence[Mistake]) -> str:
    """Fold the matrix and the verdicts of a task."""
    letters = LETTERS[: len(task.tests)]
    rows = [
        [str(number), *(FAILED if words else PASSED for words in each.words)]
        for number, each in enumerate(hung, 1)
    ]
    head = ["", *letters]
    if any(each.steps is not None for each in hung):
        head.append("loss")
        for row, each in zip(rows, hung, strict=True):
            row.append("✓" if each.learns else "")
    told = [
        f"{number}. **{LETTERS[task.tests.index(each.first[0])]}.** Not yet:"
        f" {escaped(each.first[1])} See {place(each.first[0])}."
        for number, each in enumerate(hung, 1)
    ]
    idle = [
        letter
        for letter, test in zip(letters, task.tests, strict=True)
        if not any(test in each.failed for each in hung)
    ]
    parts = [
        "<details>",
        f"<summary>Answers: {task.name}</summary>\n",
        table(head, rows),
        "",
        *told,
        "",
    ]
    if idle:
        parts.append(f"None of these fails {listed(idle)}.\n")
    return "\n".join([*parts, "</details>\n"])


def master(assignment: str) -> Path:
    """Return the text of an assignment."""
    return BOOK / "homework" / f"{assignment}.md"


def titles(assignment: str) -> Iterator[tuple[str, str]]:
    """Yield name and title of each task of an assignment, in order."""
    if master(assignment).exists():
        text = master(assignment).read_text("utf-8")
        yield from re.findall(
            r"^> \*\*Task (hw\d\.\w+)\. (.+?)\.?\*\*", text, re.MULTILINE
        )


def of_task(name: str) -> list[Mistake]:
    """Return the mistakes of a task."""
    return [each for each in mistakes() if each.task.name == name]


def place(test: Test) -> str:
    """Link to where the book explains a test."""
    (source,) = BOOK.glob(f"{test.see.chapter:02}_*.md")
    path = f"../notebooks/{source.stem}.ipynb"
    heading = test.see.section
    if not re.search(r"['’`$*]", heading):  # whose anchors are not so plain
        path += f"#{slug(heading)}"
    return f"[chapter {test.see.chapter}, “{escaped(heading)}”]({path})"


def slug(title: str) -> str:
    """Return the anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def sentence(text: str) -> str:
    """Begin with a capital and end with a full stop."""
    text = escaped(text)
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def escaped(text: str) -> str:
    """Keep what is code or arithmetic from being read as Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#$|~^])", r"\\\1", text)


def listed(words: Sequence[str]) -> str:
    """Join words: A, B and C."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


if __name__ == "__main__":
    write(BOOK / "gallery.md", render(), BOOK / "_static", {})
