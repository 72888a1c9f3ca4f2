"""Commands of a workload: output, duration and peak memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.startup import JaxnetsStartup
from benchmarks.subprocess_workload import RESOURCE_USAGE, SubprocessWorkload
from jaxnets.errors import CheckFailedError

ALLOCATE = """
import sys
size = int(sys.argv[1])
array = bytearray(size)
array[::4096] = bytes(len(array[::4096]))
print("allocated")
"""


def _allocate(size: int) -> list[str]:
    return [sys.executable, "-c", ALLOCATE, str(size)]


def test_peak_memory_is_that_of_the_subprocesses() -> None:
    ours = bytearray(300 << 20)
    ours[::4096] = bytes(len(ours[::4096]))  # the parent uses more
    workload = SubprocessWorkload()
    assert workload.peak_memory() is None
    workload.run(_allocate(1), "a small one")
    small = workload.peak_memory()
    assert 0 < small < 100 << 20
    workload.run(_allocate(120 << 20), "a large one")
    large = workload.peak_memory()
    assert 110 << 20 < large - small < 140 << 20
    workload.run(_allocate(1), "a small one")
    assert workload.peak_memory() == large
    del ours


def test_grandchildren_count() -> None:
    program = f"import subprocess; subprocess.run({_allocate(120 << 20)!r}, check=True)"
    workload = SubprocessWorkload()
    assert workload.run([sys.executable, "-c", program], "two").lines == ["allocated"]
    assert workload.peak_memory() > 110 << 20


def test_output_duration_and_options(tmp_path: Path) -> None:
    program = "import os, time; print('a'); time.sleep(0.2); print(os.getcwd(), end='')"
    finished = SubprocessWorkload().run([sys.executable, "-c", program], "this", cwd=tmp_path)
    assert finished.lines == ["a", str(tmp_path)]
    assert 0.2 <= finished.seconds < 60


@pytest.mark.parametrize("end", ["raise SystemExit('no data')", "import os; os.abort()"])
def test_a_failed_command_raises(end: str) -> None:
    program = f"import sys; print('no data', file=sys.stderr, flush=True); {end}"
    with pytest.raises(CheckFailedError, match="a start failed: .*no data"):
        SubprocessWorkload().run([sys.executable, "-c", program], "a start")


def test_each_first_start_builds_its_kernels() -> None:
    shape: dict[str, Any] = {"network": "lenet5", "image_size": 28, "batch_size": 4}
    workload = JaxnetsStartup(None, warm=False, kernels=None, builds_kernels=True, **shape)
    first, second = (workload._arguments()[-1] for _ in range(2))
    workload._folder.cleanup()
    assert first != second
    assert not Path(first).exists()


@pytest.mark.slow
def test_a_startup_has_a_peak() -> None:
    workload = JaxnetsStartup(None, warm=False, kernels=None, network="lenet5", image_size=28, batch_size=4)
    assert np.array_equal(workload.outputs(), [44_426])
    assert workload.measure(1.0) > 0
    assert workload.peak_memory() > 100 << 20  # JAX alone takes more
    workload._folder.cleanup()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
def test_the_processor_time_of_an_orphan_counts() -> None:
    """The command ends at once; its child computes for half a second of processor time after that."""
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    program = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {busy!r}])"
    command = [sys.executable, "-I", str(RESOURCE_USAGE), sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    usage = json.loads(done.stdout.splitlines()[-1])
    assert usage["code"] == 0
    assert 0.5 <= usage["processor_seconds"] < 2.0
