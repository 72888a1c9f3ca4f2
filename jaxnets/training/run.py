"""A run in progress, which callbacks may read and control through its methods."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import jax
from ml_collections import config_dict

from jaxnets.errors import CheckpointError, DivergedError
from jaxnets.training.checkpoint import Checkpoints, FileRecord
from jaxnets.training.devices import CompiledStep, Devices
from jaxnets.training.on_device import LAST, PER_STEP
from jaxnets.training.optimizer import get_multiplier, set_multiplier
from jaxnets.training.preprocess import Batch
from jaxnets.training.state import TrainState
from jaxnets.training.step import Metrics, add_metrics

if TYPE_CHECKING:
    from jaxnets.training.callbacks import Callback

LATER_CONDITIONS = ("x64", "xla_flags")
"""Conditions that earlier versions did not record in checkpoints; if missing, they count as unchanged."""
KERNELS_HINT = "--nokernels disables the C++ kernels; "
LogRecord = dict[str, Any]
"""A line of metrics.jsonl: step, epoch, split, values and, for training, images_per_second and data_wait."""


class EvaluationStoppedError(Exception):
    """A signal interrupted an evaluation."""


@dataclasses.dataclass(frozen=True)
class Cadence:
    """Intervals in steps; None disables the event."""

    total_steps: int
    steps_per_epoch: int
    log_every: int
    evaluate_every: int | None
    save_every: int | None
    histograms_every: int | None = None


class Batches(Protocol):
    """An endless iterator over training batches with a position that can be saved."""

    def next_batches(self, max_steps: int) -> tuple[Batch, int]: ...
    def example_batches(self) -> Iterator[Batch]: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


@dataclasses.dataclass
class Run:
    """The state of the training loop. Callbacks change it only through its methods."""

    config: config_dict.ConfigDict
    workdir: Path
    plan: Cadence
    devices: Devices
    state: TrainState
    train_step: CompiledStep
    evaluate: Callable[[TrainState], dict[str, dict[str, float]]]  # metrics by split
    batches: Batches
    checkpoints: Checkpoints
    callbacks: "Sequence[Callback]"
    learning_rate: Callable[[int], Any]
    determinism_fingerprint: dict[str, Any] = dataclasses.field(default_factory=dict)
    run_files: Callable[[], Mapping[str, FileRecord]] = dict
    """Returns the records of the run's other files, for the checkpoint."""
    steps_per_execution: int = 1
    """The maximum; if it is above 1, batches are [K, B]."""
    description: str = ""
    """Where the examples are stored and how many steps run per call, for the log."""

    step: int = 0
    seconds: float = 0.0
    stop_reason: str | None = None
    not_bit_exact: bool = False  # resumed under other conditions
    interrupted: int | None = None  # the signal's number
    best_step: int | None = None
    saved_step: int | None = None
    last_epoch: dict[str, Any] | None = None
    _signal: int | None = None
    _evaluated: int | None = None
    _checkpoint_requested: bool = False
    _pending: list[tuple[dict[str, Any], int]] = dataclasses.field(default_factory=list)
    _interval: dict[str, Any] | None = None
    _epoch: dict[str, Any] | None = None
    _interval_seconds: float = 0.0
    _data_wait_seconds: float = 0.0

    def stop(self, reason: str) -> None:
        """Ends training after this step; it cannot be resumed."""
        self.stop_reason = self.stop_reason or reason

    def interrupt(self, signal_number: int) -> None:
        """Ends this process after this step and a save; the same command resumes training."""
        self._signal = self._signal or signal_number
        if self.devices.process_count == 1:
            self.interrupted = self._signal

    def request_checkpoint(self, *, best: bool = False) -> None:
        """Requests a checkpoint at this step; `best` marks it as the best so far."""
        self._checkpoint_requested = True
        if best:
            self.best_step = self.step

    def scale_learning_rate(self, value: float) -> None:
        """Multiplies the scheduled learning rate by `value` from the next step on."""
        opt_state = set_multiplier(self.state.opt_state, value)
        self.state = dataclasses.replace(self.state, opt_state=opt_state)

    def current_learning_rate(self) -> float:
        """Returns the learning rate of the last step, or of the first one before training."""
        scheduled = float(self.learning_rate(max(self.step - 1, 0)))
        return scheduled * get_multiplier(self.state.opt_state)

    @property
    def epoch(self) -> float:
        """The number of epochs so far, with decimals."""
        return self.step / self.plan.steps_per_epoch

    @property
    def ending(self) -> bool:
        """True if no further step will run."""
        return (
            self.step >= self.plan.total_steps or self.stop_reason is not None or self.interrupted is not None
        )

    def evaluation_due(self) -> bool:
        """True once per interval and at the end, unless the run is interrupted."""
        if self._evaluated == self.step or self.step == 0 or self.interrupted is not None:
            return False
        every = self.plan.evaluate_every
        return every is not None and (self.step % every == 0 or self.ending)

    def save_due(self, *, ending: bool) -> bool:
        """True if the interval, a callback or the end requires a checkpoint."""
        every = self.plan.save_every
        periodic = every is not None and self.step % every == 0
        due = periodic or self._checkpoint_requested or ending
        return due and self.step > 0 and self.step != self.saved_step

    def at_boundary(self) -> bool:
        """True if an evaluation, a save or the end comes before the next step."""
        return self.ending or self.evaluation_due() or self.save_due(ending=False)

    def evaluate_now(self) -> dict[str, dict[str, float]]:
        """Evaluates and returns the metrics by split; {} after a signal (the resumed run evaluates again)."""
        try:
            scores = self.evaluate(self.state)
        except EvaluationStoppedError:
            return {}
        self._evaluated = self.step
        return scores

    def check_interrupted(self) -> None:
        """Raises EvaluationStoppedError after a signal; evaluation calls this before every batch."""
        if self.interrupted is not None:
            raise EvaluationStoppedError

    def next_batch(self) -> tuple[Batch, int]:
        """Returns the sharded batch of the next call and its number of steps; adds the waiting time."""
        start = time.perf_counter()
        batch, steps = self.batches.next_batches(self._steps_until_event())
        sharded = self.shard_batch(batch)
        self._data_wait_seconds += time.perf_counter() - start
        return sharded, steps

    def shard_batch(self, batch: Batch) -> Batch:
        """Shards the batch of a call over the devices."""
        return self.devices.shard_batch(batch, axis=1 if self.steps_per_execution > 1 else 0)

    def _steps_until_event(self) -> int:
        """The number of steps until the next event or the end of the epoch."""
        plan = self.plan
        periods = (plan.log_every, plan.evaluate_every, plan.save_every, plan.histograms_every)
        left = [every - self.step % every for every in (*periods, plan.steps_per_epoch) if every]
        return min(plan.total_steps - self.step, *left)

    def record_steps(self, metrics: dict[str, Any], steps: int) -> Metrics:
        """Counts the steps of a call and returns the metrics of the last one, still on the device."""
        self.step += steps
        self._pending.append((metrics, steps))
        return metrics[LAST] if self.steps_per_execution > 1 else metrics

    def add_train_seconds(self, seconds: float) -> None:
        """Adds time spent on training steps."""
        self.seconds += seconds
        self._interval_seconds += seconds

    def train_record(self) -> LogRecord:
        """Returns the record of the steps since the last one, and starts a new interval."""
        self.flush_metrics()
        sums, self._interval = self._interval or {}, None
        seconds, self._interval_seconds = self._interval_seconds, 0.0
        waited, self._data_wait_seconds = self._data_wait_seconds, 0.0
        return {
            **self.record("train", averages(sums)),
            "images_per_second": sums["examples"] / max(seconds, 1e-9),
            "data_wait": min(waited / max(seconds, 1e-9), 1.0),
        }

    @property
    def has_unlogged_steps(self) -> bool:
        """True if steps have run since the last training record."""
        return bool(self._pending) or self._interval is not None

    def sync_interrupt(self) -> None:
        """Interrupts all processes if one has a signal: they must leave the loop at the same step."""
        self.interrupted = self.devices.all_reduce_max(self._signal)

    def record(self, split: str, values: dict[str, float]) -> LogRecord:
        """Returns a record of metrics.jsonl at this step."""
        return {"step": self.step, "epoch": self.epoch, "split": split, "values": values}

    def flush_metrics(self) -> None:
        """Fetches the pending metrics and adds them up in step order."""
        fetched = list(_per_step(jax.device_get(self._pending)))
        for number, metrics in enumerate(fetched, self.step - len(fetched) + 1):
            self._interval = add_metrics(self._interval, metrics)
            self._epoch = add_metrics(self._epoch, metrics)
            if number % self.plan.steps_per_epoch == 0:
                self.last_epoch, self._epoch = averages(self._epoch), None
        self._pending = []

    def save(self) -> None:
        """Writes a checkpoint: state, data position, callbacks and determinism fingerprint."""
        self.flush_metrics()
        check_finite(averages(self._interval) if self._interval else {}, "train", self.step)
        self._checkpoint_requested = False
        with self.devices.collective_section():  # all processes wait until it is written
            if self.devices.is_process_zero:
                self.checkpoints.save(
                    self.step,
                    self.state,
                    self._host_state(),
                    protect=self.best_step,
                    run_files=self.run_files(),
                )
        self.saved_step = self.step

    def _host_state(self) -> dict[str, Any]:
        """The part of a checkpoint that is not an array, as JSON."""
        return {
            "step": self.step,
            "data": self.batches.state(),
            "callbacks": {callback.name: callback.state() for callback in self.callbacks},
            "seconds": self.seconds,
            "stop_reason": self.stop_reason,
            "best_step": self.best_step,
            "evaluated": self._evaluated,
            "interval": self._interval,
            "epoch_sums": self._epoch,
            "last_epoch": self.last_epoch,
            "interval_seconds": self._interval_seconds,
            "waited": self._data_wait_seconds,
            "bits": self.determinism_fingerprint,
            "not_bit_exact": self.not_bit_exact,
        }

    def resume(self, step: int, *, allow_nondeterministic_resume: bool = False) -> None:
        """Restores a checkpoint of this run.

        Raises CheckpointError if the result would not be bit-exact, unless that is allowed.
        """
        state, host_state = self.checkpoints.restore(step, self.state)
        changed = _changed(host_state["bits"], self.determinism_fingerprint)
        if changed and not allow_nondeterministic_resume:
            listed = ", ".join(f"{name}: {old!r} -> {new!r}" for name, (old, new) in changed.items())
            raise CheckpointError(
                f"resuming at step {step} would not be bit-exact ({listed}); "
                f"{KERNELS_HINT if 'implementation' in changed else ''}"
                "pass --allow_nondeterministic_resume to resume anyway"
            )
        self.not_bit_exact = bool(changed) or host_state["not_bit_exact"]
        self.state = self.devices.replicate(state)
        self.step = self.saved_step = host_state["step"]
        self.batches.restore(host_state["data"])
        for callback in self.callbacks:
            if callback.name in host_state["callbacks"]:
                callback.restore(host_state["callbacks"][callback.name])
        self.seconds = host_state["seconds"]
        self.stop_reason = host_state["stop_reason"]
        self.best_step = host_state["best_step"]
        self._evaluated = host_state["evaluated"]
        self._interval, self._epoch = host_state["interval"], host_state["epoch_sums"]
        self.last_epoch = host_state["last_epoch"]
        self._interval_seconds = host_state["interval_seconds"]
        self._data_wait_seconds = host_state["waited"]


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the conditions that differ, with both values; None for a missing one."""
    names = (old.keys() | new.keys()) - {name for name in LATER_CONDITIONS if name not in old}
    pairs = {name: (old.get(name), new.get(name)) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _per_step(calls: list[tuple[dict[str, Any], int]]) -> Iterator[dict[str, Any]]:
    """Yields the metrics of single steps from the fetched metrics of calls."""
    for metrics, steps in calls:
        if PER_STEP not in metrics:
            yield metrics
            continue
        lists = {name: values[:steps].tolist() for name, values in metrics[PER_STEP].items()}
        for number in range(steps):
            yield {name: values[number] for name, values in lists.items()}


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
    """Returns the mean loss, accuracy (for classes) and gradient_norm from the sums of training steps.

    A loss that is a sum over the batch is averaged over steps.
    """
    means = {"loss": sums["loss"] / sums.get("weight_sum", sums["steps"])}
    if "correct" in sums:
        means["accuracy"] = sums["correct"] / sums["examples"]
    means["gradient_norm"] = sums["gradient_norm"] / sums["steps"]
    return means
