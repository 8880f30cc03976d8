"""Whole submissions judged: what counts, what is said, and what is tried."""

import json
import re
import sys
from dataclasses import asdict

import pytest
import small
import torch

from minitransformer.homework import tasks
from minitransformer.homework.checking import Wrong
from minitransformer.homework.grading import judging, remote
from minitransformer.homework.grading.judging import Report, judge, judge_file
from minitransformer.homework.grading.remote import Session
from minitransformer.homework.grading.sandbox import Limits
from minitransformer.homework.grading.submissions import Content
from minitransformer.homework.tasks import tasks_of

LIMITS = Limits(seconds=40, memory=1024)


@pytest.fixture(autouse=True, scope="module")
def _small_assignment():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "_TASKS", {})
        patch.setitem(sys.modules, "minitransformer.homework.hw9", sys)
        small.register()
        yield


def points(report):
    return {task.name[4:]: task.points for task in report.tasks}


def message(report, name):
    (found,) = [t.message for t in report.tasks if t.name == f"hw9.{name}"]
    return found


def test_a_failing_cell_hides_no_other():
    cells = [
        "%matplotlib inline\n!ls\nimport torch",
        "%%bash\nrm -rf everything",
        "1 / 0",
        "from __future__ import annotations\n" + small.SOLUTION,
        "x = (",
        "import sys\nsys.exit('enough')",
        "raise KeyboardInterrupt",
        "from minitransformer.homework import check\n"
        "verdict = check('hw9.double', double)\n"
        "assert not verdict\nprint(verdict)",
        "def recursive(): recursive()\nrecursive()",
        "import matplotlib\nassert matplotlib.get_backend() == 'agg'",
        "def late(x: Unknown): pass",
        "input()",
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\n"
        "def f(): pass\n"
        "import inspect\nassert 'def f' in inspect.getsource(f)",
        "open(0).read() and 1 / 0",
    ]
    report = judge(Content(cells, True), "hw9", 0, LIMITS)
    assert points(report) == {"double": 3, "Scale": 2, "apply": 0}
    assert all(task.passed for task in report.tasks)
    assert (report.points, report.out_of) == (5, 5)
    assert [(where, text[:19]) for where, text in report.errors] == [
        ("cell 3", "ZeroDivisionError: "),
        ("cell 5", "SyntaxError in line"),
        ("cell 6", "SystemExit: enough"),
        ("cell 7", "KeyboardInterrupt:"),
        ("cell 9", "RecursionError: max"),
        ("cell 12", "EOFError: EOF when "),
    ]
    assert report.reason.startswith("cell 3: ZeroDivisionError")
    assert report.reason.endswith("(and 5 more)")
    assert Report.from_json(json.loads(json.dumps(asdict(report)))) == report


ANSWERS = """
import torch, sys, time
import minitransformer

class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, inputs=(), options=None):
        return torch.tensor(True)

def endless():
    while True:
        yield 1

def borrowed(x):
    try:
        minitransformer.causal_mask(3)
    except BaseException:
        pass
    return 2 * x

def threaded(x):
    import threading
    thread = threading.Thread(target=borrowed, args=[x])
    thread.start()
    thread.join()
    return 2 * x

class Instance:
    def __call__(self, x):
        return 2 * x

ANSWERS = dict(
    right=lambda x: 2 * x,
    lists=lambda x: (2 * x).tolist(),
    arrays=lambda x: (2 * x).numpy(),
    grown=lambda x: 2 * torch.nn.Parameter(x),
    instance=Instance(),
    itself=lambda x: x,
    three=lambda x: 3 * x,
    in_place=lambda x: x.mul_(2),
    raises=lambda x: x / 0 + {}["key"],
    nothing=lambda x: None,
    dots=lambda x: (x, ...),
    text=lambda x: "twice",
    no_function=3,
    a_string="double",
    wrong_shape=lambda x: (2 * x).T,
    nan=lambda x: x * torch.nan,
    ragged=lambda x: [[1, 2], [3]],
    liar=lambda x: (2 * x + 1).as_subclass(Liar),
    borrowed=borrowed,
    threaded=threaded,
    exits=lambda x: sys.exit("enough"),
    meta=lambda x: x.to("meta"),
    generator=lambda x: endless(),
    dictionary=lambda x: {"a": x},
    complicated=lambda x: [x, [x], {"y": object()}],
    recursive=lambda x: ANSWERS["recursive"](x),
    bytes=lambda x: b"twice",
    huge=lambda x: 10**400,
)
globals().update(ANSWERS)
"""
DIFFERENT = ("generator", "dictionary", "complicated", "bytes", "meta")
REMOTE_ONLY = """
import time
large = lambda x: torch.zeros(5000, 5000)
expanded = lambda x: torch.zeros(1).expand(10**13)
deep = lambda x: eval("[" * 80 + "]" * 80)
number = lambda x: 10**9999
slow = lambda x: time.sleep(60)
class Noisy:
    def __getattribute__(self, name):
        raise RuntimeError("no")
noisy = Noisy()
"""


