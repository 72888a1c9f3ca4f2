"""Callbacks that stop a run."""

from typing import Any

from jaxnets.training.callbacks.base import Callback, Monitor
from jaxnets.training.run import LogRecord, Run, check_finite


class EarlyStopping(Callback):
    """Stops after `patience` evaluations in a row without improvement, as Keras's EarlyStopping.

    An improvement is a change of more than `min_delta`; a `patience` of 0 means 1.
    """

    def __init__(self, metric: str, *, patience: int, min_delta: float = 0.0):
        self._monitor = Monitor(metric, min_delta)
        self._metric, self._patience = metric, patience
        self._wait = 0

    def epoch(self, run: Run, metrics: dict[str, float]) -> None:
        if self._monitor.improved(metrics):
            self._wait = 0
            return
        self._wait += 1
        if self._wait >= self._patience:
            count = "1 evaluation" if self._wait == 1 else f"{self._wait} evaluations"
            best = "" if self._monitor.best is None else f" over {self._monitor.best:.4g}"
            run.stop(f"{self._metric} has not improved{best} for {count}")

    def state(self) -> dict[str, Any]:
        return {"best": self._monitor.best, "waited": self._wait}

    def restore(self, state: dict[str, Any]) -> None:
        self._monitor.best, self._wait = state["best"], state["waited"]


class StopOnNonFinite(Callback):
    """Raises DivergedError if a logged loss or gradient norm is not finite."""

    def log(self, run: Run, record: LogRecord) -> None:
        check_finite(record["values"], record["split"], record["step"])
