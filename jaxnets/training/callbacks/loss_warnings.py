"""Warnings about a loss far above chance level and about a rising validation loss."""

import dataclasses
import itertools
import math
from collections.abc import Iterable
from typing import Any

from ml_collections import config_dict
from rich.console import Console

from jaxnets import models
from jaxnets.config import SQUARED_ERRORS, steps
from jaxnets.training.callbacks.base import Callback
from jaxnets.training.run import LogRecord, Run

FACTOR = 2.0
"""A loss above this multiple of ln(classes), the chance level, is high."""
HIGH_EVALUATIONS = 2
"""A validation loss must be high at this many evaluations in a row.

Early in training the running batch statistics may be far off at a single one.
"""
RISES = 3
"""A validation loss is rising if it increases at this many evaluations in a row..."""
MIN_RISE = 0.05
"""... and by this fraction in total: near its minimum a loss fluctuates."""
MIN_STEPS = 20
"""The training loss is averaged over this many steps, or an epoch."""


@dataclasses.dataclass
class LossWatch:
    """Reads the records of metrics.jsonl in order and returns each kind of warning once.

    Only cross entropy has a chance level, so other losses are never high.
    """

    config: config_dict.ConfigDict
    warned: list[str] = dataclasses.field(default_factory=list)
    step: int = 0
    total: float = 0.0
    count: int = 0
    training_loss: float | None = None
    recent: list[tuple[float, float | None]] = dataclasses.field(default_factory=list)
    """Validation and training losses of the last evaluations."""
    high: int = 0
    """The number of evaluations in a row, after warmup, with a high validation loss."""

    def read(self, record: LogRecord) -> str | None:
        """Returns a warning, or None."""
        if record["split"] == "train":
            return self._training(record)
        if record["split"] != "validation":
            return None
        return self._high_validation(record) or self._rising_validation(record)

    def state(self) -> dict[str, Any]:
        """Returns the state to store in checkpoints, as JSON."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "config"]
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the result of `state`."""
        for name, value in state.items():
            setattr(self, name, value)

    def _training(self, record: LogRecord) -> str | None:
        previous, self.step = self.step, record["step"]
        taken, self.training_loss = self.step - previous, record["values"]["loss"]
        steps_per_epoch = max(round(record["step"] / record["epoch"]), 1)
        if not self._has_chance() or previous < self._warmup(steps_per_epoch):
            return None
        self.total, self.count = self.total + taken * self.training_loss, self.count + taken
        if self.count < min(MIN_STEPS, steps_per_epoch):
            return None
        mean, self.total, self.count = self.total / self.count, 0.0, 0
        model, weight = self.config.model, self.config.train.auxiliary_weight
        default = models.entry(model.name).auxiliary_weight if model.auxiliary_heads else 0.0
        if default:
            default = default if weight is None else weight
        chance = self._chance() * (1 + 2 * default)  # two auxiliary heads at most add their loss
        if not mean > FACTOR * chance:  # also for NaN, which ends the run
            return None
        return self._warn_high("training", mean, chance)

    def _high_validation(self, record: LogRecord) -> str | None:
        steps_per_epoch = max(round(record["step"] / record["epoch"]), 1)
        if not self._has_chance() or record["step"] <= self._warmup(steps_per_epoch):
            return None
        loss = record["values"]["loss"]
        self.high = self.high + 1 if loss > FACTOR * self._chance() else 0
        if self.high < HIGH_EVALUATIONS:
            return None
        return self._warn_high("validation", loss, self._chance())

    def _warn_high(self, split: str, loss: float, chance: float) -> str | None:
        return self._once(
            f"high {split} loss",
            f"the {split} loss is {loss:.4g} at step {self.step}, more than {FACTOR:g} times the "
            f"{chance:.3g} of random guessing: training may be diverging. {self._advice()}",
        )

    def _has_chance(self) -> bool:
        return self.config.train.loss not in SQUARED_ERRORS

    def _chance(self) -> float:
        """Returns the chance level of the loss."""
        return math.log(max(self.config.model.num_classes, 2))

    def _warmup(self, steps_per_epoch: int) -> int:
        return steps(self.config, "schedule.warmup_", steps_per_epoch) or 0

    def _rising_validation(self, record: LogRecord) -> str | None:
        self.recent = [*self.recent, (record["values"]["loss"], self.training_loss)][-RISES - 1 :]
        losses = [validation for validation, _ in self.recent]
        if len(losses) <= RISES or any(b <= a for a, b in itertools.pairwise(losses)):
            return None
        (first, before), (last, now) = self.recent[0], self.recent[-1]
        if last < (1 + MIN_RISE) * first:
            return None
        if before is None or now is None:
            return None
        rise = (
            f"the validation loss has risen at {RISES} evaluations in a row, from {first:.4g} to "
            f"{last:.4g} at step {record['step']}, and the training loss went from {before:.4g} to {now:.4g}"
        )
        if now < (1 + MIN_RISE) * before:
            return self._once(
                "overfitting",
                f"{rise}: the network may be overfitting. Try "
                "--config.early_stopping.patience=5 with --config.eval.use_best=True, more augmentation "
                f"or a larger --config.optimizer.weight_decay. {self._new_workdir}",
            )
        return self._once(
            "rising validation loss",
            f"{rise}: the learning rate may be too high. {self._advice()}",
        )

    def _advice(self) -> str:
        """Returns suggestions with values."""
        config = self.config
        tries = [
            f"--config.optimizer.learning_rate={config.optimizer.learning_rate / 10:.2g} "
            f"(now {config.optimizer.learning_rate:g})",
            "longer warmup (--config.schedule.warmup_epochs)",
        ]
        if config.train.clip_grad_norm is None:
            tries.append("--config.train.clip_grad_norm=1.0")
        return f"Try {' or '.join((', '.join(tries[:-1]), tries[-1]))}. {self._new_workdir}"

    _new_workdir = "A changed config needs a new --workdir"

    def _once(self, cause: str, text: str) -> str | None:
        if cause in self.warned:
            return None
        self.warned = [*self.warned, cause]
        return text


def loss_warnings(config: config_dict.ConfigDict, records: Iterable[LogRecord]) -> list[str]:
    """Returns the warnings of a run of `config` with these records of metrics.jsonl."""
    watch = LossWatch(config)
    return [text for text in map(watch.read, records) if text is not None]


class WarnOfLosses(Callback):
    """Prints the warnings of a LossWatch; a resumed run does not repeat them."""

    def __init__(self, config: config_dict.ConfigDict, console: Console):
        self._watch, self._console = LossWatch(config), console

    def log(self, run: Run, record: LogRecord) -> None:
        text = self._watch.read(record)
        if text is not None:
            self._console.print(f"{'warning':<10}{text}", markup=False, highlight=False)

    def state(self) -> dict[str, Any]:
        return self._watch.state()

    def restore(self, state: dict[str, Any]) -> None:
        self._watch.restore(state)
