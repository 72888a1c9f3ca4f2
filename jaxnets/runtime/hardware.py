"""Names of the processor and accelerators of this machine."""

import os
import platform
from pathlib import Path

import jax

CPUINFO = Path("/proc/cpuinfo")
WIDEST = {"avx512f": "AVX-512", "avx2": "AVX2"}
"""CPU flags, widest vectors first; cloud CPUs of the same name may lack them and be half as fast."""


def cpu_threads() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def description() -> str:
    """Returns a description such as "2 cores of AMD EPYC, AVX2" or "1 NVIDIA H200"."""
    if jax.default_backend() == "cpu":
        return f"{cpu_threads()} cores of {processor()}"
    return f"{jax.device_count()} {jax.devices()[0].device_kind}"


def processor() -> str:
    """Returns the CPU's name and widest vector instructions, such as "AMD EPYC, AVX2"."""
    if not CPUINFO.is_file():
        return platform.processor() or platform.machine()
    fields: dict[str, str] = {}
    for line in CPUINFO.read_text().splitlines():
        field, _, value = line.partition(":")
        fields.setdefault(field.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine()
    flags = fields.get("flags", "").split()
    vectors = next((name for flag, name in WIDEST.items() if flag in flags), None)
    return f"{name}, {vectors}" if vectors else name
