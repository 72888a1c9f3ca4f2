"""Tuning of glibc malloc: freed memory is reused instead of returned to the system."""

import ctypes
import platform

# The numbers of glibc's mallopt parameters, from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
TOP_PAD_BYTES = 64 << 20
ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_TOP_PAD_": str(TOP_PAD_BYTES),
}
"""Environment variables with the same effect for a new process and its children."""

_is_tuned = False


def is_tuned() -> bool:
    """Whether `retain_freed_memory` has succeeded."""
    return _is_tuned


def retain_freed_memory() -> bool:
    """Makes glibc's allocator retain large freed blocks; returns True on success.

    On CPUs XLA allocates its temporaries with malloc at every call. By default glibc maps and unmaps blocks
    of that size, and the page faults take a third of a ResNet training step. The cost is that the process
    retains its peak memory. Call this before the first large allocation.
    """
    global _is_tuned
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = (
        (M_ARENA_MAX, 1),
        (M_MMAP_MAX, 0),  # never use mmap for a block
        (M_TRIM_THRESHOLD, -1),  # never trim; 2**31 - 1 is less than one step's temporaries
        (M_TOP_PAD, TOP_PAD_BYTES),
    )
    _is_tuned = all(libc.mallopt(name, value) == 1 for name, value in settings)
    return _is_tuned
