"""What a row was measured under: the code, the kernels, and how busy the machine was before."""

import time
from pathlib import Path

from benchmarks.measure import Entry
from jaxnets.experiment import environment
from jaxnets.runtime.console import Reporter

CODE, LIBRARY, BUSY_BEFORE = "code", "kernels_library", "busy_before"
MAX_BACKGROUND_LOAD = 0.1
"""A share of the cores in others' use from which speeds cannot be trusted."""


def code_of(kernels: Path | None) -> Entry:
    """`code`, the package's version (`environment.code_version`), and `kernels_library`, by file name."""
    return {CODE: environment.code_version(), LIBRARY: kernels.name if kernels else None}


def circumstances(reporter: Reporter, kernels: Path | None) -> Entry:
    """What `code_of` gives, and `busy_before`, as rows have them; warns where others use the cores."""
    busy = busy_share()
    if busy is not None and busy > MAX_BACKGROUND_LOAD:
        reporter.line("warning", f"other processes use {busy:.0%} of the cores: wait for them")
    return {**code_of(kernels), BUSY_BEFORE: busy}


def busy_share(seconds: float = 1.0) -> float | None:
    """The share of all cores that is in use while we wait; None where there is no /proc/stat."""
    before = _core_times()
    time.sleep(seconds)
    after = _core_times()
    if before is None or after is None:
        return None
    return 1 - (after[0] - before[0]) / max(after[1] - before[1], 1)


def _core_times() -> tuple[int, int] | None:
    """Idle time and all time since the start, of all cores together."""
    path = Path("/proc/stat")
    if not path.is_file():
        return None
    times = [int(value) for value in path.read_text().split("\n", 1)[0].split()[1:9]]
    return times[3] + times[4], sum(times)
