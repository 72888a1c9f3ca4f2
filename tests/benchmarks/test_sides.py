"""What both sides of a network's row say of their memory, on a card that is not there and on a CPU."""

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


def _theirs(*, on_card: bool) -> torch_workloads.NetworkSide:
    """Without PyTorch and a network: what `peak_memory` reads."""
    side = object.__new__(torch_workloads.NetworkSide)
    side.torch = types.SimpleNamespace(cuda=types.SimpleNamespace(max_memory_allocated=lambda: 7 << 20))
    side.images = types.SimpleNamespace(is_cuda=on_card)
    return side


def test_on_a_card_memory_is_the_card_s(monkeypatch: pytest.MonkeyPatch) -> None:
    card: Any = _Device({"peak_bytes_in_use": 5 << 20, "bytes_in_use": 1 << 20})
    monkeypatch.setattr(jax, "local_devices", lambda: [card])
    assert object.__new__(jax_workloads.TrainingSide).peak_memory() == 5 << 20
    assert _theirs(on_card=True).peak_memory() == 7 << 20


@pytest.mark.skipif(not STATUS.is_file(), reason="no /proc here")
def test_on_a_cpu_memory_is_the_process_s() -> None:
    for side in (object.__new__(jax_workloads.TrainingSide), _theirs(on_card=False)):
        assert side.peak_memory() > 50 << 20  # JAX is loaded here
