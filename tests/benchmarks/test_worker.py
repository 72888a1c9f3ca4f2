"""Sides in processes of their own."""

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

class Side:
    def __init__(self, shared):
        if shared == "refuse":
            raise CheckFailedError("no such weights")
        self.shared = shared
    def share(self):
        return {"from": os.getpid(), "shared": self.shared}
    def hold(self, size):
        kept = bytearray(size)
        kept[:: 4096] = bytes(len(kept[:: 4096]))
    def faults(self):
        import resource
        self.hold(1 << 24)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            self.hold(1 << 24)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    def modules(self):
        return sorted(sys.modules)
    def fail(self, text):
        raise ValueError(text)
    def die(self):
        os._exit(9)
"""


@pytest.fixture
def side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type:
    """A class that both processes can import."""
    (tmp_path / "jaxnets_test_side.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "jaxnets_test_side", raising=False)
    import jaxnets_test_side

    return jaxnets_test_side.Side


def test_calls_go_to_another_process_that_ends(side: type) -> None:
    with Worker(side, [1, 2], keep_memory=True) as worker:
        first, second = worker.call("share"), worker.call("share")
        assert first == second
        assert first["shared"] == [1, 2]
        assert first["from"] == worker._process.pid
    assert worker._process.returncode == 0


def test_neither_jax_nor_torch_is_loaded_unasked(side: type) -> None:
    with Worker(side, None, keep_memory=False) as worker:
        assert not {"jax", "torch"} & set(worker.call("modules"))


def test_errors_come_back(side: type) -> None:
    with Worker(side, None, keep_memory=False) as worker:
        with pytest.raises(RuntimeError, match="ValueError: too hot"):
            worker.call("fail", "too hot")
        assert worker.call("share")["shared"] is None  # and it goes on
    with pytest.raises(CheckFailedError, match="no such weights"):
        Worker(side, "refuse", keep_memory=False)


def test_a_side_that_cannot_be_imported_is_told(side: type, tmp_path: Path) -> None:
    (tmp_path / "jaxnets_test_side.py").write_text("raise OSError('bad disk')")
    with pytest.raises(RuntimeError, match="bad disk"):
        Worker(side, None, keep_memory=False)


def test_kernels_that_are_not_there_are_told(side: type, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"none\.so cannot be loaded"):
        Worker(side, None, keep_memory=False, kernels=tmp_path / "none.so")


def test_a_death_is_told(side: type) -> None:
    with (
        Worker(side, None, keep_memory=False) as worker,
        pytest.raises(MachineError, match="exit code 9"),
    ):
        worker.call("die")


def test_pytorchs_side_loads_without_jax() -> None:
    program = "import sys; from benchmarks import torch_workloads; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.skipif(not STATUS.is_file(), reason="no /proc here")
def test_the_most_memory_is_the_process_s_own(side: type) -> None:
    ours = bytearray(300 << 20)
    ours[::4096] = bytes(len(ours[::4096]))  # what starts it holds more
    with Worker(side, None, keep_memory=False) as worker:
        before = worker.call(PEAK_MEMORY)
        worker.call("hold", 100 << 20)
        after = worker.call(PEAK_MEMORY)
    assert before < 200 << 20
    assert after - before > 90 << 20
    del ours


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
@pytest.mark.parametrize("keep_memory", [False, True])
def test_freed_memory_is_kept_or_not(side: type, keep_memory: bool) -> None:
    with Worker(side, None, keep_memory=keep_memory) as worker:
        assert (worker.call("faults") < 1000) == keep_memory
