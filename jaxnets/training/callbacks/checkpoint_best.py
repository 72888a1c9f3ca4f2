"""Checkpoints of the best metric."""

from typing import Any

from jaxnets.training.callbacks.base import Callback, Monitor
from jaxnets.training.run import Run


class CheckpointBest(Callback):
    """Requests a protected checkpoint whenever the monitored metric is the best so far."""

    def __init__(self, metric: str):
        self._monitor = Monitor(metric)

    def epoch(self, run: Run, metrics: dict[str, float]) -> None:
        if self._monitor.improved(metrics):
            run.request_checkpoint(best=True)

    def state(self) -> dict[str, Any]:
        return {"best": self._monitor.best}

    def restore(self, state: dict[str, Any]) -> None:
        self._monitor.best = state["best"]
