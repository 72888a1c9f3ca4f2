"""Stops a run that no longer improves."""

from jaxnets.training.callbacks.base import Monitor
from jaxnets.training.run import Run


class EarlyStopping(Monitor):
    """Stops after `patience` (0 means 1) evaluations in a row without improvement, as Keras's callback."""

    stored = ("best", "waited")

    def __init__(self, metric: str, *, patience: int, min_delta: float = 0.0):
        super().__init__(metric, min_delta)
        self._patience, self.waited = patience, 0

    def on_evaluate(self, run: Run, metrics: dict[str, float]) -> None:
        self.waited = 0 if self.improved(metrics) else self.waited + 1
        if self.waited >= max(self._patience, 1):
            count = "1 evaluation" if self.waited == 1 else f"{self.waited} evaluations"
            best = "" if self.best is None else f" over {self.best:.4g}"
            run.stop(f"{self.metric} has not improved{best} for {count}")
