"""The sandbox, with real processes and real attacks.

Each attack is tried behind all walls, where it must fail, and without the
walls that stop it, where it must work: otherwise it proves nothing.
"""

import ctypes
import os
import socket
import sys
import time
from pathlib import Path

import pytest
import torch

from minitransformer.homework.checking import Wrong, call, must_learn
from minitransformer.homework.grading import remote, sandbox, visible
from minitransformer.homework.grading.remote import Ended, Session
from minitransformer.homework.grading.sandbox import Limits

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="its walls exist only on Linux"
)
REFUSED = r"PermissionError|FileNotFound"
LEARNER = """
import ctypes, os, socket, subprocess, sys, threading, time
import torch

def read(path):
    with open(path, "rb") as file:
        return len(file.read(10))

def names_in(path):
    return sorted(os.listdir(path))

def write(path):
    with open(path, "w") as file:
        file.write("x" * 1000)
    return "written"

def connect(port):
    socket.create_connection(("127.0.0.1", port), 3).close()
    return "connected"

def see(process):
    os.kill(process, 0)
    return "seen"

def shared_memory(key):
    if ctypes.CDLL(None).shmget(key, 0, 0) < 0:
        raise OSError("none")
    return "found"

def privileges():
    text = open("/proc/self/status").read()
    found = int(text.split("CapEff:")[1].split()[0], 16)
    if not found:
        raise OSError("none")
    return found

def gain():
    found = int(open("/proc/self/status").read().split("NoNewPrivs:")[1][1])
    if found:
        raise OSError("never")
    return "possible"

def user():
    return os.getuid()

def environment():
    return dict(os.environ), os.getcwd()

def many_processes():
    count = 0
    try:
        while count < 100:
            if not os.fork():
                time.sleep(60)
                os._exit(0)
            count += 1
    except OSError:
        pass
    return count

def many_threads():
    count = 0
    try:
        while count < 100:
            threading.Thread(target=time.sleep, args=[2], daemon=True).start()
            count += 1
    except RuntimeError:
        pass
    return count

def daemon():
    if not os.fork():
        os.setsid()
        if not os.fork():
            time.sleep(60)
        os._exit(0)
    time.sleep(0.2)
    return "begun"

def much_memory(size):
    return len(bytearray(size))

def much_tensor(size):
    return torch.ones(size).sum()

def large_file(size):
    with open("large", "wb") as file:
        for _ in range(size // 2**20):
            file.write(bytes(2**20))

def many_files(size):
    for number in range(8):
        with open(f"file{number}", "wb") as file:
            for _ in range(size // 8 // 2**20):
                file.write(bytes(2**20))

def descriptors():
    return len([os.open("/dev/null", os.O_RDONLY) for _ in range(500)])

def program():
    return subprocess.run(["true"]).returncode
"""


@pytest.fixture(scope="module")
def behind():
    """Give a process without some walls; each is started once."""
    found = {}

    def start(*off):
        key = frozenset(off)
        if key not in found:
            limits = Limits(seconds=60, memory=1024, disk=8, off=key)
            found[key] = Session(limits)
            found[key].run([LEARNER], True)
            assert found[key].errors == []
        found[key].begin_task()
        return found[key]

    yield start
    for session in found.values():
        session.close("the tests are done")


def attempt(session, name, *inputs):
    return call(session.find(name), *inputs)


def needs(session, *layers):
    """Skip a test where the system lacks a wall."""
    for layer in layers:
        if session.layers[layer]:
            pytest.skip(f"no {layer}: {session.layers[layer]}")


def leftovers(session):
    """Count processes that descend from a learner's."""
    box = session._sandbox._box.encode()
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += box in path.read_bytes()
        except OSError:
            continue
    return count


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def secret(tmp_path_factory):
    """Another student's file, where everyone may read it and write."""
    folder = tmp_path_factory.mktemp("others")
    for place in (folder, *folder.parents):
        if place.stat().st_uid == os.getuid() and place != place.parent:
            try:
                place.chmod(place.stat().st_mode | 0o055)
            except OSError:
                break
        if place == Path("/tmp"):
            break
    file = folder / "other.ipynb"
    file.write_text("the answers of another student")
    file.chmod(0o666)
    return file


@pytest.fixture
def memory_key():
    libc, key = ctypes.CDLL(None), 0x6D740000 + os.getpid() % 65536
    number = libc.shmget(key, 4096, 0o1666)
    assert number >= 0
    yield key
    libc.shmctl(number, 0, None)


# Walls ---


@linux
def test_all_walls_stand_or_say_why_not(behind):
    session = behind()
    assert session.layers.keys() == sandbox.LAYERS.keys()
    for why in session.layers.values():
        assert why == "" or len(why) > 3
    if os.getuid() or not session.layers["user"]:
        assert session.layers["limits"] == ""


