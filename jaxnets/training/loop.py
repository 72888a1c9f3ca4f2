"""The training loop and the base class of its callbacks."""

from typing import Any

from jaxnets.errors import InterruptedRunError
from jaxnets.training.run import LogRecord, Run, check_finite
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


def train(run: Run) -> None:
    """Trains until the last step, until a callback stops the run, or until a signal interrupts it.

    Callbacks are called in the order of `run.callbacks`. A call of several steps ends where an event is due.
    """
    try:
        for callback in run.callbacks:
            callback.on_train_begin(run)
        while True:
            if run.evaluation_due():
                _evaluate(run)
            ending = run.ending  # read once: a signal may arrive at any moment
            if run.stop_reason is not None:
                run.fetch_metrics()
                if run.interval is not None:  # a short run may have no other record
                    _log(run, run.train_record())
            if ending or run.save_due():
                run.save()
            if ending:
                return
            with run.training_time():
                batch, steps = run.next_batch()
                run.state, metrics = run.train_step(run.state, batch)
            metrics = run.record_steps(metrics, steps)
            if run.log_due():
                _log(run, run.train_record())
                run.sync_interrupt()
            elif run.ending or run.evaluation_due() or run.save_due():
                run.fetch_metrics()  # so that steps in flight count as training time
            for callback in run.callbacks:
                callback.on_step_end(run, metrics)
    finally:
        for callback in run.callbacks:
            callback.on_train_end(run)


def _evaluate(run: Run) -> None:
    try:
        scores = run.evaluate(run.state)
    except InterruptedRunError:
        return  # the resumed run evaluates again
    run.evaluated = run.step
    for split, metrics in scores.items():
        _log(run, run.record(split, metrics))
    if "validation" in scores:
        for callback in run.callbacks:
            callback.on_evaluate(run, scores["validation"])


def _log(run: Run, record: LogRecord) -> None:
    for callback in run.callbacks:
        callback.on_log(run, record)
    check_finite(record["values"], record["split"], record["step"])
