"""Warnings about a loss far above chance level and about a rising validation loss."""

import itertools
import math
from collections.abc import Iterable

from ml_collections import config_dict

from jaxnets import models
from jaxnets.config import SQUARED_ERRORS, steps
from jaxnets.runtime import console
from jaxnets.training.run import Callback, LogRecord, Run

FACTOR = 2.0  # a loss above this multiple of ln(classes), the chance level, is high
HIGH_EVALUATIONS = 2
"""... at so many evaluations in a row: early in training, running batch statistics may be far off at one."""
RISES, MIN_RISE = 3, 0.05
"""A validation loss is rising if it increases at this many evaluations in a row, and by this fraction in
total: near its minimum a loss fluctuates."""
MIN_STEPS = 20  # the training loss is averaged over this many steps, or an epoch


def loss_warnings(config: config_dict.ConfigDict, records: Iterable[LogRecord]) -> list[str]:
    """Returns the warnings of a run of `config` with these records of metrics.jsonl."""
    callback = WarnOfLosses(config)
    return [text for text in map(callback.read, records) if text is not None]


class WarnOfLosses(Callback):
    """Reads the records in order and prints each kind of warning once; a resumed run does not repeat them."""

    stored = ("warned", "step", "total", "count", "training_loss", "recent", "high")

    def __init__(self, config: config_dict.ConfigDict):
        self._config = config
        self._chance: float | None = None
        if config.train.loss not in SQUARED_ERRORS:
            self._chance = math.log(max(config.model.num_classes, 2))
        self.warned: list[str] = []
        self.step, self.total, self.count = 0, 0.0, 0
        self.training_loss: float | None = None
        self.recent: list[tuple[float, float | None]] = []  # validation and training losses of evaluations
        self.high = 0  # evaluations in a row, after warmup, with a high validation loss

    def on_log(self, run: Run, record: LogRecord) -> None:
        if text := self.read(record):
            console.warn(text)

    def read(self, record: LogRecord) -> str | None:
        """Returns a warning, or None."""
        checks = {"train": (self._high_training,), "validation": (self._high_validation, self._rising)}
        for check in checks.get(record["split"], ()):
            found = check(record)
            if found is not None and found[0] not in self.warned:
                self.warned = [*self.warned, found[0]]
                return f"{found[1]}. A changed config needs a new --workdir"
        return None

    def _high_training(self, record: LogRecord) -> tuple[str, str] | None:
        previous, self.step = self.step, record["step"]
        taken, self.training_loss = self.step - previous, record["values"]["loss"]
        (warmup, steps_per_epoch), chance = self._warmup(record), self._chance
        if chance is None or previous < warmup:
            return None
        self.total, self.count = self.total + taken * self.training_loss, self.count + taken
        if self.count < min(MIN_STEPS, steps_per_epoch):
            return None
        mean, self.total, self.count = self.total / self.count, 0.0, 0
        model, weight = self._config.model, self._config.train.auxiliary_weight
        default = models.entry(model.name).auxiliary_weight if model.auxiliary_heads else 0.0
        if default:
            chance *= 1 + 2 * (default if weight is None else weight)  # at most two heads add their loss
        return self._high(record, "training", mean, chance) if mean > FACTOR * chance else None

    def _high_validation(self, record: LogRecord) -> tuple[str, str] | None:
        loss, chance = record["values"]["loss"], self._chance
        if chance is None or record["step"] <= self._warmup(record)[0]:
            return None
        self.high = self.high + 1 if loss > FACTOR * chance else 0
        return self._high(record, "validation", loss, chance) if self.high >= HIGH_EVALUATIONS else None

    def _high(self, record: LogRecord, split: str, loss: float, chance: float) -> tuple[str, str]:
        return f"high {split} loss", (
            f"the {split} loss is {loss:.4g} at step {record['step']}, more than {FACTOR:g} times the "
            f"{chance:.3g} of random guessing: training may be diverging. {self._advice()}"
        )

    def _rising(self, record: LogRecord) -> tuple[str, str] | None:
        self.recent = [*self.recent, (record["values"]["loss"], self.training_loss)][-RISES - 1 :]
        losses = [validation for validation, _ in self.recent]
        if len(losses) <= RISES or any(b <= a for a, b in itertools.pairwise(losses)):
            return None
        (first, before), (last, now) = self.recent[0], self.recent[-1]
        if last < (1 + MIN_RISE) * first or before is None or now is None:
            return None
        rise = (
            f"the validation loss has risen at {RISES} evaluations in a row, from {first:.4g} to "
            f"{last:.4g} at step {record['step']}, and the training loss went from {before:.4g} to {now:.4g}"
        )
        if now < (1 + MIN_RISE) * before:
            return "overfitting", (
                f"{rise}: the network may be overfitting. Try --config.early_stopping.patience=5 with "
                "--config.eval.use_best=True, more augmentation or a larger --config.optimizer.weight_decay"
            )
        return "rising validation loss", f"{rise}: the learning rate may be too high. {self._advice()}"

    def _warmup(self, record: LogRecord) -> tuple[int, int]:
        """Returns the steps of warmup and of an epoch."""
        steps_per_epoch = max(round(record["step"] / record["epoch"]), 1)
        return steps(self._config, "schedule.warmup_", steps_per_epoch) or 0, steps_per_epoch

    def _advice(self) -> str:
        rate, clip = self._config.optimizer.learning_rate, self._config.train.clip_grad_norm
        lower = f"--config.optimizer.learning_rate={rate / 10:.2g} (now {rate:g})"
        warmup = "longer warmup (--config.schedule.warmup_epochs)"
        if clip is None:
            return f"Try {lower}, {warmup} or --config.train.clip_grad_norm=1.0"
        return f"Try {lower} or {warmup}"
