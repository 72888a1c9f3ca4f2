"""What a row is measured with: code version, kernels and background load."""

import hashlib
import time
from pathlib import Path

import jaxnets
from benchmarks.schema import Conditions
from jaxnets.experiment import environment
from jaxnets.runtime import console

CPUINFO, BFLOAT16_FLAGS = Path("/proc/cpuinfo"), {"amx_bf16", "avx512_bf16"}
MAX_BACKGROUND_LOAD = 0.1
"""Fraction of the cores in use above which speeds are unreliable."""


def code_conditions(kernels: Path | None) -> Conditions:
    """Returns the code version and the file name of the kernels library."""
    return {"code": code_version(), "kernels_library": kernels.name if kernels else None}


def code_version() -> str | None:
    """The git tree of the package, with a hash of uncommitted changes; None outside a checkout.

    Unlike a commit it does not change with docs and results.
    """
    folder = Path(jaxnets.__file__).parent
    if not (tree := environment.git_output(folder, "rev-parse", "HEAD:./")):
        return None
    changes = environment.git_output(folder, "diff", "HEAD", ".")
    return tree + (f"+{hashlib.sha256(changes.encode()).hexdigest()[:12]}" if changes else "")


def measurement_conditions(kernels: Path | None) -> Conditions:
    """Returns all conditions of a row, and prints a warning if other processes use the cores."""
    load = background_load()
    if load is not None and load > MAX_BACKGROUND_LOAD:
        console.warn(f"other processes use {load:.0%} of the cores: wait for them")
    return {**code_conditions(kernels), "busy_before": load}


def has_bfloat16() -> bool:
    """Returns whether the processor has AMX or AVX512-BF16, without which bfloat16 is slow."""
    return CPUINFO.is_file() and not BFLOAT16_FLAGS.isdisjoint(CPUINFO.read_text().split())


def background_load(seconds: float = 1.0) -> float | None:
    """Returns the fraction of all cores in use while this process sleeps; None without /proc/stat."""
    before = _core_times()
    time.sleep(seconds)
    after = _core_times()
    if before is None or after is None:
        return None
    return 1 - (after[0] - before[0]) / max(after[1] - before[1], 1)


def _core_times() -> tuple[int, int] | None:
    """Returns idle time and total time since boot, summed over all cores."""
    path = Path("/proc/stat")
    if not path.is_file():
        return None
    times = [int(value) for value in path.read_text().split("\n", 1)[0].split()[1:9]]
    return times[3] + times[4], sum(times)
