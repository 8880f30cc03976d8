"""Lock a process in, layer by layer, and run a learner's code in it.

`minitransformer.homework.grading.sandbox` starts this program. It tries each
layer, says on the pipe which it got and why not the others, and only then
imports torch and what serves the judge. Standard library only, until that.
"""

import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from minitransformer.homework.inside import kernel

BOX = "/box"  # the working folder, where there is a root of its own
DEVICES = ("null", "zero", "full", "random", "urandom")
LINKS = ("/bin", "/lib", "/lib32", "/lib64", "/sbin")
ABOUT_MACHINE = ("cpuinfo", "meminfo", "self", "stat", "version")
Step = Callable[[], None]


class Missing(Exception):  # noqa: N818 (no fault of the program)
    """A layer can't be had; the message says why."""


def main() -> None:
    """Read the plan, build the walls, and let the learner's code in."""
    plan = json.loads(sys.argv[1])
    # Only the judge's pipes stay open, away from where prints go.
    requests, replies = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    layers: dict[str, str] = {}
    if sys.platform == "linux":
        lock_in(plan, layers)
    alone = not layers.get("user", "no")
    layers["limits"] = tried(plan, "limits", lambda: limit(plan, alone))
    os.write(replies, json.dumps(layers).encode() + b"\n")
    if any(layers.get(name) for name in plan["required"]):
        sys.exit(1)  # the judge has read why
    serve(plan, requests, replies)


