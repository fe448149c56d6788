"""Keep freed memory in the process: by default glibc returns it to the system, which clears it before the next use."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of mallopt(3): the number of free bytes at the end of the heap above which glibc returns them to the system,
and the number of allocations that may use a memory map of their own."""


def keep_freed_memory() -> None:
    """Have glibc reuse freed memory for later allocations, so that the system does not clear those pages again.

    This does nothing with another C library, or if the environment sets options of malloc.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
