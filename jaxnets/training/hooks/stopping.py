"""Hooks that stop a run."""

from typing import Any

from jaxnets.training.hooks.base import Hook, Monitor
from jaxnets.training.run import Line, Run, require_finite


class EarlyStopping(Hook):
    """Stops when the watched metric has not gained for more than `patience` evaluations in a row."""

    def __init__(self, metric: str, *, patience: int, least_gain: float = 0.0):
        self._monitor = Monitor(metric, least_gain)
        self._metric, self._patience = metric, patience
        self._waited = 0

    def epoch(self, run: Run, metrics: dict[str, float]) -> None:
        self._waited = 0 if self._monitor.better(metrics) else self._waited + 1
        if self._waited > self._patience:
            run.stop(f"{self._metric} has not gained for {self._waited} evaluations")

    def state(self) -> dict[str, Any]:
        return {"best": self._monitor.best, "waited": self._waited}

    def restore(self, state: dict[str, Any]) -> None:
        self._monitor.best, self._waited = state["best"], state["waited"]


class StopOnNonFinite(Hook):
    """Raises DivergedError at the first logged loss or gradient norm that is not a finite number."""

    def log(self, run: Run, line: Line) -> None:
        require_finite(line["values"], line["split"], line["step"])
