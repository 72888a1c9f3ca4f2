"""A run in progress: what hooks may read, and the few things they may ask for."""

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
"""Conditions that checkpoints of earlier versions do not record: absent, they count as unchanged."""
KERNELS_HINT = "--nokernels does without the C++ kernels; "
LogRecord = dict[str, Any]
"""A line of metrics.jsonl: step, epoch, split, values, and for training images_per_second, data_wait."""


class EvaluationStoppedError(Exception):
    """A signal came in an evaluation."""


@dataclasses.dataclass(frozen=True)
class Cadence:
    """Durations in steps; None where there is no such event."""

    total_steps: int
    steps_per_epoch: int
    log_every: int
    evaluate_every: int | None
    save_every: int | None
    histograms_every: int | None = None


class Batches(Protocol):
    """Training batches for ever, a call's at a time, with a position."""

    def next_batches(self, max_steps: int) -> tuple[Batch, int]: ...
    def example_batches(self) -> Iterator[Batch]: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


@dataclasses.dataclass
class Run:
    """What the loop moves forward. Hooks read it; they change it through its methods alone."""

    config: config_dict.ConfigDict
    workdir: Path
    plan: Cadence
    devices: Devices
    state: TrainState
    train_step: CompiledStep
    evaluate: Callable[
        [TrainState], dict[str, dict[str, float]]
    ]  # by split; hooks watch "validation"
    batches: Batches
    checkpoints: Checkpoints
    callbacks: "Sequence[Callback]"
    learning_rate: Callable[[int], Any]
    determinism_fingerprint: dict[str, Any] = dataclasses.field(default_factory=dict)
    run_files: Callable[[], Mapping[str, FileRecord]] = dict
    """What a checkpoint records of the files beside it, as they are when it is called."""
    steps_per_execution: int = 1
    """At most; with more than one a batch is [K, B]."""
    description: str = ""
    """Where the examples lie, and how many steps a call takes, in words."""

    step: int = 0
    seconds: float = 0.0
    stop_reason: str | None = None
    not_bit_exact: bool = False  # gone on under conditions that give other bits
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
        """Ends training after this step, for good: a resume does not go on."""
        self.stop_reason = self.stop_reason or reason

    def interrupt(self, signal_number: int) -> None:
        """Ends this process after this step and a save; the same command goes on from there."""
        self._signal = self._signal or signal_number
        if self.devices.process_count == 1:
            self.interrupted = self._signal

    def request_checkpoint(self, *, best: bool = False) -> None:
        """Asks for a checkpoint at this step, and names it the best one so far."""
        self._checkpoint_requested = True
        if best:
            self.best_step = self.step

    def scale_learning_rate(self, value: float) -> None:
        """Multiplies the scheduled learning rate by `value` from the next step on."""
        opt_state = set_multiplier(self.state.opt_state, value)
        self.state = dataclasses.replace(self.state, opt_state=opt_state)

    def current_learning_rate(self) -> float:
        """The rate of the step that was taken last, or is about to be taken first."""
        scheduled = float(self.learning_rate(max(self.step - 1, 0)))
        return scheduled * get_multiplier(self.state.opt_state)

    @property
    def epoch(self) -> float:
        """Epochs done, as a fraction."""
        return self.step / self.plan.steps_per_epoch

    @property
    def ending(self) -> bool:
        """True when no further step is to be taken now."""
        return (
            self.step >= self.plan.total_steps
            or self.stop_reason is not None
            or self.interrupted is not None
        )

    def evaluation_due(self) -> bool:
        """True once at each multiple of the plan's period, and at the end; never when interrupted."""
        if self._evaluated == self.step or self.step == 0 or self.interrupted is not None:
            return False
        every = self.plan.evaluate_every
        return every is not None and (self.step % every == 0 or self.ending)

    def save_due(self, *, ending: bool) -> bool:
        """True where the period, a hook or the end asks for a checkpoint."""
        every = self.plan.save_every
        periodic = every is not None and self.step % every == 0
        due = periodic or self._checkpoint_requested or ending
        return due and self.step > 0 and self.step != self.saved_step

    def at_boundary(self) -> bool:
        """True when an evaluation, a save or the end comes before the next step."""
        return self.ending or self.evaluation_due() or self.save_due(ending=False)

    def score(self) -> dict[str, dict[str, float]]:
        """Evaluates now, by split; the plan counts it as done at this step.

        Nothing where a signal stopped it: the run that resumes evaluates again.
        """
        try:
            scores = self.evaluate(self.state)
        except EvaluationStoppedError:
            return {}
        self._evaluated = self.step
        return scores

    def check_interrupted(self) -> None:
        """Raises EvaluationStoppedError after a signal; an evaluation calls it before every batch."""
        if self.interrupted is not None:
            raise EvaluationStoppedError

    def next_batch(self) -> tuple[Batch, int]:
        """The batch of the next call, on the devices, and its steps; reading and sending are timed."""
        start = time.perf_counter()
        batch, steps = self.batches.next_batches(self._steps_until_event())
        placed = self.place(batch)
        self._data_wait_seconds += time.perf_counter() - start
        return placed, steps

    def place(self, batch: Batch) -> Batch:
        """A call's batch, laid out for the devices."""
        return self.devices.place(batch, axis=1 if self.steps_per_execution > 1 else 0)

    def _steps_until_event(self) -> int:
        """How many steps may be taken before something else is due by the plan; never beyond an epoch."""
        plan = self.plan
        periods = (plan.log_every, plan.evaluate_every, plan.save_every, plan.histograms_every)
        left = [every - self.step % every for every in (*periods, plan.steps_per_epoch) if every]
        return min(plan.total_steps - self.step, *left)

    def record_steps(self, metrics: dict[str, Any], steps: int) -> Metrics:
        """Counts the steps of a call; the metrics of the last one, all still on the device."""
        self.step += steps
        self._pending.append((metrics, steps))
        return metrics[LAST] if self.steps_per_execution > 1 else metrics

    def add_train_seconds(self, seconds: float) -> None:
        """Counts time spent on training steps."""
        self.seconds += seconds
        self._interval_seconds += seconds

    def train_record(self) -> LogRecord:
        """The line of the steps since the last one, which begins a new interval."""
        self.flush_metrics()
        sums, self._interval = self._interval or {}, None
        seconds, self._interval_seconds = self._interval_seconds, 0.0
        waited, self._data_wait_seconds = self._data_wait_seconds, 0.0
        return {
            **self.line("train", averages(sums)),
            "images_per_second": sums["examples"] / max(seconds, 1e-9),
            "data_wait": min(waited / max(seconds, 1e-9), 1.0),
        }

    @property
    def has_unlogged_steps(self) -> bool:
        """True where steps were taken since the last training line."""
        return bool(self._pending) or self._interval is not None

    def sync_interrupt(self) -> None:
        """Lets an interruption of one process reach all: they must leave the loop at the same step."""
        self.interrupted = self.devices.all_reduce_max(self._signal)

    def line(self, split: str, values: dict[str, float]) -> LogRecord:
        """A line of metrics.jsonl at this step."""
        return {"step": self.step, "epoch": self.epoch, "split": split, "values": values}

    def flush_metrics(self) -> None:
        """Fetches the metrics of the steps since the last time, and adds them up in their order."""
        each = list(_per_step(jax.device_get(self._pending)))
        for number, metrics in enumerate(each, self.step - len(each) + 1):
            self._interval = add_metrics(self._interval, metrics)
            self._epoch = add_metrics(self._epoch, metrics)
            if number % self.plan.steps_per_epoch == 0:
                self.last_epoch, self._epoch = averages(self._epoch), None
        self._pending = []

    def save(self) -> None:
        """Writes a checkpoint of everything: state, data position, hooks, and what the bits depend on."""
        self.flush_metrics()
        require_finite(averages(self._interval) if self._interval else {}, "train", self.step)
        self._checkpoint_requested = False
        with self.devices.collective_section():  # and so no process goes on before it is written
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
        """What a checkpoint holds beside the state."""
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
        """Goes on from a checkpoint of this run.

        Raises CheckpointError where it was made under conditions that give other bits.
        """
        state, host_state = self.checkpoints.restore(step, self.state)
        changed = _changed(host_state["bits"], self.determinism_fingerprint)
        if changed and not allow_nondeterministic_resume:
            description = ", ".join(
                f"{name}: {was!r} then, {now!r} now" for name, (was, now) in changed.items()
            )
            raise CheckpointError(
                f"going on from step {step} would not give the same bits ({description}); "
                f"{KERNELS_HINT if 'implementation' in changed else ''}"
                "go on all the same with --allow_nondeterministic_resume"
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
        self._interval_seconds, self._data_wait_seconds = (
            host_state["interval_seconds"],
            host_state["waited"],
        )


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The conditions that differ, with both values; None for one that is absent."""
    names = (then.keys() | now.keys()) - {name for name in LATER_CONDITIONS if name not in then}
    pairs = {name: (then.get(name), now.get(name)) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _per_step(calls: list[tuple[dict[str, Any], int]]) -> Iterator[dict[str, Any]]:
    """The metrics of single steps, from fetched ones of calls."""
    for metrics, steps in calls:
        if PER_STEP not in metrics:
            yield metrics
            continue
        lists = {name: values[:steps].tolist() for name, values in metrics[PER_STEP].items()}
        for number in range(steps):
            yield {name: values[number] for name, values in lists.items()}


def require_finite(values: dict[str, float], split: str, step: int) -> None:
    """Raises DivergedError at the first value that is not a finite number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"training diverged: {split} {name} is {value} by step {step}; "
                "the last checkpoint is from before. Try a lower --config.optimizer.learning_rate, "
                "a warm-up or --config.train.clip_grad_norm, in another --workdir"
            )


def averages(sums: dict[str, Any]) -> dict[str, float]:
    """Means of training steps from sums and counts: loss, accuracy where there are classes, gradient_norm.

    A loss that is a sum over the batch has no normalizer; its mean is by step.
    """
    means = {"loss": sums["loss"] / sums.get("weight_sum", sums["steps"])}
    if "correct" in sums:
        means["accuracy"] = sums["correct"] / sums["examples"]
    means["gradient_norm"] = sums["gradient_norm"] / sums["steps"]
    return means
