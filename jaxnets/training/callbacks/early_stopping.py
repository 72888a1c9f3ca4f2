"""Hooks that stop a run."""

from typing import Any

from jaxnets.training.callbacks.base import Hook, Monitor
from jaxnets.training.run import Line, Run, require_finite


class EarlyStopping(Hook):
    """Stops at the `patience`-th evaluation in a row without gain, as Keras's EarlyStopping does.

    0 is taken as 1. What early stopping calls a gain is more than `least_gain` over the best value.
    """

    def __init__(self, metric: str, *, patience: int, least_gain: float = 0.0):
        self._monitor = Monitor(metric, least_gain)
        self._metric, self._patience = metric, patience
        self._waited = 0

    def epoch(self, run: Run, metrics: dict[str, float]) -> None:
        if self._monitor.better(metrics):
            self._waited = 0
            return
        self._waited += 1
        if self._waited >= self._patience:
            count = "1 evaluation" if self._waited == 1 else f"{self._waited} evaluations"
            best = "" if self._monitor.best is None else f" over {self._monitor.best:.4g}"
            run.stop(f"{self._metric} has not improved{best} for {count}")

    def state(self) -> dict[str, Any]:
        return {"best": self._monitor.best, "waited": self._waited}

    def restore(self, state: dict[str, Any]) -> None:
        self._monitor.best, self._waited = state["best"], state["waited"]


class StopOnNonFinite(Hook):
    """Raises DivergedError at the first logged loss or gradient norm that is not a finite number."""

    def log(self, run: Run, line: Line) -> None:
        require_finite(line["values"], line["split"], line["step"])
