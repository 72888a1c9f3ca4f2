"""Hooks that stop a run."""

from typing import Any

from jaxnets.training.callbacks.base import Callback, Monitor
from jaxnets.training.run import LogRecord, Run, require_finite


class EarlyStopping(Callback):
    """Stops at the `patience`-th evaluation in a row without gain, as Keras's EarlyStopping does.

    0 is taken as 1. What early stopping calls a gain is more than `min_delta` over the best value.
    """

    def __init__(self, metric: str, *, patience: int, min_delta: float = 0.0):
        self._monitor = Monitor(metric, min_delta)
        self._metric, self._patience = metric, patience
        self._data_wait_seconds = 0

    def epoch(self, run: Run, metrics: dict[str, float]) -> None:
        if self._monitor.better(metrics):
            self._data_wait_seconds = 0
            return
        self._data_wait_seconds += 1
        if self._data_wait_seconds >= self._patience:
            count = (
                "1 evaluation"
                if self._data_wait_seconds == 1
                else f"{self._data_wait_seconds} evaluations"
            )
            best = "" if self._monitor.best is None else f" over {self._monitor.best:.4g}"
            run.stop(f"{self._metric} has not improved{best} for {count}")

    def state(self) -> dict[str, Any]:
        return {"best": self._monitor.best, "waited": self._data_wait_seconds}

    def restore(self, state: dict[str, Any]) -> None:
        self._monitor.best, self._data_wait_seconds = state["best"], state["waited"]


class StopOnNonFinite(Callback):
    """Raises DivergedError at the first logged loss or gradient norm that is not a finite number."""

    def log(self, run: Run, line: LogRecord) -> None:
        require_finite(line["values"], line["split"], line["step"])