@linux
@pytest.mark.parametrize(
    ("off", "stops"),
    [
        ([], ["root", "files"]),
        (["root"], ["files"]),
        (["files"], ["root"]),
        (["root", "files"], []),
    ],
)
def test_other_files_are_out_of_reach(behind, secret, off, stops):
    session = behind(*off)
    for layer in stops:
        needs(session, layer)
    place = secret.parent
    attacks = [("read", secret), ("names_in", place), ("write", secret)]
    for name, path in attacks:
        if stops:
            with pytest.raises(Wrong, match=REFUSED):
                attempt(session, name, str(path))
        else:
            assert attempt(session, name, str(path))
    assert secret.read_text()[0] == ("t" if stops else "x")


@linux
@pytest.mark.parametrize(
    "name",
    [
        "solutions/__init__.py",
        "hw1/__init__.py",
        "hw1/softmax.py",
        "tasks.py",
        "grading/judging.py",
    ],
)
@pytest.mark.parametrize("off", [(), ("root",), ("files",), ("root", "files")])
def test_answers_and_tests_are_out_of_reach(behind, name, off):
    session = behind(*off)
    path = visible.PACKAGE / "homework" / name
    if len(off) == 2:
        assert attempt(session, "read", str(path)) > 0
        return
    needs(session, *({"root", "files"} - {*off}))
    with pytest.raises(Wrong, match=REFUSED):
        attempt(session, "read", str(path))


@linux
def test_what_an_answer_may_use_can_be_read(behind):
    path = visible.PACKAGE / "attention.py"
    for off in ((), ("root",), ("files",)):
        session = behind(*off)
        assert attempt(session, "read", str(path)) == 10
        assert attempt(session, "write", "mine.txt") == "written"
        assert attempt(session, "program") == 0


@linux
@pytest.mark.parametrize("off", [(), ("network",), ("network", "files")])
def test_no_network(behind, server, off):
    session = behind(*off)
    if len(off) == 2:
        assert attempt(session, "connect", server) == "connected"
        return
    needs(session, "files" if off else "network")
    with pytest.raises(Wrong, match="Error"):
        attempt(session, "connect", server)


@linux
@pytest.mark.parametrize("off", [(), ("processes",), "all"])
def test_other_processes_are_out_of_reach(behind, off):
    off = sandbox.LAYERS.keys() - {"limits"} if off == "all" else off
    session = behind(*off)
    me = os.getpid()
    attacks = [
        ("see", me),
        ("read", f"/proc/{me}/environ"),
        ("read", f"/proc/{me}/maps"),
        ("read", f"/proc/{me}/root/etc/passwd"),
    ]
    if len(off) > 1:
        for name, of in attacks:
            assert attempt(session, name, of)
        return
    needs(session, "files" if off else "processes")
    for name, of in attacks:
        with pytest.raises(Wrong, match="Error"):
            attempt(session, name, of)
    with pytest.raises(Wrong, match="Error"):
        attempt(session, "read", f"/proc/{me}/mem")


@linux
def test_shared_memory_is_out_of_reach(behind, memory_key):
    everything = sandbox.LAYERS.keys() - {"limits"}
    assert attempt(behind(*everything), "shared_memory", memory_key)
    needs(behind(), "messages")
    with pytest.raises(Wrong, match="OSError"):
        attempt(behind(), "shared_memory", memory_key)


@linux
def test_no_privilege_is_left_and_none_can_be_gained(behind):
    everything = sandbox.LAYERS.keys() - {"limits"}
    session = behind(*everything)
    assert attempt(session, "gain") == "possible"
    if os.getuid() == 0:
        assert attempt(session, "privileges")
    for off in ((), ("user",), ("root",)):
        session = behind(*off)
        needs(session, "privileges")
        for name in ("privileges", "gain"):
            with pytest.raises(Wrong, match="OSError"):
                attempt(session, name)


@linux
def test_it_is_another_user(behind):
    if os.getuid():
        pytest.skip("only root can become another user")
    needs(behind(), "user")
    first = attempt(behind(), "user")
    assert first not in (0, 65534)
    assert attempt(behind("user"), "user") == 0
    session = behind("root")  # Python may be where no other user may look
    if why := session.layers["user"]:
        assert "other users can't read" in why
    else:
        assert attempt(session, "user") not in (0, first)


def test_nothing_of_our_environment_is_handed_on(behind, monkeypatch):
    found, folder = attempt(behind(), "environment")
    assert {"HOME", "TMPDIR", "OMP_NUM_THREADS"} <= found.keys()
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "PWD"} & found.keys()
    assert found["HOME"] == found["TMPDIR"] == folder
    assert folder != os.getcwd()


# Limits ---


@linux
def test_processes_and_threads_are_counted(behind):
    session = behind()
    needs(session, "limits")
    assert 5 < attempt(session, "many_threads") < 40
    time.sleep(2.2)
    limits = Limits(seconds=20, processes=16)
    with Session(limits) as session:
        session.run([LEARNER], True)
        session.begin_task()
        assert 5 < attempt(session, "many_processes") < 16
    assert leftovers(session) == 0


