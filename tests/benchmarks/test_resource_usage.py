"""The memory and the processor time of a process and its descendants."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.resource_usage import children_of, memory_with_children, processor_seconds

BYTES = 50_000_000
SPIN = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
MEASURE = f"""
import os
from benchmarks.resource_usage import memory_with_children
before = memory_with_children(os.getpid())
block = b"1" * {BYTES}
print(memory_with_children(os.getpid()) - before)
"""
CHILD = f"block = b'1' * {BYTES}; print(flush=True); input()"


def test_memory_of_this_process_is_measured(repository: Path) -> None:
    # In a new process, which has no freed memory to reuse.
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=repository, capture_output=True, check=True)
    assert 0.9 * BYTES < int(done.stdout) < 2 * BYTES


@contextlib.contextmanager
def _child(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has printed a line; it ends with the block."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.communicate(b"\n")


def test_memory_of_children_is_added() -> None:
    before = memory_with_children(os.getpid())
    with _child(CHILD) as process:
        assert process.pid in children_of(os.getpid())
        assert memory_with_children(os.getpid()) > before + 0.9 * BYTES
    assert memory_with_children(process.pid) == 0


def test_processor_time_of_running_and_ended_children_is_added() -> None:
    before = processor_seconds(os.getpid())
    with _child(SPIN) as process:
        assert processor_seconds(process.pid) >= 0.28  # a clock tick is 10 ms
        assert processor_seconds(os.getpid()) >= before + 0.28
    assert processor_seconds(os.getpid()) >= before + 0.28
    assert processor_seconds(process.pid) == 0
