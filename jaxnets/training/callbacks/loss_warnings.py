"""Warnings of losses far above chance and of a validation loss that rises. Nothing is changed."""

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
"""A loss of more than so many times ln(classes), the loss of guessing, is called high."""
HIGH_EVALUATIONS = 2
"""A validation loss is called high at so many evaluations in a row.

Running averages of batch statistics may be far off at a single one, early in training.
"""
RISES = 3
"""A validation loss rises that is higher than the one before at so many evaluations in a row..."""
MIN_RISE = 0.05
"""... and in all by this share: near its least value a loss goes up and down by chance."""
MIN_STEPS = 20
"""A training loss is judged by its mean over so many steps, or an epoch: a single batch may be hard."""


@dataclasses.dataclass
class LossWatch:
    """Reads the lines of metrics.jsonl in their order and says what is wrong, each cause once.

    Only cross entropy has a value of chance, so that other losses are never called high.
    """

    config: config_dict.ConfigDict
    warned: list[str] = dataclasses.field(default_factory=list)
    step: int = 0
    total: float = 0.0
    count: int = 0
    training_loss: float | None = None
    recent: list[tuple[float, float | None]] = dataclasses.field(default_factory=list)
    """Validation and training loss of the last evaluations."""
    high: int = 0
    """Evaluations in a row, after the warm-up, whose validation loss is high."""

    def read(self, line: LogRecord) -> str | None:
        """A warning, or None."""
        if line["split"] == "train":
            return self._training(line)
        if line["split"] != "validation":
            return None
        return self._high_validation(line) or self._rising_validation(line)

    def state(self) -> dict[str, Any]:
        """What it remembers, as JSON."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "config"]
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        for name, value in state.items():
            setattr(self, name, value)

    def _training(self, line: LogRecord) -> str | None:
        begun, self.step = self.step, line["step"]
        taken, self.training_loss = self.step - begun, line["values"]["loss"]
        steps_per_epoch = max(round(line["step"] / line["epoch"]), 1)
        if not self._has_chance() or begun < self._warmup(steps_per_epoch):
            return None
        self.total, self.count = self.total + taken * self.training_loss, self.count + taken
        if self.count < min(MIN_STEPS, steps_per_epoch):
            return None
        mean, self.total, self.count = self.total / self.count, 0.0, 0
        model, weight = self.config.model, self.config.train.auxiliary_weight
        published = models.entry(model.name).auxiliary_weight if model.auxiliary_heads else 0.0
        if published:
            published = published if weight is None else weight
        chance = self._chance() * (1 + 2 * published)  # two auxiliary heads at most add their loss
        if not mean > FACTOR * chance:  # nor where it is not a number, which ends the run
            return None
        return self._warn_high("training", mean, chance)

    def _high_validation(self, line: LogRecord) -> str | None:
        steps_per_epoch = max(round(line["step"] / line["epoch"]), 1)
        if not self._has_chance() or line["step"] <= self._warmup(steps_per_epoch):
            return None
        loss = line["values"]["loss"]
        self.high = self.high + 1 if loss > FACTOR * self._chance() else 0
        if self.high < HIGH_EVALUATIONS:
            return None
        return self._warn_high("validation", loss, self._chance())

    def _warn_high(self, split: str, loss: float, chance: float) -> str | None:
        return self._once(
            f"high {split} loss",
            f"the {split} loss is {loss:.4g} at step {self.step}, more than {FACTOR:g} times the "
            f"{chance:.3g} of guessing: training may be diverging. {self._advice()}",
        )

    def _has_chance(self) -> bool:
        return self.config.train.loss not in SQUARED_ERRORS

    def _chance(self) -> float:
        """The loss of guessing."""
        return math.log(max(self.config.model.num_classes, 2))

    def _warmup(self, steps_per_epoch: int) -> int:
        return steps(self.config, "schedule.warmup_", steps_per_epoch) or 0

    def _rising_validation(self, line: LogRecord) -> str | None:
        self.recent = [*self.recent, (line["values"]["loss"], self.training_loss)][-RISES - 1 :]
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
            f"{last:.4g} at step {line['step']}, and the training loss went from {before:.4g} to {now:.4g}"
        )
        if now < (1 + MIN_RISE) * before:
            return self._once(
                "overfitting",
                f"{rise}: the network may be overfitting. Try "
                "--config.early_stopping.patience=5 with --config.eval.use_best=True, more augmentation "
                f"or a larger --config.optimizer.weight_decay. {self._elsewhere}",
            )
        return self._once(
            "rising validation loss",
            f"{rise}: the learning rate may be too high. {self._advice()}",
        )

    def _advice(self) -> str:
        """What to try, with values."""
        config = self.config
        tries = [
            f"--config.optimizer.learning_rate={config.optimizer.learning_rate / 10:.2g} "
            f"(now {config.optimizer.learning_rate:g})",
            "a longer warm-up (--config.schedule.warmup_epochs)",
        ]
        if config.train.clip_grad_norm is None:
            tries.append("--config.train.clip_grad_norm=1.0")
        return f"Try {' or '.join((', '.join(tries[:-1]), tries[-1]))}. {self._elsewhere}"

    _elsewhere = "A changed config needs another --workdir"

    def _once(self, cause: str, text: str) -> str | None:
        if cause in self.warned:
            return None
        self.warned = [*self.warned, cause]
        return text


def loss_warnings(config: config_dict.ConfigDict, lines: Iterable[LogRecord]) -> list[str]:
    """The warnings that a run of `config` printed that wrote these lines of metrics.jsonl."""
    watch = LossWatch(config)
    return [text for text in map(watch.read, lines) if text is not None]


class WarnOfLosses(Callback):
    """Prints the warnings of a LossWatch. A resumed run repeats none of them."""

    def __init__(self, config: config_dict.ConfigDict, console: Console):
        self._watch, self._console = LossWatch(config), console

    def log(self, run: Run, line: LogRecord) -> None:
        text = self._watch.read(line)
        if text is not None:
            self._console.print(f"{'warning':<10}{text}", markup=False, highlight=False)

    def state(self) -> dict[str, Any]:
        return self._watch.state()

    def restore(self, state: dict[str, Any]) -> None:
        self._watch.restore(state)
