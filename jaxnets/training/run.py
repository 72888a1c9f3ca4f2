"""A run in progress, and the base class of the callbacks that read and control it."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import jax
from ml_collections import config_dict

from jaxnets.data.batch import Batch
from jaxnets.data.dataset import IndexBatches, TrainBatches
from jaxnets.errors import CheckpointError, DivergedError, InterruptedRunError
from jaxnets.io import command
from jaxnets.training.checkpoint import Checkpoints, FileRecord
from jaxnets.training.devices import CompiledStep, Devices
from jaxnets.training.on_device import LAST, PER_STEP
from jaxnets.training.optimizer import get_multiplier, set_multiplier
from jaxnets.training.step import Metrics, TrainState, add_metrics


class LogRecord(TypedDict):
    """A line of metrics.jsonl; only records of training have speed and waiting time."""

    step: int
    epoch: float
    split: str
    values: dict[str, float]
    images_per_second: NotRequired[float]
    data_wait: NotRequired[float]


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """Intervals in steps; None disables the event."""

    total_steps: int
    steps_per_epoch: int
    log_every: int
    evaluate_every: int | None
    save_every: int | None
    histograms_every: int | None = None


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

    def on_train_begin(self, run: "Run") -> None:
        """Called before the first step; after `restore` if the run is resumed."""

    def on_step_end(self, run: "Run", metrics: Metrics) -> None:
        """Called after every step, or call of several steps, with the last one's sums, on the device."""

    def on_log(self, run: "Run", record: LogRecord) -> None:
        """Called with every record of metrics.jsonl: training, validation and a monitored test."""

    def on_evaluate(self, run: "Run", metrics: dict[str, float]) -> None:
        """Called after every validation, by default once per epoch, with "loss" and "accuracy"."""

    def on_train_end(self, run: "Run") -> None:
        """Called at the end of training, also after an error."""

    def state(self) -> dict[str, Any]:
        """Returns the state to store in checkpoints, as JSON."""
        return {name: getattr(self, name) for name in self.stored}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the result of `state`."""
        for name in self.stored:
            setattr(self, name, state[name])


@dataclasses.dataclass(kw_only=True)
class Progress:
    """The fields of a run that checkpoints store, in host_state.json, under these names."""

    step: int = 0
    seconds: float = 0.0
    stop_reason: str | None = None
    best_step: int | None = None
    evaluated: int | None = None  # the step of the last evaluation
    interval: dict[str, Any] | None = None  # summed metrics since the last training record
    interval_seconds: float = 0.0
    waited: float = 0.0  # seconds of waiting for data since the last training record
    epoch_sums: dict[str, Any] | None = None
    last_epoch: dict[str, float] | None = None  # mean metrics
    not_bit_exact: bool = False  # resumed under other conditions


@dataclasses.dataclass(kw_only=True)
class Run(Progress):
    """The state of the training loop. Callbacks change it only through its methods."""

    config: config_dict.ConfigDict
    workdir: Path
    plan: TrainingPlan
    devices: Devices
    state: TrainState
    train_step: CompiledStep
    evaluate: Callable[[TrainState], dict[str, dict[str, float]]]  # metrics by split
    batches: TrainBatches | IndexBatches
    checkpoints: Checkpoints
    callbacks: Sequence[Callback]
    learning_rate: Callable[[int], Any]
    determinism_fingerprint: dict[str, Any]
    steps_per_execution: int  # the maximum; if it is above 1, batches are [K, B]
    description: str  # where the examples are stored and how many steps run per call, for the log
    run_files: Callable[[], Mapping[str, FileRecord]] = dict  # the run's other files, for checkpoints
    interrupted: int | None = None  # the signal's number
    saved_step: int | None = None
    _signal: int | None = None
    _checkpoint_requested: bool = False
    _pending: list[tuple[dict[str, Any], int]] = dataclasses.field(default_factory=list)

    def stop(self, reason: str) -> None:
        """Ends training after this step; it cannot be resumed."""
        self.stop_reason = self.stop_reason or reason

    def interrupt(self, signal_number: int) -> None:
        """Ends this process after this step and a save; the same command resumes training."""
        self._signal = self._signal or signal_number
        if self.devices.process_count == 1:
            self.interrupted = self._signal

    def sync_interrupt(self) -> None:
        """Interrupts all processes if one has a signal: they must leave the loop at the same step."""
        self.interrupted = self.devices.all_reduce_max(self._signal)

    def check_interrupted(self) -> None:
        """Raises InterruptedRunError after a signal; evaluation calls this before every batch."""
        if self.interrupted is not None:
            raise InterruptedRunError("the evaluation was interrupted", self.interrupted)

    def request_checkpoint(self, *, best: bool = False) -> None:
        """Requests a checkpoint at this step; `best` marks it as the best so far."""
        self._checkpoint_requested = True
        if best:
            self.best_step = self.step

    def scale_learning_rate(self, value: float) -> None:
        """Multiplies the scheduled learning rate by `value` from the next step on."""
        opt_state = set_multiplier(self.state.opt_state, value)
        self.state = dataclasses.replace(self.state, opt_state=opt_state)

    @property
    def epoch(self) -> float:
        """The number of epochs so far, with decimals."""
        return self.step / self.plan.steps_per_epoch

    @property
    def ending(self) -> bool:
        """True if no further step will run."""
        stopped = self.stop_reason is not None or self.interrupted is not None
        return stopped or self.step >= self.plan.total_steps

    def log_due(self) -> bool:
        """True once per interval and after the last step."""
        return self.step % self.plan.log_every == 0 or self.step == self.plan.total_steps

    def evaluation_due(self) -> bool:
        """True once per interval and at the end, unless the run is interrupted."""
        every = self.plan.evaluate_every
        if every is None or self.step in (0, self.evaluated) or self.interrupted is not None:
            return False
        return self.step % every == 0 or self.ending

    def save_due(self) -> bool:
        """True if the interval or a callback requires a checkpoint; the end does too."""
        every = self.plan.save_every
        return self._checkpoint_requested or (every is not None and self.step % every == 0)

    def next_batch(self) -> tuple[Batch, int]:
        """Returns the sharded batch of the next call and its number of steps, which end at the next event."""
        start, plan = time.perf_counter(), self.plan
        periods = (plan.log_every, plan.evaluate_every, plan.save_every, plan.histograms_every)
        left = [every - self.step % every for every in (*periods, plan.steps_per_epoch) if every]
        batch, steps = self.batches.next_batches(min(plan.total_steps - self.step, *left))
        sharded = self.shard_batch(batch)
        self.waited += time.perf_counter() - start
        return sharded, steps

    def shard_batch(self, batch: Batch) -> Batch:
        """Shards the batch of a call over the devices."""
        return self.devices.shard_batch(batch, axis=1 if self.steps_per_execution > 1 else 0)

    def record_steps(self, metrics: dict[str, Any], steps: int) -> Metrics:
        """Counts the steps of a call and returns the metrics of the last one, still on the device."""
        self.step += steps
        self._pending.append((metrics, steps))
        return metrics[LAST] if self.steps_per_execution > 1 else metrics

    @contextlib.contextmanager
    def training_time(self) -> Iterator[None]:
        """Counts the time of a block as time of training."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.seconds += seconds
        self.interval_seconds += seconds

    def fetch_metrics(self) -> None:
        """Fetches the pending metrics, which waits for the devices, and adds them up in step order."""
        fetched: list[dict[str, Any]] = []
        with self.training_time():
            for metrics, steps in jax.device_get(self._pending):
                rows = metrics.get(PER_STEP, {name: [value] for name, value in metrics.items()})
                fetched += [{name: rows[name][row] for name in rows} for row in range(steps)]
        for number, metrics in enumerate(fetched, self.step - len(fetched) + 1):
            self.interval = add_metrics(self.interval, metrics)
            self.epoch_sums = add_metrics(self.epoch_sums, metrics)
            if number % self.plan.steps_per_epoch == 0:
                self.last_epoch, self.epoch_sums = averages(self.epoch_sums), None
        self._pending = []

    def record(self, split: str, values: dict[str, float]) -> LogRecord:
        """Returns a record of metrics.jsonl at this step."""
        return {"step": self.step, "epoch": self.epoch, "split": split, "values": values}

    def train_record(self) -> LogRecord:
        """Returns the record of the steps since the last one, and starts a new interval."""
        self.fetch_metrics()
        sums, seconds, waited = self.interval or {}, max(self.interval_seconds, 1e-9), self.waited
        self.interval, self.interval_seconds, self.waited = None, 0.0, 0.0
        rate = float(self.learning_rate(max(self.step - 1, 0))) * get_multiplier(self.state.opt_state)
        return {
            **self.record("train", {**averages(sums), "learning_rate": rate}),
            "images_per_second": sums["examples"] / seconds,
            "data_wait": min(waited / seconds, 1.0),
        }

    def save(self) -> None:
        """Writes a checkpoint, unless this step has one: arrays, data position, callbacks and progress."""
        if self.step in (0, self.saved_step):
            return
        self.fetch_metrics()
        check_finite(averages(self.interval) if self.interval else {}, "train", self.step)
        self._checkpoint_requested = False
        host_state = {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(Progress)},
            "data": self.batches.state(),
            "callbacks": {callback.name: callback.state() for callback in self.callbacks},
            "determinism_fingerprint": self.determinism_fingerprint,
        }
        with self.devices.collective_section():  # all processes wait until it is written
            if self.devices.is_process_zero:
                self.checkpoints.save(
                    self.step, self.state, host_state, protect=self.best_step, run_files=self.run_files()
                )
        self.saved_step = self.step

    def resume(self, step: int, *, allow_nondeterministic_resume: bool = False) -> None:
        """Restores a checkpoint; CheckpointError if that is not bit-exact, unless it is allowed."""
        state, host_state = self.checkpoints.restore(step, self.state)
        old, new = host_state["determinism_fingerprint"], self.determinism_fingerprint
        changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        if changed and not allow_nondeterministic_resume:
            listed = ", ".join(f"{name}: {old.get(name)!r} -> {new.get(name)!r}" for name in changed)
            raise CheckpointError(
                f"resuming at step {step} would not be bit-exact ({listed}); "
                f"{_kernels_hint(old, new)}pass --allow_nondeterministic_resume to resume anyway"
            )
        for field in dataclasses.fields(Progress):
            setattr(self, field.name, host_state[field.name])
        self.not_bit_exact |= bool(changed)
        self.saved_step = self.step
        self.state = self.devices.replicate(state)
        self.batches.restore(host_state["data"])
        for callback in self.callbacks:
            if callback.name in host_state["callbacks"]:
                callback.restore(host_state["callbacks"][callback.name])


def _kernels_hint(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """How to use the C++ kernels of the resumed run's determinism fingerprint `old`."""
    if old.get("kernels") == new.get("kernels"):
        return ""
    if "kernels" not in old:
        return "--nokernels continues without the C++ kernels, as the run began; "
    if "kernels" not in new:
        return f"the run began with the C++ kernels: leave out --nokernels, or {command('build_kernels')}; "
    return "the C++ kernels have been built again since the run began; "


def check_finite(values: Mapping[str, float], split: str, step: int) -> None:
    """Raises DivergedError if a value is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"training diverged: {split} {name} is {value} by step {step}; "
                "the last checkpoint is older. Try a lower --config.optimizer.learning_rate, "
                "warmup or --config.train.clip_grad_norm, in a new --workdir"
            )


def averages(sums: dict[str, Any]) -> dict[str, float]:
    """Returns means over examples, or over steps for the gradient norm and a loss that is a sum."""
    loss = sums["loss"] / sums.get("weight_sum", sums["steps"])
    accuracy = {"accuracy": sums["correct"] / sums["examples"]} if "correct" in sums else {}
    return {"loss": loss, **accuracy, "gradient_norm": sums["gradient_norm"] / sums["steps"]}
