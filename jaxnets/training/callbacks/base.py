"""The base class of callbacks, and of those that monitor a metric."""

from typing import Any

from jaxnets.training.run import LogRecord, Run
from jaxnets.training.step import Metrics


class Callback:
    """Base class of callbacks; override the methods that are needed.

    A callback may read the run, write files, change the learning rate (`run.scale_learning_rate`), request
    a checkpoint (`run.request_checkpoint`) or stop training (`run.stop`).
    """

    per_step = True
    """Whether an overridden `on_step_end` must run after every step: calls of several steps are disabled."""
    stored: tuple[str, ...] = ()
    """Attributes that checkpoints store, as JSON."""

    @property
    def name(self) -> str:
        """The key of the callback's state in checkpoints."""
        return type(self).__name__

    def on_train_begin(self, run: Run) -> None:
        """Called before the first step; after `restore` if the run is resumed."""

    def on_step_end(self, run: Run, metrics: Metrics) -> None:
        """Called after every step, or call of several steps, with the last one's sums, on the device."""

    def on_log(self, run: Run, record: LogRecord) -> None:
        """Called with every record of metrics.jsonl: training, validation and a monitored test."""

    def on_evaluate(self, run: Run, metrics: dict[str, float]) -> None:
        """Called after every validation, by default once per epoch, with "loss" and "accuracy"."""

    def on_train_end(self, run: Run) -> None:
        """Called at the end of training, also after an error."""

    def state(self) -> dict[str, Any]:
        """Returns the state to store in checkpoints, as JSON."""
        return {name: getattr(self, name) for name in self.stored}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the result of `state`."""
        for name in self.stored:
            setattr(self, name, state[name])


class Monitor(Callback):
    """Compares "validation_loss" (lower is better) or "validation_accuracy" (higher) with its best value."""

    stored = ("best",)

    def __init__(self, metric: str, min_delta: float = 0.0):
        self.metric, self._min_delta = metric, min_delta
        self.best: float | None = None

    def improved(self, metrics: dict[str, float]) -> bool:
        """True if the metric is better than the best by more than `min_delta`, never for NaN; updates it."""
        value = metrics[self.metric.removeprefix("validation_")]
        sign = -1.0 if self.metric == "validation_loss" else 1.0
        if value != value or (self.best is not None and sign * (value - self.best) <= self._min_delta):
            return False
        self.best = value
        return True
