"""The processor, its cores and the accelerators of this machine."""

import os
import platform
from pathlib import Path

import jax

CPUINFO = Path("/proc/cpuinfo")
WIDEST = {"avx512f": "AVX-512", "avx2": "AVX2"}
"""By flag, the widest vectors first: machines that share a name differ by half in speed for want of them."""


def cpu_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def description() -> str:
    """The devices in words, such as "2 cores of AMD EPYC, AVX2" or "1 NVIDIA H200"."""
    kind = jax.devices()[0].device_kind
    if jax.default_backend() == "cpu":
        return f"{cpu_threads()} cores of {processor()}"
    return f"{jax.device_count()} {kind}"


def processor() -> str:
    """The CPU's name and its widest vector instructions, such as "AMD EPYC, AVX2"."""
    if not CPUINFO.is_file():
        return platform.processor() or platform.machine()
    message: dict[str, str] = {}
    for line in CPUINFO.read_text().splitlines():
        field, _, value = line.partition(":")
        message.setdefault(field.strip(), value.strip())
    name = message.get("model name") or platform.processor() or platform.machine()
    has = message.get("flags", "").split()
    vectors = next((words for flag, words in WIDEST.items() if flag in has), None)
    return f"{name}, {vectors}" if vectors else name