@pytest.fixture(scope="module")
def session():
    with Session(LIMITS) as session:
        session.run([ANSWERS, REMOTE_ONLY], True)
        assert session.errors == []
        yield session


def here():
    names = {"__name__": "submission"}
    exec(ANSWERS, names)
    return names["ANSWERS"]


def test_over_the_wire_an_answer_gets_the_same_words(session):
    double = tasks_of("hw9")[0]
    passed = 0
    for name, answer in here().items():
        session.begin_task()
        direct = double.verdict(answer, seed=3)
        over = double.verdict(session.find(name), seed=3)
        assert direct.passed == over.passed, name
        passed += direct.passed
        if name in DIFFERENT:
            assert over.message.startswith("Not yet: "), name
            continue
        if name in ("recursive", "huge"):
            words = "RecursionError" if name == "recursive" else "too large"
            assert words in over.message
            assert words in direct.message
            continue
        assert direct.message == over.message, name
    assert passed == 5
    session.begin_task()
    assert "does the work" in double.verdict(session.find("borrowed")).message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("large", "the result is too large"),
        ("expanded", "the result is too large"),
        ("deep", "nested too deeply"),
        ("number", "a number that is too large"),
    ],
)
def test_an_answer_that_no_frame_holds_is_told(session, name, words):
    session.begin_task()
    verdict = tasks_of("hw9")[0].verdict(session.find(name))
    assert words in verdict.message
    assert not session.ended


@pytest.mark.skipif(sys.platform == "win32", reason="no alarm there")
def test_a_slow_answer_is_told_and_the_process_goes_on(session):
    session.deadline = torch.inf  # whatever the machine is doing
    session.begin_task()
    session.deadline -= LIMITS.seconds / 2 - 1
    verdict = tasks_of("hw9")[0].verdict(session.find("slow"))
    assert "takes too long" in verdict.message
    assert not session.ended


def test_what_is_asked_of_an_object_is_answered_there(session):
    session.begin_task()
    found = session.find("Instance")
    assert repr(found) == "<type in a learner's process>"
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = found.absent
    with pytest.raises(AttributeError):
        _ = found.__wrapped__
    with pytest.raises(LookupError):
        session.find("absent")
    with pytest.raises(TypeError, match="can't be sent"):
        found(object())
    session.begin_task()
    with pytest.raises(Wrong, match="your code raises RuntimeError: no"):
        session.find("noisy")
    assert torch.equal(found()(torch.ones(2)), torch.ones(2) * 2)


def test_a_task_that_ends_the_process_costs_only_itself():
    source = small.SOLUTION.replace(
        "return 2 * x", "import os; os._exit(7)"
    ).replace("return self.weight * x", "import os; os.kill(os.getpid(), 9)")
    report = judge(Content([source], True), "hw9", 0, LIMITS)
    assert points(report) == {"double": 0, "Scale": 0, "apply": 0}
    assert "ended itself (exit code 7)" in message(report, "double")
    assert "it was killed" in message(report, "Scale")
    assert message(report, "apply") == "Correct."


