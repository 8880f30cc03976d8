"""What serves the judge beside a learner's code, tried without walls."""

import io
import sys

import pytest
import torch

import minitransformer.homework
from minitransformer.homework import checking
from minitransformer.homework.inside import learner_process, wire
from minitransformer.homework.inside.learner_process import Service
from minitransformer.homework.inside.wire import Packer, Unpacker

SOURCE = """
import time, torch

def double(x):
    return 2 * x

class Box:
    value = 3
    @property
    def broken(self):
        raise AttributeError("no such thing")

class Own(ValueError):
    def __str__(self):
        raise RuntimeError("no words either")

def own(x):
    raise Own

def worse(x):
    class Worst(BaseException):
        def __str__(self):
            raise RuntimeError
    raise Worst

def twice(function, x):
    return function(function(x))

def wait(x):
    time.sleep(30)

box = Box()
"""


@pytest.fixture(autouse=True)
def _our_own_main(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def keep(value):
    return ["function", 0]


def request(do, *inputs, **fields):
    """Give one request of the judge's, as it goes over the pipe."""
    packer = Packer(keep)
    message = {"id": 1, "do": do, "seconds": 20, "allowed": [], **fields}
    if do in ("call", "unreached"):
        message["inputs"] = packer.pack(list(inputs))
        message["options"] = packer.pack({})
        message["state"] = packer.pack(torch.get_rng_state())
    return wire.frame(message, bytes(packer.data))


def replies(*requests, texts=(SOURCE,), seconds=20):
    """Serve the requests, after a file has run, and give what came back."""
    run = request("run", texts=list(texts), notebook=True, seconds=seconds)
    out = io.BytesIO()
    service = Service(io.BytesIO(b"".join([run, *requests])), out)
    with pytest.raises(EOFError):
        service.serve()
    out.seek(0)
    found = []
    while out.tell() < len(out.getvalue()):
        message, data = wire.read_frame(out)
        if "value" in message:
            value = Unpacker(data, lambda packed: packed).unpack
            message["value"] = value(message["value"])
        found.append(message)
    return found


def test_a_file_runs_and_its_names_are_found():
    texts = ["x = 1", "1 / 0", "x = (", "import time; time.sleep(9)", "y = x"]
    ran, x, y, z = replies(
        *(request("find", name=name) for name in "xyz"),
        texts=texts,
        seconds=0.2,
    )
    assert ran["errors"] == [
        ["cell 2", "ZeroDivisionError: division by zero"],
        ["cell 3", "SyntaxError in line 1: '(' was never closed"],
        ["cell 4", "takes longer than 0 s"],
    ]
    assert x["value"] == y["value"] == 1
    assert z["missing"] == "z"


def test_objects_are_called_and_asked():
    names = ("double", "box", "own", "worse", "wait", "Box")
    finds = [request("find", name=name) for name in names]

    def number(name):
        return ["object", names.index(name)]

    _, *found = replies(
        *finds,
        request("call", torch.ones(2), of=number("double")),
        request("attribute", of=number("box"), name="value"),
        request("attribute", of=number("box"), name="broken"),
        request("call", 1, of=number("own")),
        request("call", 1, of=number("worse")),
        request("call", 1, of=number("wait"), seconds=0.1),
        request("call", of=number("double")),
        request("call", 1, of=["object", 99]),
        request("call", 1, of=["object"]),
        request("nonsense", of=number("double")),
    )
    assert [reply["value"][:2] for reply in found[:6]] == [
        number(name) for name in names
    ]
    double, value, broken, own, worse, late, missing, *wrong = found[6:]
    assert double["value"].tolist() == [2, 2]
    assert value["value"] == 3
    assert broken["missing"] == "no such thing"
    assert own["wrong"] == "your code raises RuntimeError: no words either"
    assert worse["wrong"] == "your code raises Worst"
    assert late["wrong"] == "your code takes too long here."
    assert missing["raised"] == "TypeError"
    assert all("wrong" in reply for reply in wrong)


def test_a_function_of_the_judges_is_asked_for():
    packer = Packer(keep)
    answers = [
        {"answer": {"value": packer.pack(5)}},
        {"answer": {"error": "KeyError: 3"}},
    ]
    _, _, first, second, reply = replies(
        request("find", name="twice"),
        request("call", print, 3, of=["object", 0]),
        *(wire.frame(answer) for answer in answers),
    )
    assert first["callback"] == second["callback"] == 0
    assert [first["inputs"], second["inputs"]] == [["list", 3], ["list", 5]]
    assert "RuntimeError: KeyError: 3" in reply["wrong"]


def test_a_result_that_fits_no_frame_is_told(monkeypatch):
    monkeypatch.setattr(wire, "MAX_TEXT", 2000)
    long, deep = replies(
        request("find", name="long"),
        request("find", name="deep"),
        texts=["long = 'x' * 3000\ndeep = eval('[' * 80 + ']' * 80)"],
    )[1:]
    assert "too large" in long["wrong"]
    assert "too deeply" in deep["wrong"]


def test_a_verdict_waits_for_the_judge():
    verdict = learner_process.neutral("hw1.attention", print)
    assert not verdict
    assert repr(verdict) == (
        "hw1.attention is judged when the whole file has run."
    )


def test_serving_begins_with_a_greeting_and_ends_with_the_pipe(monkeypatch):
    import os

    told = []
    monkeypatch.setattr(learner_process, "limit_memory", told.append)
    monkeypatch.setattr(checking, "check", checking.check)
    monkeypatch.setattr(minitransformer.homework, "check", checking.check)
    requests, there = os.pipe()
    here, replies_ = os.pipe()
    os.close(there)
    learner_process.main(requests, replies_, 1234)
    with os.fdopen(here, "rb") as stream:
        assert wire.read_frame(stream)[0] == {"ready": True}
    assert told == [1234]
    assert not minitransformer.homework.check("x")


def test_errors_are_named_by_pythons_own_kinds():
    class MineError(KeyError):
        pass

    name = learner_process.builtin_name
    assert name(MineError()) == "KeyError"
    assert name(torch.OutOfMemoryError()) == "RuntimeError"
    assert name(SystemExit()) == "Exception"


def test_what_no_gradient_reaches_is_told():
    texts = (
        SOURCE,
        "layer = torch.nn.Linear(2, 3)\n"
        "def deaf(x):\n"
        "    return layer.weight.data @ x.detach()",
    )
    requests = [
        message
        for name in ("layer", "deaf", "wait")
        for message in (
            request("find", name=name),
            request(
                "unreached",
                torch.ones(2),
                of=["object", ("layer", "deaf", "wait").index(name)],
                seconds=0.3 if name == "wait" else 30,
            ),
        )
    ]
    _, _, layer, _, deaf, _, late = replies(*requests, texts=texts)
    assert layer["value"] == []
    assert deaf["value"] == ["input 1"]
    assert late["wrong"] == "your code takes too long here."
