"""What the C library does with memory that is freed: by default it goes back to the system, which clears it anew."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of mallopt(3): free bytes at the end of the heap that are given back, and how many allocations get their own map."""


def keep_freed_memory() -> None:
    """Have glibc keep what this process frees for what it allocates next, whose pages would else be cleared anew.

    Nothing happens where another C library is at work, or where the environment already says how.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
