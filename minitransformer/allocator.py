"""Ask the system for memory once, and keep it."""

import ctypes
import os

# mallopt(3) of glibc: the names of its settings, and values beyond any block
# that training asks for.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_TRIM_BYTES, _MMAP_BYTES = 2**31 - 1, 2**30


def keep_memory() -> bool:
    """Let what is freed be used again, in large pages, until the process ends.

    A training step frees hundreds of MiB and soon wants them again. By
    default the C library hands them back in between, and the system clears
    every page anew. Large pages are torch's own option; it looks at it when
    it makes its first tensor, so call this early.

    Returns:
        Whether the C library took the setting: glibc does, others go on as
        they were.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):
        return False
    taken = [
        mallopt(_MMAP_THRESHOLD, _MMAP_BYTES),
        mallopt(_TRIM_THRESHOLD, _TRIM_BYTES),
    ]
    return all(taken)
