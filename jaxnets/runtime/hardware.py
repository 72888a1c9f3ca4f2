"""The processor, accelerators and memory allocator of this process."""

import ctypes
import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
WIDEST = {"avx512f": "AVX-512", "avx2": "AVX2"}
"""CPU flags, widest vectors first; cloud CPUs of the same name may lack them and be half as fast."""
MALLOPT = {-8: 1, -4: 0, -1: -1, -2: 64 << 20}
"""Settings of glibc's mallopt by number: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD (never), M_TOP_PAD."""
_retains_freed_memory = False


def cpu_threads() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def description() -> str:
    """Returns a description such as "2 cores of AMD EPYC, AVX2" or "1 NVIDIA H200"."""
    import jax  # not before a script has set up its process

    if jax.default_backend() == "cpu":
        return f"{cpu_threads()} cores of {processor()}"
    return f"{jax.device_count()} {jax.devices()[0].device_kind}"


def processor() -> str:
    """Returns the CPU's name and widest vector instructions, such as "AMD EPYC, AVX2"."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    parts = [line.partition(":") for line in reversed(lines)]  # the first processor's are retained
    fields = {field.strip(): value.strip() for field, _, value in parts}
    name = fields.get("model name") or platform.processor() or platform.machine()
    flags = fields.get("flags", "").split()
    vectors = next((name for flag, name in WIDEST.items() if flag in flags), None)
    return f"{name}, {vectors}" if vectors else name


def retain_freed_memory() -> None:
    """Makes glibc's allocator retain large freed blocks; call this before the first large allocation.

    XLA allocates its temporaries with malloc at every call. By default glibc maps and unmaps such blocks, and
    the page faults take a third of a ResNet training step on CPUs. The process retains its peak memory.
    """
    global _retains_freed_memory
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        _retains_freed_memory = all(libc.mallopt(name, value) == 1 for name, value in MALLOPT.items())


def retains_freed_memory() -> bool:
    """Whether `retain_freed_memory` was called and has succeeded."""
    return _retains_freed_memory
