"""Commands that a side starts: what they wrote, how long they took, and what they held."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.first_step import OurStart
from benchmarks.subprocess_side import SubprocessSide
from jaxnets.errors import CheckFailedError

HOLD = """
import sys
size = int(sys.argv[1])
held = bytearray(size)
held[::4096] = bytes(len(held[::4096]))
print("held")
"""


def _hold(size: int) -> list[str]:
    return [sys.executable, "-c", HOLD, str(size)]


def test_the_most_memory_is_that_of_the_processes_alone() -> None:
    ours = bytearray(300 << 20)
    ours[::4096] = bytes(len(ours[::4096]))  # what starts them holds more
    side = SubprocessSide()
    assert side.peak_memory() is None
    side.run(_hold(1), "a small one")
    small = side.peak_memory()
    assert 0 < small < 100 << 20
    side.run(_hold(120 << 20), "a large one")
    large = side.peak_memory()
    assert 110 << 20 < large - small < 140 << 20
    side.run(_hold(1), "a small one")
    assert side.peak_memory() == large
    del ours


def test_a_process_of_a_process_counts() -> None:
    program = f"import subprocess; subprocess.run({_hold(120 << 20)!r}, check=True)"
    side = SubprocessSide()
    assert side.run([sys.executable, "-c", program], "two").lines == ["held"]
    assert side.peak_memory() > 110 << 20


def test_lines_and_options_are_handed_on(tmp_path: Path) -> None:
    program = "import os, time; print('a'); time.sleep(0.2); print(os.getcwd(), end='')"
    done = SubprocessSide().run([sys.executable, "-c", program], "this", cwd=tmp_path)
    assert done.lines == ["a", str(tmp_path)]
    assert 0.2 <= done.seconds < 60


@pytest.mark.parametrize("end", ["raise SystemExit('no data')", "import os; os.abort()"])
def test_a_failure_is_told(end: str) -> None:
    program = f"import sys; print('no data', file=sys.stderr, flush=True); {end}"
    with pytest.raises(CheckFailedError, match="a start failed: .*no data"):
        SubprocessSide().run([sys.executable, "-c", program], "a start")


@pytest.mark.slow
def test_a_start_has_its_peak() -> None:
    side = OurStart(None, warm=False, kernels=None, network="lenet5", image_size=28, batch_size=4)
    assert np.array_equal(side.answer(), [44_426])
    assert side.measure(1.0) > 0
    assert side.peak_memory() > 100 << 20  # JAX alone takes more
    side._folder.cleanup()
