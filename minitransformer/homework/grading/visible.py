"""What a learner's process may see: files, folders, and its environment."""

import os
import site
import sys
import sysconfig
from pathlib import Path

import numpy as np
import torch

from minitransformer.homework.honesty import PACKAGE

# Of this folder, what a learner's process needs; the rest it can't read.
NEEDED = ("__init__.py", "checking.py", "honesty.py", "inside")
SYSTEM = (
    "/usr",
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/sbin",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/nix/store",
    "/sys/devices/system/cpu",
)


def readable() -> list[str]:
    """Return the files and folders that Python and torch need."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = [*SYSTEM, str(PACKAGE)]
    paths += [path for name in names if (path := sysconfig.get_path(name))]
    paths += [*site.getsitepackages(), site.getusersitepackages()]
    paths += [str(sysconfig.get_config_var("LIBDIR") or "")]
    paths += [str(Path(m.__file__ or "").parents[1]) for m in (np, torch)]
    real = sorted({os.path.realpath(path) for path in paths if path})
    kept: list[str] = []
    for path in real:
        inside = kept and path.startswith(kept[-1].rstrip("/") + "/")
        if os.path.exists(path) and path != "/" and not inside:
            kept.append(path)
    return kept


def import_path(trees: list[str]) -> list[str]:
    """Return the folders of ``sys.path`` that stay readable."""
    real = [os.path.realpath(path) for path in sys.path if path]
    return [
        path
        for path in dict.fromkeys(real)
        if any((path + "/").startswith(tree + "/") for tree in trees)
        and not str(PACKAGE).startswith(path + "/minitransformer")
    ]


def hidden() -> list[str]:
    """Return what no learner's code may read of this package."""
    folder = PACKAGE / "homework"
    return [str(path) for path in folder.iterdir() if path.name not in NEEDED]


def environment(box: str) -> dict[str, str]:
    """Return the environment of a learner's process."""
    found = {
        "HOME": box,
        "TMPDIR": box,
        "MPLCONFIGDIR": box,
        "MPLBACKEND": "agg",
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "USER": "learner",
        "LOGNAME": "learner",
        "MALLOC_ARENA_MAX": "2",  # else each thread reserves much memory
    }
    for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        found[f"{name}_NUM_THREADS"] = "1"
    if os.name == "nt":  # without these, Windows starts no Python
        for name in ("SYSTEMROOT", "PATH", "TEMP"):
            found[name] = os.environ.get(name, "")
    return found
