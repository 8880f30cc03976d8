"""What becomes of memory that training frees: kept for speed, or returned.

A training step frees hundreds of MiB and soon wants them again. Left alone,
the C library hands some of them back to the system, which clears every page
before it comes again, and keeps the rest in pieces too small to be used.
"""

import ctypes
import os

# mallopt(3) of glibc: the names of two settings.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_memory() -> bool:
    """Keep what is freed for the next tensor: fastest.

    Large pages are torch's own option. It looks at it when it makes its first
    tensor, so call this early.

    Returns:
        Whether the C library took the setting, as glibc does; with others
        nothing changes.
    """
    return _set_thresholds(mmap_bytes=2**30, trim_bytes=2**31 - 1)


def return_memory() -> bool:
    """Return what is freed to the system at once: smallest.

    Returns:
        As `keep_memory`.
    """
    return _set_thresholds(mmap_bytes=2**19, trim_bytes=2**20)


def _set_thresholds(mmap_bytes: int, trim_bytes: int) -> bool:
    """Say from which size on a block comes from the system by itself.

    Args:
        mmap_bytes: Such a block is returned when it is freed.
        trim_bytes: As much may lie free at the end of the others.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):
        return False
    settings = {_MMAP_THRESHOLD: mmap_bytes, _TRIM_THRESHOLD: trim_bytes}
    return all([mallopt(name, value) for name, value in settings.items()])
