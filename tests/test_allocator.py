"""The allocator: what is freed stays, in a process of its own."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from minitransformer.allocator import keep_memory, return_memory

needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries have no knob"
)

# How often does the system hand out a page, while one tensor of 48 MiB after
# another is made and dropped?
FAULTS = """
import resource
import torch
from minitransformer.allocator import keep_memory, return_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

{first}
torch.ones(12 * 2**20)
before = faults()
for _ in range(10):
    torch.ones(12 * 2**20)
print(faults() - before)
"""


def pages_after(script, first):
    """Count pages in a process that does ``first`` at first."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "THP_MEM_ALLOC_ENABLE" and not name.startswith("MALLOC_")
    }
    done = subprocess.run(
        [sys.executable, "-c", script.format(first=first)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@needs_glibc
def test_pages_come_once():
    kept = [pages_after(FAULTS, "assert keep_memory()") for _ in range(3)]
    # Otherwise 48 MiB come anew each time, be it in pages of 2 MiB.
    usual = pages_after(FAULTS, "pass")
    assert usual > 200
    assert pages_after(FAULTS, "assert return_memory()") > 200
    # A busy system takes a large page away and brings it back as 512 small
    # ones: so the least of three, and little beside 120,000 small ones.
    assert min(kept) < max(100, usual / 100)


# What does a process hold, after tensors of all sizes came and went, and a
# small one of each time stayed?
HELD = """
import random
import torch
from minitransformer.allocator import keep_memory, return_memory

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

{first}
torch.ones(1)
before, stay, rng = held(), [], random.Random(0)
for _ in range(40):
    large = [torch.ones(rng.randrange(2**18, 2**21)) for _ in range(6)]
    stay.append(torch.ones(2**10))
print(held() - before)
"""


@needs_glibc
def test_memory_is_returned():
    returned = pages_after(HELD, "assert return_memory()")
    kept = pages_after(HELD, "assert keep_memory()")
    assert returned * 4096 < 6 * 4 * 2**21 + 2**23
    assert returned < kept


def test_a_choice_of_your_own_stays(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    keep_memory()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


@pytest.mark.parametrize("problem", [AttributeError, TypeError, OSError])
def test_other_systems_go_on_as_they_were(problem, monkeypatch):
    def refuse(name):
        raise problem("no such thing here")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert not keep_memory()
    assert not return_memory()
