"""What the system gives a process, and settings of one that does nothing but code pictures."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of glibc's mallopt


def processors() -> int:
    """Number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare() -> None:
    """Make a process quick at coding; for commands, not for libraries.  Before NumPy is imported.

    BLAS gets one thread: `threads` shares the work out already, and idle BLAS threads wait busily.
    Freed memory is kept: networks free and take the same hundreds of megabytes for every layer, and
    to get them zeroed by the system each time is a third of their time.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_MAX, 0)
            mallopt(_ARENA_MAX, 1)  # a thread's own would be given back
            mallopt(_TRIM_THRESHOLD, 2**31 - 1)
