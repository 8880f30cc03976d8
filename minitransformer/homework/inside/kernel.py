"""What Linux offers to lock a process in, as functions of Python.

Standard library only: it runs before anything else of this package, in the
process that is about to become a learner's. Each function raises OSError if
the system refuses.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

NAMESPACES = {
    "mounts": 0x00020000,
    "names": 0x04000000,  # of the machine
    "ipc": 0x08000000,
    "users": 0x10000000,
    "processes": 0x20000000,
    "network": 0x40000000,
}
READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC = 1, 2, 4, 8
REMOUNT, BIND, RECURSIVE, PRIVATE = 32, 4096, 16384, 1 << 18
NO_ATIME, NO_DIR_ATIME, RELATIVE_ATIME = 1024, 2048, 1 << 21
DETACH = 2  # for umount2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}

SET_DEATH_SIGNAL, SET_SUBREAPER, SET_NO_NEW_PRIVILEGES = 1, 36, 38
DROP_CAPABILITY = 24
LAST_CAPABILITY = 63

# Landlock: https://docs.kernel.org/userspace-api/landlock.html
CREATE_RULES, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEVICE = 1 << 14, 1 << 15
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE
READ = EXECUTE | READ_FILE | READ_DIR


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _done(result: int, what: str) -> int:
    """Return a system call's result, or raise what it complains of."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(*names: str) -> None:
    """Leave the namespaces that the process shares with its parent."""
    flags = 0
    for name in names:
        flags |= NAMESPACES[name]
    _done(_libc().unshare(flags), f"unshare {' '.join(names)}")


def mount(
    source: str, target: str, kind: str = "", flags: int = 0, options: str = ""
) -> None:
    """Mount a file system; see mount(2)."""
    result = _libc().mount(
        source.encode(),
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _done(result, f"mount {target}")


def bind_read_only(source: str, target: str) -> None:
    """Show a file or folder at a second place, where it can't be changed."""
    mount(source, target, flags=BIND)
    found = os.statvfs(target).f_flag
    # What is locked by an outer namespace must stay as it is.
    kept = found & (NO_SUID | NO_DEVICES | NO_EXEC | NO_ATIME | NO_DIR_ATIME)
    if found & 4096:
        kept |= RELATIVE_ATIME
    flags = REMOUNT | BIND | READ_ONLY | NO_SUID | kept
    if not Path(source).is_char_device():
        flags |= NO_DEVICES
    mount("none", target, flags=flags)


def change_root(folder: str) -> None:
    """Make a mounted folder the root; nothing outside it exists any more."""
    os.chdir(folder)
    number = PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(0, f"no number known for {platform.machine()}")
    _done(_libc().syscall(number, b".", b"."), "pivot_root")
    _done(_libc().umount2(b".", DETACH), "umount2")
    os.chdir("/")


def control(option: int, value: int) -> None:
    """Call prctl(2)."""
    zero = ctypes.c_ulong(0)
    result = _libc().prctl(option, ctypes.c_ulong(value), zero, zero, zero)
    _done(result, f"prctl {option}")


def give_up() -> None:
    """Give up every privilege, and the means to gain any, for good."""
    control(SET_NO_NEW_PRIVILEGES, 1)
    for capability in range(LAST_CAPABILITY + 1):
        try:
            control(DROP_CAPABILITY, capability)
        except OSError:
            break  # past the last, or none to give up
    head = struct.pack("<Ii", 0x20080522, 0)
    _done(_libc().capset(head, bytes(24)), "capset")


def landlock_version() -> int:
    """Return the version of Landlock that the kernel has, 0 for none."""
    none = ctypes.c_void_p(None)
    found = _libc().syscall(CREATE_RULES, none, ctypes.c_size_t(0), 1)
    return max(int(found), 0)


def landlock(
    readable: Iterable[tuple[str, bool]], writable: Iterable[str]
) -> None:
    """Let the process open nothing but what is named here.

    Args:
        readable: What `without` yields.
        writable: Folders in which anything may be done.
    """
    version = landlock_version()
    if not version:
        raise OSError(0, "this kernel has no Landlock, or it is switched off")
    files = (1 << 13) - 1
    for bit, since in ((13, 2), (14, 3), (15, 5)):
        files |= (version >= since) << bit
    network = 3 if version >= 4 else 0  # to bind and to connect
    scopes = 3 if version >= 6 else 0  # abstract sockets, and signals
    size = 8 if version < 4 else 16 if version < 6 else 24
    about = struct.pack("<QQQ", files, network, scopes)[:size]
    rules = _done(
        _libc().syscall(CREATE_RULES, about, ctypes.c_size_t(size), 0),
        "landlock_create_ruleset",
    )
    try:
        for path, whole in readable:
            _allow(rules, path, READ if whole else READ_DIR)
        for path in writable:
            _allow(rules, path, files)
        control(SET_NO_NEW_PRIVILEGES, 1)
        _done(_libc().syscall(RESTRICT_SELF, rules, 0), "landlock")
    finally:
        os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it is not there, so there is nothing to allow
    try:
        if not Path(path).is_dir():
            rights &= OF_A_FILE
        rule = struct.pack("<Qi", rights, handle)
        _done(_libc().syscall(ADD_RULE, rules, 1, rule, 0), path)
    finally:
        os.close(handle)


def without(
    trees: Sequence[str], hidden: Sequence[str]
) -> Iterator[tuple[str, bool]]:
    """Divide trees into parts that hold nothing hidden.

    Args:
        trees: Files and folders.
        hidden: What to leave out, with all that is below.

    Yields:
        Files and folders, and whether they may be read with all that is
        below. Of those that hold something hidden, only names may be.
    """
    for tree in trees:
        if any(_is_in(tree, path) for path in hidden):
            continue
        below = [path for path in hidden if _is_in(path, tree)]
        yield tree, not below
        if below and os.path.isdir(tree):
            parts = [os.path.join(tree, n) for n in sorted(os.listdir(tree))]
            yield from without(
                [p for p in parts if not os.path.islink(p)], below
            )


def _is_in(path: str, tree: str) -> bool:
    return path == tree or path.startswith(tree.rstrip("/") + "/")
