"""Peak memory of network workloads, on a fake GPU and on a CPU."""

import types
from typing import Any

import jax
import pytest

from benchmarks import jax_workloads, torch_workloads
from benchmarks.worker import STATUS


class _Device:
    """A device with memory of its own, or a CPU, which has no statistics."""

    def __init__(self, statistics: dict[str, int] | None):
        self._statistics = statistics

    def memory_stats(self) -> dict[str, int] | None:
        return self._statistics


def _torch_workload(*, on_gpu: bool) -> torch_workloads.NetworkWorkload:
    """A workload with only the attributes that `peak_memory` reads."""
    workload = object.__new__(torch_workloads.NetworkWorkload)
    workload.torch = types.SimpleNamespace(cuda=types.SimpleNamespace(max_memory_allocated=lambda: 7 << 20))
    workload.images = types.SimpleNamespace(is_cuda=on_gpu)
    return workload


def test_on_a_gpu_the_peak_is_that_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu: Any = _Device({"peak_bytes_in_use": 5 << 20, "bytes_in_use": 1 << 20})
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu])
    assert object.__new__(jax_workloads.TrainingWorkload).peak_memory() == 5 << 20
    assert _torch_workload(on_gpu=True).peak_memory() == 7 << 20


@pytest.mark.skipif(not STATUS.is_file(), reason="no /proc here")
def test_on_a_cpu_the_peak_is_that_of_the_process() -> None:
    for workload in (object.__new__(jax_workloads.TrainingWorkload), _torch_workload(on_gpu=False)):
        assert workload.peak_memory() > 50 << 20  # JAX is loaded here
