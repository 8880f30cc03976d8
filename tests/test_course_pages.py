"""The pages around the homework: their code runs, their numbers are counted.

Commands are parsed by the command line itself, and links lead somewhere.
"""

import re
import shlex
from contextlib import redirect_stdout
from functools import cache
from io import StringIO

import jupytext
import nbformat
import pytest
import typer

from minitransformer.cli import app
from minitransformer.homework import tasks
from minitransformer.homework.grading.sandbox import (
    LAYERS,
    MAX_PRINTED,
    limits_for,
)
from minitransformer.homework.grading.submissions import MAX_FILE
from minitransformer.homework.tasks import ASSIGNMENTS
from tools import homework, nb
from tools.gallery_page import slug

NAMES = [
    "learners.md",
    "instructors.md",
    "ready.md",
    "gallery.md",
    "homework/index.md",
]
PAGES = {name: (nb.BOOK / name).read_text("utf-8") for name in NAMES}
TEXT = PAGES["instructors.md"]
SANDBOX = "## What the sandbox does and does not protect from"
MASTERS = {path.stem: path for path in homework.masters()}
BLOCK = re.compile(
    r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.M | re.S
)
COMMAND = re.compile(r"^(?:\$ )?minitransformer((?: .*)?)$", re.MULTILINE)
INLINE = re.compile(r"`minitransformer (\w[^`]*)`")
every_page = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def _own_tasks(monkeypatch):
    """Let a page make tasks, and forget them afterwards."""
    for assignment in ASSIGNMENTS:
        tasks.tasks_of(assignment)
    monkeypatch.setattr(tasks, "_TASKS", dict(tasks._TASKS))


@every_page
@pytest.mark.usefixtures("_own_tasks")
def test_the_code_runs_and_prints_what_the_page_shows(name):
    names = {"__name__": "page"}  # one for all blocks, as in a notebook
    for code, shown in BLOCK.findall(PAGES[name]):
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(code, name, "exec"), names)
        if shown:
            assert printed.getvalue() == shown


@every_page
def test_every_block_says_its_language(name):
    fences = re.findall(r"^```(.*)$", PAGES[name], re.MULTILINE)
    assert set(fences[::2]) <= {"python", "text", "sh", "diff"}
    assert set(fences[1::2]) <= {""}


def commands():
    """List the command lines of all pages, without those continued."""
    for name, text in PAGES.items():
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
        joined = "\n".join(blocks).replace("\\\n", " ")
        for line in COMMAND.findall(joined) + INLINE.findall(text):
            yield pytest.param(line.strip(), id=f"{name}: {line.strip()}")


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_exists_with_its_options(line):
    group = typer.main.get_command(app)
    first, *words = shlex.split(line, comments=True)
    command = group.commands[first]
    known = {
        option
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-")
    }
    given = {word.split("=")[0] for word in words if word.startswith("-")}
    assert given <= known | {"--help", "-h"}
    if "--help" in given or not words:
        return
    command.make_context(first, words)  # parses, and runs nothing


def test_an_option_in_a_sentence_exists():
    commands = typer.main.get_command(app).commands
    known = {
        option
        for name in ("check", "grade")
        for parameter in commands[name].params
        for option in parameter.opts
    }
    said = set(re.findall(r"`(--[\w-]+)[ `]", "\n".join(PAGES.values())))
    assert "--per-student" in said <= known


@pytest.mark.parametrize("name", ["learners.md", "instructors.md"])
def test_commands_are_shown_in_blocks_of_their_own(name):
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGES[name], re.M | re.S)
    assert COMMAND.findall("\n".join(blocks))


# Links ---


@cache
def anchors(path):
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return {slug(title) for title in re.findall(r"^#{1,3} (.+)$", text, re.M)}


@every_page
def test_links_lead_somewhere(name):
    here = nb.BOOK / name
    links = re.findall(r"(?<!!)\]\(([^)\s]+)\)", PAGES[name])
    assert links
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (here.parent / path).resolve() if path else here
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


# Numbers ---


@cache
def minutes_of(chapter):
    """Return what a chapter's notebook says: to read, and exercises."""
    path = next(nb.NOTEBOOKS.glob(f"{chapter:02}_*.ipynb"))
    first = nbformat.read(path, as_version=4).cells[0].source
    found = re.search(r"about (\d+) minutes. Exercises: (\d+)", first)
    return int(found[1]), int(found[2])


@cache
def asked(name):
    return nb.tasks(jupytext.read(MASTERS[name]))


