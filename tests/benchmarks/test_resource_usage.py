"""The memory and the processor time of a process and its descendants."""

import os
import subprocess
import sys

import numpy as np

from benchmarks.resource_usage import children_of, memory_with_children, processor_seconds

BYTES = 50_000_000
SPIN = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
CHILD = f"block = b'1' * {BYTES}; print(flush=True); input()"


def test_memory_of_this_process_is_measured() -> None:
    before = memory_with_children(os.getpid())
    block = np.ones(BYTES, np.uint8)
    assert before + 0.9 * block.nbytes < memory_with_children(os.getpid()) < before + 2 * block.nbytes


def test_memory_of_children_is_added() -> None:
    before = memory_with_children(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.pid in children_of(os.getpid())
        assert memory_with_children(os.getpid()) > before + 0.9 * BYTES
        process.communicate(b"\n")
    assert memory_with_children(process.pid) == 0


def test_processor_time_of_running_and_ended_children_is_added() -> None:
    before = processor_seconds(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert processor_seconds(process.pid) >= 0.28  # a clock tick is 10 ms
        assert processor_seconds(os.getpid()) >= before + 0.28
        process.communicate(b"\n")
    assert processor_seconds(os.getpid()) >= before + 0.28
    assert processor_seconds(process.pid) == 0