FORGED = """
import os, json, struct

def pipes():
    for number in range(3, 20):
        try:
            os.set_blocking(number, False)
            yield number
        except OSError:
            pass

def whole(message):
    text = json.dumps(message).encode()
    return struct.pack("<4sIQ", b"mt1\\n", len(text), 0) + text

def send(content):
    for number in pipes():
        try:
            os.write(number, content)
        except OSError:
            pass

def double(x):
    send(b"garbage" * 100)
    return 2 * x

class Scale:
    def __init__(self, size):
        for number in range(1000):
            send(whole({"id": number, "value": True, "passed": True}))

def apply(function, x):
    send(whole({"callback": 0, "inputs": ["list"], "options": ["x"]}))
    send(whole({"callback": 10**9, "inputs": 1, "options": 2}))
    send(whole({"callback": "x"}))
    return x.sum(1)
"""


def test_forged_frames_cost_their_author():
    report = judge(Content([FORGED], True), "hw9", 0, LIMITS)
    assert report.points == 0
    assert not any(task.passed for task in report.tasks)
    assert "it sent what can't be read" in message(report, "double")
    assert len(report.tasks) == 3


def test_what_a_learner_changes_in_torch_or_in_us_changes_no_verdict():
    source = """
import torch, sys
import minitransformer.homework as homework
from minitransformer.homework import checking, honesty
from minitransformer.homework.inside import wire
torch.allclose = torch.equal = lambda *inputs, **options: True
checking.is_near = checking._same = lambda *inputs, **options: True
checking.Wrong = checking.Unanswered = type("Fine", (Exception,), {})
checking.check = homework.check = lambda *inputs, **options: True
for name in list(sys.modules):
    if name.startswith("minitransformer.homework."):
        sys.modules[name].Verdict = lambda *inputs: True
sys.setprofile = lambda function: None
def double(x):
    return x + 1
"""
    report = judge(Content([source], True), "hw9", 0, LIMITS)
    assert points(report) == {"double": 0, "Scale": 0, "apply": 0}
    assert message(report, "double").startswith("Not yet: double!")
    assert "there is no 'Scale' in your file" in message(report, "Scale")


def test_a_script_counts_statement_by_statement(tmp_path):
    path = tmp_path / "answer.py"
    source = "import absent\n" + small.SOLUTION + "\n1 / 0; late = 1\n"
    path.write_text(source)
    report = judge_file(path, "hw9", 1, LIMITS)
    assert report.points == 5
    assert [where for where, _ in report.errors] == [
        "line 1",
        f"line {len(source.splitlines())}",
    ]


def test_what_can_not_be_read_is_told_without_running_anything(tmp_path):
    path = tmp_path / "hw9.ipynb"
    path.write_text("[")
    report = judge_file(path, "hw9", 0, LIMITS)
    assert report.reason == "the file is no notebook"
    assert points(report) == {"double": 0, "Scale": 0, "apply": 0}
    assert message(report, "double") == "Not judged: the file is no notebook."
    assert report.seconds == 0


def test_a_process_that_ends_again_and_again_is_given_up(monkeypatch):
    monkeypatch.setattr(judging, "MAX_STARTS", 1)
    source = small.SOLUTION.replace("return 2 * x", "import os; os._exit(7)")
    report = judge(Content([source], True), "hw9", 0, LIMITS)
    assert report.reason == "its process ended too often"
    assert "its process ended too often" in message(report, "apply")


def test_a_text_of_a_learners_can_not_act_on_a_screen():
    found = remote.tidy("a\x1b[31m\n\tb \u202e\udc80" + "x" * 999)
    assert found.startswith("a [31m b ?x")
    assert len(found) == remote.LONGEST
    assert re.fullmatch(r"[\x20-\x7e]+", found)
