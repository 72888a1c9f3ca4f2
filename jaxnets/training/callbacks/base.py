"""What a hook is."""

from typing import Any

from jaxnets.training.run import LogRecord, Run
from jaxnets.training.step import Metrics


class Callback:
    """Something that happens beside training; override what is needed.

    A callback may read the run, write files, change the learning rate (`run.scale_learning_rate`), request
    a checkpoint (`run.request_checkpoint`) or stop training (`run.stop`). Checkpoints store its `state()`,
    which must be JSON; `restore` gets it back on resume.
    """

    per_step = True
    """Whether `step`, where there is one, must be called after every step: then no call takes several."""

    @property
    def name(self) -> str:
        """The key of its state in checkpoints."""
        return type(self).__name__

    def start(self, run: Run) -> None:
        """Before the first step; after `restore` where the run is resumed."""

    def step(self, run: Run, metrics: Metrics) -> None:
        """After every step, or every call of several. `metrics` are sums of the last step, on the device:
        reading one waits for it.
        """

    @classmethod
    def needs_every_step(cls) -> bool:
        """True where `step` is overridden and has to hear of each one."""
        return cls.per_step and cls.step is not Callback.step

    def log(self, run: Run, line: LogRecord) -> None:
        """After every line of metrics.jsonl, of training, of validation and of a test that is followed."""

    def epoch(self, run: Run, metrics: dict[str, float]) -> None:
        """After every validation, one an epoch by default: metrics "loss", "accuracy"."""

    def end(self, run: Run) -> None:
        """When the loop is left, also by an error."""

    def state(self) -> dict[str, Any]:
        """What it remembers, as JSON."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""


class Monitor:
    """Whether a watched metric got better: "validation_loss" goes down, "validation_accuracy" up."""

    def __init__(self, metric: str, min_delta: float = 0.0):
        self._key = metric.removeprefix("validation_")
        self._sign = -1.0 if self._key == "loss" else 1.0
        self._min_delta = min_delta
        self.best: float | None = None

    def better(self, metrics: dict[str, float]) -> bool:
        """True where the metric beats the best so far, which it then becomes. NaN never does."""
        value = metrics[self._key]
        if value != value or (
            self.best is not None and self._sign * (value - self.best) <= self._min_delta
        ):
            return False
        self.best = value
        return True
