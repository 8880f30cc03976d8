"""A class is graded: a row for everyone, whatever they handed in."""

import csv
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
import small

from minitransformer.cli import run
from minitransformer.errors import UserError
from minitransformer.homework import tasks
from minitransformer.homework.grading import (
    classes,
    feedback,
    folders,
    judges,
)
from minitransformer.homework.grading.classes import grade_class
from minitransformer.homework.grading.folders import Plan, Row
from minitransformer.homework.grading.judges import Worker
from minitransformer.homework.grading.judging import Report, TaskResult
from minitransformer.homework.grading.remote import Session
from minitransformer.homework.grading.sandbox import LAYERS, Limits

HERE = Path(__file__).parent
LIMITS = Limits(seconds=20, memory=1024)
NINE = Plan("hw9", limits=LIMITS)
MORE = "sys.path.append({!r}); import small; small.register()\n"
PROGRAM = judges.PROGRAM.replace(
    "from mini", MORE.format(str(HERE)) + "from mini"
)


@pytest.fixture(autouse=True)
def _small_assignment(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(tasks, "_TASKS", {})
    monkeypatch.setitem(sys.modules, "minitransformer.homework.hw9", sys)
    small.register()
    folder = tmp_path_factory.mktemp("solutions")
    (folder / "hw9.py").write_text(small.SOLUTION)
    monkeypatch.setattr(folders, "SOLUTIONS", folder)
    monkeypatch.setattr(judges, "PROGRAM", PROGRAM)


def report_of(points, seed=0, reason="", message="Correct."):
    worth = {"hw9.double": 3, "hw9.Scale": 2, "hw9.apply": 0}
    found = [
        TaskResult(name, most * points, most, points == 1, message)
        for name, most in worth.items()
    ]
    layers = dict.fromkeys(LAYERS, "")
    return Report("hw9", seed, found, reason=reason, layers=layers)


@pytest.fixture(scope="module")
def limited():
    """Skip where the machine could be stopped: there, nobody is judged."""
    if sys.platform == "linux":
        with Session(LIMITS) as session:
            if why := session.layers["limits"]:
                pytest.skip(f"no limits: {why}")


class Fake(Worker):
    """Gives full points to every file but those that say "wrong"."""

    judged: list[str] = []  # noqa: RUF012
    layers: dict[str, str] = {}  # noqa: RUF012

    def judge(self, path, assignment, seed, required):
        if path.parent != folders.SOLUTIONS:
            self.judged.append(path.name)
        report = report_of("wrong" not in path.read_text(), seed)
        report.layers.update(self.layers)
        return report


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(folders, "Worker", Fake)
    monkeypatch.setattr(Fake, "judged", [])
    monkeypatch.setattr(Fake, "layers", {})
    return Fake


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "handed in"
    place.mkdir()
    for name in ("ada", "bo", "cy"):
        (place / f"{name}.py").write_text(f"# {name}")
    return place


def grades(path):
    with path.open(encoding="utf-8", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


# With real processes ---


@pytest.mark.filterwarnings("ignore::UserWarning")  # walls may be missing
def test_everyone_gets_a_row_whatever_they_handed_in(tmp_path, limited):
    folder, out = tmp_path / "in", tmp_path / "out" / "grades.csv"
    ada = folder / "Ada Lovelace_101_assignsubmission_file_"
    ada.mkdir(parents=True)
    (ada / "mine.py").write_text(small.SOLUTION)
    (folder / "=evil_102_9_hw9.py").write_text("import os; os._exit(0)")
    (folder / "flood.py").write_text("while True: print('x' * 10_000)")
    (folder / "half.py").write_text(
        small.SOLUTION.replace("2 * x", "x") + "raise ValueError('<b>|*_')"
    )
    (folder / "bad.ipynb").write_text("{")
    (folder / "hw9.zip").touch()
    canvas, moodle = tmp_path / "canvas.csv", tmp_path / "moodle.csv"
    canvas.write_text(
        "Student,ID,hw9 (1)\nPoints Possible,,5\n,102,\n,101,\n,7,1\n"
    )
    moodle.write_text(
        "Identifier,Grade,Last modified (grade)\nParticipant 101,,-\n"
    )
    pages = tmp_path / "pages"
    plan = Plan("hw9", 3, True, LIMITS)
    told = list(grade_class(folder, plan, out, pages, False, canvas, moodle))
    found = grades(out)
    reasons = {name: row["reason"] for name, row in found.items()}
    last = len((folder / "half.py").read_text().splitlines())
    assert reasons == {
        "'=evil": "it ended itself (exit code 0)",
        "Ada Lovelace": "",
        "bad": "the file is no notebook",
        "flood": "it printed more than 10 MB",
        "half": f"line {last}: ValueError: <b>|*_",
        "hw9": "hw9.zip is neither .ipynb nor .py",
    }
    points = {name: row["points"] for name, row in found.items()}
    assert points.pop("Ada Lovelace") == "5"
    assert points.pop("half") == "2"
    assert {*points.values()} == {"0"}
    assert found["half"]["hw9.double"] == "0"
    assert found["half"]["hw9.Scale"] == "2"
    assert found["half"]["hw9.apply"] == "1"
    assert found["Ada Lovelace"]["id"] == "101"
    assert len({row["seed"] for row in found.values()}) == 6
    assert len(list(pages.iterdir())) == 6
    text = (pages / "half.md").read_text()
    assert "hw9.double: not yet (0 of 3)" in text
    assert "that is x itself." in text
    assert r"ValueError: &lt;b\>\|\*\_" in text
    assert f"seed={plan.seed_for('half')})" in text
    filled = (tmp_path / "out" / "grades-canvas.csv").read_text()
    assert filled.splitlines()[2:] == [",102,0", ",101,5", ",7,1"]
    filled = (tmp_path / "out" / "grades-moodle.csv").read_text()
    assert filled.splitlines()[1] == "Participant 101,5,-"
    assert "6 submissions" in told[0]
    assert "bad, flood, half, hw9" in told[-2] + told[-1]


def test_nobody_is_judged_unless_the_reference_is_right(folder, tmp_path):
    wrong = small.SOLUTION.replace("2 * x", "3 * x")
    (folders.SOLUTIONS / "hw9.py").write_text(wrong)
    out = tmp_path / "grades.csv"
    with pytest.raises(UserError, match="scores 2 of 5 points here, so nobo"):
        list(grade_class(folder, NINE, out))
    assert not out.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it warns")
def test_nobody_is_judged_where_nothing_is_limited(fake, folder, tmp_path):
    fake.layers = {"limits": "nothing counts the processes of root"}
    with pytest.raises(UserError, match="could stop this machine"):
        list(grade_class(folder, NINE, tmp_path / "grades.csv"))
    assert fake.judged == []


def test_a_judge_that_dies_or_hangs_costs_one_row(monkeypatch, tmp_path):
    path = tmp_path / "a.py"
    for program in ("import os; os._exit(1)", "import time; time.sleep(60)"):
        monkeypatch.setattr(judges, "PROGRAM", program)
        worker = Worker(LIMITS, patience=1.0)
        report = worker.judge(path, "hw9", 0, [])
        assert report.reason == "judging it took too long or too much memory"
        assert report.points == 0
        assert len(report.tasks) == 3
        worker.close()


RUN = """
import sys
sys.path.append({here!r})
from pathlib import Path
import small
small.register()
from minitransformer.homework.grading import folders, judges
from minitransformer.homework.grading.classes import grade_class
from minitransformer.homework.grading.sandbox import Limits
folders.SOLUTIONS = Path({solutions!r})
judges.PROGRAM = {program!r}
plan = folders.Plan("hw9", limits=Limits(seconds=20, memory=1024))
list(grade_class(Path({folder!r}), plan, Path({out!r})))
"""


@pytest.fixture
def boxes():
    """Give a folder for sandboxes that other users can enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are listed")
def test_a_run_that_was_killed_goes_on(folder, tmp_path, fake, limited, boxes):
    out = tmp_path / "grades.csv"
    (folder / "ada.py").write_text(small.SOLUTION)
    mark = f"mark{os.getpid()}"
    (folder / "bo.py").write_text(f"{mark} = 1\nwhile True: pass")
    program = RUN.format(
        here=str(HERE),
        solutions=str(folders.SOLUTIONS),
        program=PROGRAM,
        folder=str(folder),
        out=str(out),
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"TMPDIR": str(boxes)},
    )
    kept = tmp_path / "grades.csv.results"
    deadline = time.monotonic() + 90
    while not (kept.exists() and kept.read_text().strip()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = descendants(process.pid)
    assert len(children) >= 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 5
    while alive := [child for child in children if runs(child)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)
    with kept.open("a") as file:
        file.write('{"key": "torn')
    (folder / "bo.py").write_text("# wrong")
    list(grade_class(folder, NINE, out, resume=True))
    assert fake.judged == ["bo.py", "cy.py"]
    points = {name: row["points"] for name, row in grades(out).items()}
    assert points == {"ada": "5", "bo": "0", "cy": "5"}


def runs(process):
    try:
        about = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return about.rpartition(")")[2].split()[0] != "Z"


def descendants(process):
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            about = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(about[1])
    found = {process}
    while more := {p for p, q in parents.items() if q in found} - found:
        found |= more
    return found - {process}


# Without ---


def test_results_are_kept_by_all_they_depend_on(fake, folder, tmp_path):
    out = tmp_path / "grades.csv"
    kept = tmp_path / "grades.csv.results"

    def judged(plan=NINE, resume=True):
        fake.judged.clear()
        list(grade_class(folder, plan, out, resume=resume))
        return [name[:-3] for name in fake.judged]

    assert judged() == ["ada", "bo", "cy"]
    assert judged() == []
    (folder / "bo.py").write_text("# new")
    assert judged() == ["bo"]
    assert judged(Plan("hw9", 1, limits=LIMITS)) == ["ada", "bo", "cy"]
    assert judged(Plan("hw9", 0, True, LIMITS)) == ["ada", "bo", "cy"]
    assert judged(Plan("hw9", limits=Limits(9))) == ["ada", "bo", "cy"]
    assert judged() == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "__version__", "next")
        assert judged() == ["ada", "bo", "cy"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "_tests", lambda: "changed")
        assert judged() == ["ada", "bo", "cy"]
    kept.write_text('[1]\n{"key": 1}\n\n5\n{"key": {}, "report": 1}\n')
    assert judged() == ["ada", "bo", "cy"]
    assert judged(resume=False) == ["ada", "bo", "cy"]


@pytest.mark.parametrize("name", ["tasks.py", "hw1/softmax.py"])
def test_results_are_made_anew_when_a_test_changes(
    name, tmp_path, monkeypatch
):
    ours = folders.PACKAGE / "homework" / name
    copied = tmp_path / "homework" / name
    copied.parent.mkdir(parents=True)
    copied.write_bytes(ours.read_bytes())
    monkeypatch.setattr(folders, "PACKAGE", tmp_path)
    before = folders._tests()
    assert folders._tests() == before
    copied.write_text(copied.read_text() + "# changed\n")
    assert folders._tests() != before


def test_several_are_judged_at_a_time(fake, folder, tmp_path, monkeypatch):
    import threading

    together = threading.Barrier(3, timeout=20)
    judge = fake.judge

    def wait(self, path, *rest):
        if path.parent != folders.SOLUTIONS:
            together.wait()
        return judge(self, path, *rest)

    monkeypatch.setattr(fake, "judge", wait)
    out = tmp_path / "grades.csv"
    list(grade_class(folder, Plan("hw9", limits=LIMITS, jobs=3), out))
    assert list(grades(out)) == ["ada", "bo", "cy"]


def test_a_missing_wall_is_told_once(fake, folder, tmp_path, recwarn):
    fake.layers = {"network": "not allowed"}
    list(grade_class(folder, NINE, tmp_path / "grades.csv"))
    (warning,) = recwarn
    assert "can reach the network" in str(warning.message)


def test_grades_and_pages_do_not_go_among_the_submissions(folder, tmp_path):
    out = tmp_path / "grades.csv"
    with pytest.raises(UserError, match="among the submissions"):
        list(grade_class(folder, NINE, folder / "grades.csv"))
    with pytest.raises(UserError, match="among the submissions"):
        list(grade_class(folder, NINE, out, folder / "pages"))
    with pytest.raises(UserError, match="is a folder"):
        list(grade_class(folder, NINE, tmp_path))
    with pytest.raises(UserError, match="can't be read"):
        list(grade_class(folder, NINE, out, canvas=tmp_path / "absent"))


def test_each_student_has_a_seed_that_stays(folder):
    plan = Plan("hw9", 5, True)
    seeds = {name: plan.seed_for(name) for name in ("ada", "bo", "Łukasz")}
    assert len({*seeds.values()}) == 3
    assert all(0 <= seed < 1_000_000 for seed in seeds.values())
    assert seeds["ada"] == Plan("hw1", 5, True).seed_for("ada")
    assert seeds["ada"] != Plan("hw9", 6, True).seed_for("ada")
    assert Plan("hw9", 5).seed_for("ada") == 5


def test_pages_have_names_of_their_own():
    students = ["a", "A", "a", "../../x", "…", "𠀀" * 62, "", "."]
    rows = [Row(name, "", "f", report_of(1)) for name in students]
    names = feedback.file_names(rows)
    assert len({name.lower() for name in names}) == len(rows)
    for name in names:
        assert Path(name).name == name
        assert name[0] != "."
        assert len(name.encode()) < 150


def test_a_page_shows_text_as_text():
    evil = "<script>alert(1)</script> [x](javascript:1) `a` **b** # c"
    report = report_of(0, reason="it\nended", message=evil)
    report.errors = [("cell 1", evil)]
    text = feedback.page(Row(evil, "1", evil, report))
    for piece in ("<script", "[x]", "**b", "`a`"):
        assert piece not in text
    assert textwrap.dedent(text).count("cell 1") == 1


# The commands ---

GRADE = ["grade", "two", "--assignment", "hw1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "hw7", "a.py"], "There is no assignment 'hw7'"),
        (["check", "hw1", "absent.py"], "absent.py is no file"),
        (["check", "hw1", "a.py", "--timeout", "0"], "--timeout 0 must be"),
        (["check", "hw1", "a.py", "--memory", "0"], "--memory 0 must be"),
        (["grade", "in", "--out", "o", "--jobs", "0"], "--jobs 0 must be"),
        (["grade", "in", "--out", "o"], "speak of no assignment"),
        (["grade", "two", "--out", "o"], "speak of hw1 and hw2"),
        (["grade", "no", "--out", "o", "--assignment", "hw1"], "is no folder"),
        (["grade", "no", "--out", "o"], "no is no folder"),
        (["grade", "in"], "--out"),
        (["check", "hw1", "a.py", "--seed", "-1"], "seed=-1 must be"),
        (
            ["grade", "in", "--out", "o", "--seed", str(2**31)],
            "below 2^31",
        ),
        (
            [*GRADE, "--out", "o", "--feedback", "a.py"],
            "a.py is a file: name a folder",
        ),
        ([*GRADE, "--out", "c.csv", "--canvas", "c.csv"], "be overwritten"),
        (
            [*GRADE, "--out", "c.csv", "--canvas", "c-canvas.csv"],
            "be overwritten",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("x = 1")
    for name in ("c.csv", "c-canvas.csv"):
        Path(name).write_text("Student,ID,hw1 (7)\nPoints Possible,,20\n")
    for folder in ("in", "two"):
        Path(folder).mkdir()
    for name in ("hw1_a.py", "hw2_a.py"):
        (Path("two") / name).touch()
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_the_command_grades(fake, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tasks, "ASSIGNMENTS", ("hw9",))
    monkeypatch.setattr(folders, "ASSIGNMENTS", ("hw9",))
    (folder / "hw9_di.py").write_text("wrong")
    out = tmp_path / "grades.csv"
    pages = tmp_path / "pages"
    given = ["grade", str(folder), "--out", str(out), "--feedback", str(pages)]
    assert run([*given, "--per-student"]) == 0
    assert "4 submissions judged" in capsys.readouterr().out
    assert grades(out)["hw9_di"]["points"] == "0"
    assert len(list(pages.iterdir())) == 4
    assert classes.tqdm is not None


def test_the_command_checks(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tasks, "ASSIGNMENTS", ("hw9",))
    path = tmp_path / "mine.py"
    path.write_text(small.SOLUTION.replace("2 * x", "x") + "\n1 / 0\n")
    assert run(["check", "hw9", str(path), "--timeout", "40"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "fails: ZeroDivisionError" in said[0]
    assert said[1].startswith("hw9.double (0/3) Not yet: that is x itself.")
    assert said[2:] == [
        "hw9.Scale (2/2) Correct.",
        "hw9.apply (stretch) Correct.",
        "2 of 5 points",
    ]
    path.write_text("\n")
    assert run(["check", "hw9", str(path)]) == 1
