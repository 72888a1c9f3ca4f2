"""Warnings of losses: what is warned of, once, and that a resumed run neither repeats nor forgets."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ml_collections import config_dict
from rich.console import Console

import jaxnets
from jaxnets import config as configs
from jaxnets.config import default_config
from jaxnets.training.callbacks.loss_warnings import WarnOfLosses, loss_warnings

CLASSES, STEPS_PER_EPOCH = 5, 25


def _config(**changes: Any) -> config_dict.ConfigDict:
    config = default_config()
    config.model.name, config.model.num_classes = "resnet50", CLASSES
    config.optimizer.learning_rate = 0.02
    for path, value in changes.items():
        configs.set_field(config, path.replace("__", "."), value)
    return config


def _lines(
    training: Sequence[float], validation: Sequence[float] = (), steps: int = STEPS_PER_EPOCH
) -> list[dict[str, Any]]:
    """A training line every `steps`, and after it the validation's, where there is one."""
    lines = []
    for number, loss in enumerate(training):
        step = steps * (number + 1)
        at = {"step": step, "epoch": step / STEPS_PER_EPOCH}
        lines.append({**at, "split": "train", "values": {"loss": loss, "accuracy": 0.2}})
        if number < len(validation):
            values = {"loss": validation[number], "accuracy": 0.2}
            lines.append({**at, "split": "validation", "values": values})
    return lines


def test_a_training_loss_above_twice_that_of_guessing_is_warned_of_once() -> None:
    high = 2 * math.log(CLASSES)
    assert loss_warnings(_config(), _lines([0.99 * high] * 4)) == []
    (message,) = loss_warnings(_config(), _lines([1.5, 1.01 * high, 2 * high, 3 * high]))
    assert "at step 50" in message
    for advice in ("learning_rate=0.002 (now 0.02)", "warmup_epochs", "clip_grad_norm=1.0"):
        assert advice in message
    (message,) = loss_warnings(_config(train__clip_grad_norm=1.0), _lines([9.0]))
    assert "clip_grad_norm" not in message


def test_a_validation_loss_far_above_that_of_guessing_is_warned_of() -> None:
    """Batch norm hides a divergence from the training loss: its running averages are what explodes."""
    (message,) = loss_warnings(
        _config(), _lines([1.5, 1.4, 1.2, 1.0, 0.9], [4163.0, 4205885.0, 31984.0, 31000.0, 300.0])
    )
    assert "the validation loss is 4.206e+06 at step 50" in message
    assert "learning_rate=0.002 (now 0.02)" in message
    assert loss_warnings(_config(), _lines([1.5] * 3, [9.0, 1.0, 9.0])) == []
    warmup = {"schedule__warmup_epochs": 2}
    assert loss_warnings(_config(**warmup), _lines([1.5] * 4, [9.0, 9.0, 9.0, 1.0])) == []


def test_the_warm_up_is_left_out() -> None:
    for warmup in ({"schedule__warmup_steps": 26}, {"schedule__warmup_epochs": 2}):
        assert loss_warnings(_config(**warmup), _lines([9.0, 9.0, 1.0])) == []
        assert len(loss_warnings(_config(**warmup), _lines([9.0, 9.0, 9.0]))) == 1


def test_a_single_hard_batch_is_not_a_high_loss() -> None:
    losses = [1.0] * 40
    losses[7] = 20.0
    assert loss_warnings(_config(), _lines(losses, steps=1)) == []
    assert len(loss_warnings(_config(), _lines([4.0] * 40, steps=1))) == 1


@pytest.mark.parametrize(
    ("training", "validation", "expected"),
    [
        ([1.5, 1.2, 0.9, 0.6], [1.0, 1.1, 1.2, 1.3], "overfitting"),
        ([1.5, 1.6, 1.7, 1.8], [1.0, 1.1, 1.2, 1.3], "rate may be too high"),
        ([0.50, 0.51, 0.50, 0.51], [1.0, 1.1, 1.2, 1.3], "overfitting"),
        ([1.5, 1.2, 0.9, 0.6], [1.0, 1.01, 1.02, 1.03], None),
        ([1.5, 1.2, 0.9, 0.6, 0.5], [1.0, 1.1, 1.2, 1.2, 1.3], None),
        ([1.5, 1.2, 0.9], [1.0, 1.1, 1.2], None),
    ],
)
def test_a_validation_loss_that_rises_three_times_is_warned_of(
    training: list[float], validation: list[float], expected: str | None
) -> None:
    message = loss_warnings(_config(), _lines(training, validation))
    assert len(message) == (expected is not None)
    if expected:
        assert expected in message[0]
        assert "from 1 to 1.3 at step 100" in message[0]
        assert ("early_stopping" if expected == "overfitting" else "learning_rate=0.002") in message[0]


def test_losses_without_chance_are_never_high_but_may_rise() -> None:
    for loss in configs.SQUARED_ERRORS:
        assert loss_warnings(_config(train__loss=loss), _lines([99.0] * 4, [99, 98, 97, 96])) == []
        (message,) = loss_warnings(_config(train__loss=loss), _lines([99.0] * 4, [1, 2, 3, 4]))
        assert "has risen at 3 evaluations" in message


def test_auxiliary_heads_add_their_losses() -> None:
    guessing = 1.6 * math.log(CLASSES)  # Inception v1 as it begins
    inception = _config(model__name="inception_v1")
    assert loss_warnings(inception, _lines([1.5 * guessing])) == []
    assert len(loss_warnings(inception, _lines([2.1 * guessing]))) == 1


@pytest.mark.parametrize("cut", range(9))
def test_a_resumed_run_repeats_nothing_and_forgets_nothing(cut: int) -> None:
    lines = _lines([1.5, 9.0, 9.5, 9.9], [1.0, 1.1, 1.2, 1.3])
    reporter = io.StringIO()

    def callback() -> WarnOfLosses:
        return WarnOfLosses(_config(), Console(file=reporter, width=1000))

    first, second = callback(), callback()
    for line in lines[:cut]:
        first.on_log(None, line)  # type: ignore[arg-type]
    second.restore(json.loads(json.dumps(first.state())))
    for line in lines[cut:]:
        second.on_log(None, line)  # type: ignore[arg-type]
    printed = reporter.getvalue().splitlines()
    assert [line.rstrip() for line in printed] == [
        f"{'warning':<10}{text}" for text in loss_warnings(_config(), lines)
    ]
    assert len(printed) == 2


def test_a_run_that_diverges_says_so_and_ends(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = {"optimizer.learning_rate": 10.0, "schedule.warmup_steps": 0, "train.epochs": 6}
    result = jaxnets.train(smoke_config, {**smoke_overrides, **wild}, workdir=tmp_path / "run")
    assert result["complete"]
    printed = capsys.readouterr().out.splitlines()
    warnings = [line for line in printed if line.startswith("warning")]
    assert any("the training loss is" in message for message in warnings)
    assert any("the validation loss is" in message for message in warnings)
    assert all("learning_rate=1 (now 10)" in message for message in warnings)