def rows(name, heading):
    """Return the cells of the first table below a heading."""
    text = f"\n{PAGES[name]}".split(f"\n{heading}\n")[1]
    (found,) = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)[:1]
    lines = [line.strip("|").split("|") for line in found.splitlines()]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def needed(name):
    """Return the chapters that an assignment says it needs."""
    text = MASTERS[name].read_text("utf-8")
    (line,) = re.findall(r"^You need .*$", text, re.MULTILINE)
    return sorted({int(n) for n in re.findall(r"notebooks/(\d\d)_", line)})


def counted(name):
    """Return tasks, points and minutes of an assignment as cells."""
    worth = [minutes for _, points, minutes in asked(name) if points]
    stretch = [minutes for _, points, minutes in asked(name) if not points]
    return [
        f"{len(worth)} + {len(stretch)}",
        str(sum(points for _, points, _ in asked(name))),
        f"{sum(worth)} + {sum(stretch)}",
        ", ".join(map(str, needed(name))),
    ]


def test_the_table_of_assignments_is_counted():
    found = rows("homework/index.md", "# Homework")
    assert len(found) == len(ASSIGNMENTS)
    for name, (title, *cells) in zip(ASSIGNMENTS, found, strict=True):
        heading = re.findall(
            r"^# Homework (\d): (.+)$", MASTERS[name].read_text("utf-8"), re.M
        )
        number, words = heading[0]
        path = f"../../notebooks/homework/{name}.ipynb"
        assert title == f"{number} [{words}]({path})"
        assert cells == counted(name)


@pytest.mark.parametrize(
    ("heading", "in_all"), [("### Three hours", 180), ("### One day", 360)]
)
def test_a_short_course_fills_its_time(heading, in_all):
    found = rows("instructors.md", heading)
    assert sum(int(minutes) for minutes, _ in found) == in_all
    written = 0
    for minutes, what in found:
        names = re.findall(r"hw\d\.\w+", what)
        if names:
            known = {n: t for hw in ASSIGNMENTS for n, _, t in asked(hw)}
            assert int(minutes) == sum(known[name] for name in names)
            written += 1
    assert written >= 2


def test_the_weeks_are_counted():
    found = rows("instructors.md", "### Eight weeks")
    assert [week for week, *_ in found] == list("12345678")
    chapters, handed_in = [], []
    for _, given, read, exercises, homework_, in_all in found:
        numbers = [int(number) for number in given.split(",")]
        reading = sum(minutes_of(n)[0] for n in numbers)
        practice = sum(minutes_of(n)[1] for n in numbers)
        assert (read, exercises) == (str(reading), str(practice))
        writing = sum(
            minutes
            for _, points, minutes in (asked(homework_) if homework_ else ())
            if points
        )
        assert in_all == str(reading + practice + writing)
        chapters += numbers
        if homework_:
            handed_in.append(homework_)
            assert set(needed(homework_)) <= set(chapters)
    assert chapters == list(range(1, 13))
    assert handed_in == list(ASSIGNMENTS)


def test_the_rubric_adds_up():
    points = [
        int(number) for _, number in rows("instructors.md", "## A rubric")
    ]
    assert sum(points) == 200
    assert points[0] == sum(
        points for name in ASSIGNMENTS for _, points, _ in asked(name)
    )


def test_the_options_say_their_defaults():
    said = {
        option: tuple(map(int, re.findall(r"\d+(?= unless| for hw5)", text)))
        for option, text in re.findall(
            r"^\| `(--\w+) \d+` \| (.*) \|$", TEXT, re.MULTILINE
        )
    }
    usual, slow = limits_for("hw1"), limits_for("hw5")
    assert said["--timeout"] == (usual.seconds, slow.seconds)
    assert said["--memory"] == (usual.memory,)
    assert {limits_for(name).seconds for name in ASSIGNMENTS[:4]} == {300}


def test_the_walls_are_those_of_the_sandbox():
    found = rows("instructors.md", SANDBOX)
    assert {wall for wall, _ in found} == set(LAYERS)
    assert f"after {MAX_PRINTED >> 20} MB of printing" in TEXT
    assert f"files above {MAX_FILE >> 20} MB" in TEXT


def test_an_oral_question_for_each_assignment():
    block = TEXT.split("| on | ask |")[1].split("\n\n")[0]
    asked_of = re.findall(r"^\| (hw\d) \|", block, re.MULTILINE)
    assert set(asked_of) == set(ASSIGNMENTS)