@linux
@pytest.mark.parametrize("off", [(), ("processes",)])
def test_what_runs_in_the_background_is_ended_too(off):
    with Session(Limits(seconds=20, off=frozenset(off))) as session:
        session.run([LEARNER], True)
        session.begin_task()
        before = leftovers(session)
        assert attempt(session, "daemon") == "begun"
        assert leftovers(session) > before > 0
    assert leftovers(session) == 0
    assert not Path(session._sandbox._box).exists()


@linux
def test_memory_is_limited(behind):
    with pytest.raises(Wrong, match="MemoryError"):
        attempt(behind(), "much_memory", 4 << 30)
    with pytest.raises(Wrong, match=r"RuntimeError.*memory"):
        attempt(behind(), "much_tensor", 1 << 30)
    assert attempt(behind(), "much_memory", 100 << 20) == 100 << 20


@linux
def test_files_are_limited_in_size_and_number(behind):
    with pytest.raises(Wrong, match="OSError"):
        attempt(behind(), "large_file", 64 << 20)
    if not behind().layers["root"]:
        with pytest.raises(Wrong, match="No space left"):
            attempt(behind(), "many_files", 64 << 20)
    with pytest.raises(Wrong, match="Too many open files"):
        attempt(behind(), "descriptors")


@linux
@pytest.mark.parametrize(
    ("forged", "words"),
    [("3", "gradients can't be read"), ("['\\x1b' + 999 * 'x']", "x" * 299)],
)
def test_forged_names_of_what_gets_no_gradient_are_only_text(forged, words):
    source = f"""
import minitransformer.homework.checking as judge

judge.unreached = lambda *_: {forged}


def double(x):
    return 2 * x
"""
    with Session(Limits(seconds=20)) as session:
        session.run([source], False)
        session.begin_task()
        with pytest.raises(Wrong, match=words) as caught:
            must_learn(session.find("double"), torch.ones(2))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


# Ends ---


def ended(source, seconds=20.0, monkeypatch=None):
    """Run a file that does not come to its end, and say why."""
    with Session(Limits(seconds=seconds)) as session:
        with pytest.raises(Ended):
            session.run([source], True)
        why = session.ended
    if sys.platform == "linux":
        assert leftovers(session) == 0
    return why


def test_a_flood_of_prints_is_ended():
    began = time.monotonic()
    why = ended("while True: print('x' * 10_000)")
    assert why == "it printed more than 10 MB"
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import os; os._exit(3)", "it ended itself (exit code 3)"),
        (
            "import ctypes; ctypes.string_at(0)",
            "it crashed (segmentation fault)",
        ),
    ],
)
def test_a_process_that_ends_itself_is_told(source, why):
    assert ended(source) == why


@linux
def test_one_that_ignores_its_clock_is_ended(monkeypatch):
    monkeypatch.setattr(remote, "GRACE", 0.5)
    source = """
import signal, time
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
"""
    began = time.monotonic()
    assert ended(source, seconds=1) == "it took too long"
    assert time.monotonic() - began < 20


@linux
def test_a_wall_that_is_required_and_missing_stops_it_before_the_code():
    limits = Limits(off=frozenset({"network"}))
    with Session(limits, ["network"]) as session:
        assert session.ended == "a wall is missing: network"
        with pytest.raises(Ended):
            session.run(["print(1)"], True)


# The judge's side ---


def test_what_stays_readable_holds_no_answer():
    from minitransformer.homework.inside import kernel

    parts = dict(kernel.without(visible.readable(), visible.hidden()))
    homework = visible.PACKAGE / "homework"
    inside = {Path(path).name for path in parts if str(homework) in path}
    assert inside - {"homework"} <= {*visible.NEEDED}
    whole = [Path(path) for path, all_of_it in parts.items() if all_of_it]
    answers = homework / "solutions" / "__init__.py"
    assert not any(answers.is_relative_to(path) for path in whole)
    assert any(
        (homework / "inside" / "wire.py").is_relative_to(path)
        for path in whole
    )


def test_each_missing_wall_is_told_in_a_sentence():
    layers = {"network": "no permission", "files": "", "user": "root only"}
    found = list(sandbox.warnings_for(layers))
    assert len(found) == 2
    assert "reach the network" in found[0]
    assert "(no permission)" in found[0]


def test_a_folder_that_was_made_hard_to_remove_is_removed(tmp_path):
    inner = tmp_path / "box" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    inner.chmod(0)
    inner.parent.chmod(0)
    sandbox.remove(str(tmp_path / "box"))
    assert not (tmp_path / "box").exists()


def test_random_numbers_begin_where_the_judges_are(behind):
    session = behind()
    session.run(["def draw(n): return torch.rand(n)"], True)
    session.begin_task()
    draw = session.find("draw")
    torch.manual_seed(3)
    found = call(draw, 5)
    torch.manual_seed(3)
    assert torch.equal(found, torch.rand(5))
