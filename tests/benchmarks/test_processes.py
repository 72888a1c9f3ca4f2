"""Two processes of one core over one process of two."""

import os
from typing import Any, ClassVar

import numpy as np
import pytest

from benchmarks import processes
from benchmarks.processes import ALONE, ONE, TORCH_ONE, TORCH_TWO, TWO, JaxnetsProcess, Run, measure
from jaxnets.errors import CheckFailedError, MachineError

STEPS_PER_SECOND = {
    (JaxnetsProcess, 1): 4.0,
    (JaxnetsProcess, 2): 3.0,
    (processes.TorchProcess, 1): 2.0,
    (processes.TorchProcess, 2): 1.0,
}


class FakeWorker:
    """A worker with a fixed speed; the second of two is slower by half."""

    started: ClassVar[list[tuple[Run, set[int]]]] = []
    torch_loss = 1.0

    def __init__(self, make: Any, shared: Any, **options: Any):
        self._class, self._run = make.func, make.keywords["run"]
        assert (shared is None) == (self._class is JaxnetsProcess)
        assert options["environment"]["XLA_FLAGS"]
        self.started.append((self._run, os.sched_getaffinity(0)))

    def call(self, method: str, *arguments: Any) -> Any:
        if method == "steps_per_second":
            assert arguments[0] >= 2
            return STEPS_PER_SECOND[self._class, self._run.count] / (1 + self._run.rank)
        losses = np.array([1.0, 0.9]) * (1 if self._class is JaxnetsProcess else self.torch_loss)
        return {"global_losses": losses, "shared_data": {}, "peak_memory": 2**30}[method]

    def __enter__(self) -> "FakeWorker":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns the cores of this process, which are at least two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core")
    monkeypatch.setattr(FakeWorker, "started", [])
    monkeypatch.setattr(processes, "has_torch", lambda: True)
    return cores


def test_speeds_of_two_processes_over_one(two_cores: list[int]) -> None:
    run = Run("lenet5", 28, 16)
    (row,) = measure(run, rounds=3, seconds=1.0, kernels=None, worker_class=FakeWorker)
    assert row["images_per_second"] == {
        ONE: [64.0] * 3,
        TWO: [24.0] * 3,  # of the slower process
        ALONE: [64.0] * 3,
        TORCH_ONE: [32.0] * 3,
        TORCH_TWO: [8.0] * 3,
    }
    assert (row["ours"], row["theirs"], row["ratio"]) == (0.375, 0.25, 1.5)
    assert row["name"] == "processes/lenet5/28/16"
    both, (first, second) = set(two_cores[:2]), two_cores[:2]
    ranks = [(each.count, each.rank, cores) for each, cores in FakeWorker.started]
    alone = [(1, 0, {first}), (1, 0, {second})]
    assert sorted(ranks[:5], key=str) == sorted(
        [(1, 0, both), (2, 0, {first}), (2, 1, {second}), *alone], key=str
    )
    assert [each.batch_size for each, cores in FakeWorker.started if each.count == 1 and len(cores) == 1] == [
        8,
        8,
    ]
    assert len({each.address for each, _ in FakeWorker.started if each.count == 2}) == 2
    assert os.sched_getaffinity(0) == set(two_cores)


def test_other_losses_are_refused(two_cores: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeWorker, "torch_loss", 1.01)
    with pytest.raises(CheckFailedError, match="is not measured"):
        measure(Run("lenet5", 28, 16), rounds=1, seconds=1.0, kernels=None, worker_class=FakeWorker)


def test_one_core_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with pytest.raises(MachineError, match="needs 2 cores, here is 1"):
        measure(Run("lenet5", 28, 16), rounds=1, seconds=1.0, kernels=None, worker_class=FakeWorker)


def test_shards_are_the_batch() -> None:
    batch = {"index": np.arange(16)}
    shards = [Run("lenet5", 28, 16, rank, 2).shard(batch)["index"] for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate(shards), batch["index"])


@pytest.mark.slow
def test_real_processes() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    (row,) = measure(Run("lenet5", 28, 16), rounds=1, seconds=0.1, kernels=None)
    assert all(speed > 0 for speeds in row["images_per_second"].values() for speed in speeds)
