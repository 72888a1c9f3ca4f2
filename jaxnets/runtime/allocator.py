"""Keep memory that was freed, instead of giving it back to the system at every step."""

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
"""The same for a process that is started with these variables, whatever it runs, and for its own children."""

_is_set = False


def is_kept() -> bool:
    """Whether `keep_freed_memory` was called, and did it."""
    return _is_set


def keep_freed_memory() -> bool:
    """Has glibc's allocator keep large blocks; True where that was done.

    XLA on CPUs takes its temporaries from the C allocator at every call. glibc maps and unmaps blocks
    that large, so each step faults its pages in anew, which costs a third of a ResNet's step. The price
    is that the process keeps its peak memory. To be called before the first large allocation.
    """
    global _is_set
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = (
        (M_ARENA_MAX, 1),
        (M_MMAP_MAX, 0),  # no block gets a mapping of its own
        (M_TRIM_THRESHOLD, -1),  # never give back; 2**31 - 1 is less than one step's temporaries
        (M_TOP_PAD, TOP_PAD_BYTES),
    )
    _is_set = all(libc.mallopt(name, value) == 1 for name, value in settings)
    return _is_set
