"""Workloads in their own processes."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.worker import PEAK_MEMORY, STATUS, Worker
from jaxnets.errors import CheckFailedError, MachineError

PROGRAM = """
import os, sys
from jaxnets.errors import CheckFailedError

class Workload:
    def __init__(self, shared):
        if shared == "refuse":
            raise CheckFailedError("no such weights")
        self.shared = shared
    def shared_data(self):
        return {"pid": os.getpid(), "shared": self.shared}
    def allocate(self, size):
        array = bytearray(size)
        array[:: 4096] = bytes(len(array[:: 4096]))
    def faults(self):
        import resource
        self.allocate(1 << 24)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            self.allocate(1 << 24)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    def modules(self):
        return sorted(sys.modules)
    def fail(self, text):
        raise ValueError(text)
    def die(self):
        os._exit(9)
"""


@pytest.fixture
def workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type:
    """A class that both processes can import."""
    (tmp_path / "jaxnets_test_workload.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "jaxnets_test_workload", raising=False)
    import jaxnets_test_workload

    return jaxnets_test_workload.Workload


def test_calls_run_in_another_process_that_ends(workload: type) -> None:
    with Worker(workload, [1, 2], keep_memory=True) as worker:
        first, second = worker.call("shared_data"), worker.call("shared_data")
        assert first == second
        assert first["shared"] == [1, 2]
        assert first["pid"] == worker._process.pid
    assert worker._process.returncode == 0


def test_neither_jax_nor_torch_is_imported(workload: type) -> None:
    with Worker(workload, None, keep_memory=False) as worker:
        assert not {"jax", "torch"} & set(worker.call("modules"))


def test_errors_are_raised_in_the_parent(workload: type) -> None:
    with Worker(workload, None, keep_memory=False) as worker:
        with pytest.raises(RuntimeError, match="ValueError: too hot"):
            worker.call("fail", "too hot")
        assert worker.call("shared_data")["shared"] is None  # it still answers
    with pytest.raises(CheckFailedError, match="no such weights"):
        Worker(workload, "refuse", keep_memory=False)


def test_an_import_error_is_raised(workload: type, tmp_path: Path) -> None:
    (tmp_path / "jaxnets_test_workload.py").write_text("raise OSError('bad disk')")
    with pytest.raises(RuntimeError, match="bad disk"):
        Worker(workload, None, keep_memory=False)


def test_missing_kernels_raise(workload: type, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"none\.so cannot be loaded"):
        Worker(workload, None, keep_memory=False, kernels=tmp_path / "none.so")


def test_the_death_of_a_worker_raises(workload: type) -> None:
    with (
        Worker(workload, None, keep_memory=False) as worker,
        pytest.raises(MachineError, match="exit code 9"),
    ):
        worker.call("die")


def test_torch_workloads_do_not_import_jax() -> None:
    program = "import sys; from benchmarks import torch_workloads; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.skipif(not STATUS.is_file(), reason="no /proc here")
def test_peak_memory_is_that_of_the_worker(workload: type) -> None:
    ours = bytearray(300 << 20)
    ours[::4096] = bytes(len(ours[::4096]))  # the parent uses more
    with Worker(workload, None, keep_memory=False) as worker:
        before = worker.call(PEAK_MEMORY)
        worker.call("allocate", 100 << 20)
        after = worker.call(PEAK_MEMORY)
    assert before < 200 << 20
    assert after - before > 90 << 20
    del ours


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
@pytest.mark.parametrize("keep_memory", [False, True])
def test_the_allocator_setting(workload: type, keep_memory: bool) -> None:
    with Worker(workload, None, keep_memory=keep_memory) as worker:
        assert (worker.call("faults") < 1000) == keep_memory