def tried(plan: dict[str, Any], name: str, step: Step) -> str:
    """Take a step; return ``""``, or why it could not be taken."""
    if name in plan["off"]:
        return "switched off"
    try:
        step()
    except (OSError, ImportError, ValueError, Missing) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def lock_in(plan: dict[str, Any], layers: dict[str, str]) -> None:
    """Put up every wall that this Linux has.

    Args:
        plan: What `sandbox.Sandbox` sends.
        layers: Gets an entry for each layer: ``""``, or why it is missing.
    """
    root = os.getuid() == 0
    die_with_parent()
    kernel.control(kernel.SET_SUBREAPER, 1)
    leave(plan, root, layers)
    stay_behind(sweeping=bool(layers["processes"]))
    own = not layers["processes"]  # then /proc shows none but its own
    layers["root"] = tried(plan, "root", lambda: furnish(plan, own))
    inside = not layers["root"]
    if inside:
        for name in [n for n, x in os.environ.items() if x == plan["box"]]:
            os.environ[name] = BOX
        plan["box"] = BOX
    box = plan["box"]
    with suppress(OSError):  # the first to go if the machine runs short
        Path("/proc/self/oom_score_adj").write_text("1000")
    if root:
        layers["user"] = tried(plan, "user", lambda: become(plan, inside))
    layers["privileges"] = tried(plan, "privileges", kernel.give_up)
    die_with_parent()  # which forgets it when the user changes
    stay_behind(sweeping=False)
    die_with_parent()
    os.chdir(box)
    readable = [*plan["readable"], *(f"/dev/{name}" for name in DEVICES)]
    if inside and own:
        readable.append("/proc")
    else:
        readable += [f"/proc/{name}" for name in ABOUT_MACHINE]
    parts = kernel.without(readable, plan["hidden"])
    writable = [box, "/dev/null", *(["/dev/shm"] if inside else [])]
    layers["files"] = tried(
        plan, "files", lambda: kernel.landlock(parts, writable)
    )


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends."""
    kernel.control(kernel.SET_DEATH_SIGNAL, signal.SIGKILL)


def leave(plan: dict[str, Any], root: bool, layers: dict[str, str]) -> None:
    """Leave the namespaces that are shared with the rest of the machine."""

    def leave_users() -> None:
        user, group = os.getuid(), os.getgid()
        kernel.unshare("users")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")

    if not root:
        layers["user"] = tried(plan, "user", leave_users)
    for name, space in (
        ("network", "network"),
        ("messages", "ipc"),
        ("processes", "processes"),
    ):

        def step(space: str = space) -> None:
            kernel.unshare(space)

        layers[name] = tried(plan, name, step)


def stay_behind(sweeping: bool) -> None:
    """Go on in a new process, and wait here for its end.

    Args:
        sweeping: Whether what it leaves running must be looked for; where
            processes have a namespace, the kernel ends them all.
    """
    child = os.fork()
    if not child:
        return

    def stop(number: int, frame: FrameType | None) -> None:
        sweep()
        os._exit(128 + number)

    if sweeping:
        signal.signal(signal.SIGTERM, stop)
    os.closerange(0, 64)
    while True:
        ended, status = os.wait()
        if ended == child:
            break
    if sweeping:
        sweep()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def sweep() -> None:
    """Kill all that descends from this process, until there is nothing."""
    for _ in range(100):
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError, ValueError, IndexError):
                about = path.read_text().rpartition(")")[2].split()
                if about[0] != "Z":
                    parents[int(path.parent.name)] = int(about[1])
        found = {os.getpid()}
        while more := {p for p, q in parents.items() if q in found} - found:
            found |= more
        if not found - {os.getpid()}:
            return
        for process in found - {os.getpid()}:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        with suppress(OSError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def furnish(plan: dict[str, Any], own: bool) -> None:
    """Make a root folder that holds nothing but what is needed.

    Args:
        plan: What `sandbox.Sandbox` sends.
        own: Whether the process has its own namespace of processes.
    """
    root = plan["box"]
    kernel.unshare("mounts")
    kernel.mount("none", "/", flags=kernel.RECURSIVE | kernel.PRIVATE)
    kernel.mount("tmpfs", root, "tmpfs", kernel.NO_SUID, "size=4m,mode=755")
    for link in LINKS:
        if os.path.islink(link):
            os.symlink(os.readlink(link), root + link)
    for path, whole in kernel.without(plan["readable"], plan["hidden"]):
        if whole:
            show(path, root + path)
        elif os.path.isdir(path):
            os.makedirs(root + path, exist_ok=True)
    os.makedirs(f"{root}/dev/shm")
    for name in DEVICES:
        show(f"/dev/{name}", f"{root}/dev/{name}")
    os.makedirs(f"{root}/proc")
    if own:  # some containers do not let it be mounted
        with suppress(OSError):
            flags = kernel.NO_SUID | kernel.NO_DEVICES | kernel.NO_EXEC
            kernel.mount("proc", f"{root}/proc", "proc", flags)
    os.makedirs(root + BOX)
    for place in ("/dev/shm", BOX):
        kernel.mount(
            "tmpfs",
            root + place,
            "tmpfs",
            kernel.NO_SUID | kernel.NO_DEVICES,
            f"size={plan['disk']},nr_inodes=10k,mode=700",
        )
    kernel.change_root(root)


def show(source: str, target: str) -> None:
    """Let a file or folder be seen in the new root, if there is one."""
    try:
        folder = stat.S_ISDIR(os.stat(source).st_mode)
    except OSError:
        return
    if folder:
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    kernel.bind_read_only(source, target)


def become(plan: dict[str, Any], inside: bool) -> None:
    """Become a user who owns nothing but the working folder."""
    user = plan["user"]

    def may(path: str, how: int) -> bool:
        return os.access(path, how, effective_ids=True)

    needed = [*plan["readable"], *plan["path"]]
    needed = [path for path in needed if os.path.exists(path)]
    around = os.path.dirname(plan["box"])
    os.setegid(user)
    os.seteuid(user)
    try:
        for path in needed:
            if not may(path, os.R_OK):
                raise Missing(f"other users can't read {path}")
        if not may(around, os.X_OK):
            raise Missing(f"other users can't enter {around}")
    finally:
        os.seteuid(0)
        os.setegid(0)
    for place in (plan["box"], *(["/dev/shm"] if inside else [])):
        os.chown(place, user, user)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def limit(plan: dict[str, Any], alone: bool) -> None:
    """Limit time, files and processes; memory is limited later.

    Args:
        plan: What `sandbox.Sandbox` sends.
        alone: Whether the user has no processes but these.
    """
    import resource

    others = 0 if alone else threads_of_user()

    def put(name: str, value: int) -> None:
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(number, (value, value))

    put("RLIMIT_CPU", plan["cpu_seconds"])
    put("RLIMIT_FSIZE", plan["disk"])
    put("RLIMIT_NOFILE", 128)
    put("RLIMIT_CORE", 0)
    put("RLIMIT_NPROC", plan["processes"] + others)
    if os.getuid() == 0:
        raise Missing("nothing counts the processes of root")


def threads_of_user() -> int:
    """Count what the limit on processes counts against this user."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/task"):
        with suppress(OSError):
            if path.stat().st_uid == os.getuid():
                count += len(os.listdir(path))
    return count


def serve(plan: dict[str, Any], requests: int, replies: int) -> None:
    """Put the real package in place of this program's, and serve."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "minitransformer":
            del sys.modules[name]
    from importlib.util import module_from_spec, spec_from_file_location

    package = Path(plan["package"])
    sys.path[:] = plan["path"]
    spec = spec_from_file_location(
        "minitransformer",
        package / "__init__.py",
        submodule_search_locations=[str(package)],
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["minitransformer"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["minitransformer"])
    from minitransformer.homework.inside.learner_process import main

    main(requests, replies, plan["memory"])
