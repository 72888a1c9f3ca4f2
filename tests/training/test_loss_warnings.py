"""Warnings about high and rising losses."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ml_collections import config_dict

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


def _records(
    training: Sequence[float], validation: Sequence[float] = (), steps: int = STEPS_PER_EPOCH
) -> list[dict[str, Any]]:
    """Returns a training record every `steps`, followed by a validation record if there is one."""
    records = []
    for number, loss in enumerate(training):
        step = steps * (number + 1)
        position = {"step": step, "epoch": step / STEPS_PER_EPOCH}
        records.append({**position, "split": "train", "values": {"loss": loss, "accuracy": 0.2}})
        if number < len(validation):
            values = {"loss": validation[number], "accuracy": 0.2}
            records.append({**position, "split": "validation", "values": values})
    return records


def test_a_warning_has_the_step_of_its_record() -> None:
    records = _records([1.0])
    values = {"loss": 9.0, "accuracy": 0.2}
    for step in (240, 280):
        records.append(
            {"step": step, "epoch": step / STEPS_PER_EPOCH, "split": "validation", "values": values}
        )
    (message,) = loss_warnings(_config(), records)
    assert "the validation loss is 9 at step 280" in message


def test_training_loss_above_twice_chance_level_warns_once() -> None:
    high = 2 * math.log(CLASSES)
    assert loss_warnings(_config(), _records([0.99 * high] * 4)) == []
    (message,) = loss_warnings(_config(), _records([1.5, 1.01 * high, 2 * high, 3 * high]))
    assert "at step 50" in message
    for advice in ("learning_rate=0.002 (now 0.02)", "warmup_epochs", "clip_grad_norm=1.0"):
        assert advice in message
    (message,) = loss_warnings(_config(train__clip_grad_norm=1.0), _records([9.0]))
    assert "clip_grad_norm" not in message


def test_validation_loss_far_above_chance_level_warns() -> None:
    """With batch norm, a divergence may show only in evaluation, which uses the running statistics."""
    (message,) = loss_warnings(
        _config(), _records([1.5, 1.4, 1.2, 1.0, 0.9], [4163.0, 4205885.0, 31984.0, 31000.0, 300.0])
    )
    assert "the validation loss is 4.206e+06 at step 50" in message
    assert "learning_rate=0.002 (now 0.02)" in message
    assert loss_warnings(_config(), _records([1.5] * 3, [9.0, 1.0, 9.0])) == []
    warmup = {"schedule__warmup_epochs": 2}
    assert loss_warnings(_config(**warmup), _records([1.5] * 4, [9.0, 9.0, 9.0, 1.0])) == []


def test_warmup_is_excluded() -> None:
    for warmup in ({"schedule__warmup_steps": 26}, {"schedule__warmup_epochs": 2}):
        assert loss_warnings(_config(**warmup), _records([9.0, 9.0, 1.0])) == []
        assert len(loss_warnings(_config(**warmup), _records([9.0, 9.0, 9.0]))) == 1


def test_single_high_batch_loss_does_not_warn() -> None:
    losses = [1.0] * 40
    losses[7] = 20.0
    assert loss_warnings(_config(), _records(losses, steps=1)) == []
    assert len(loss_warnings(_config(), _records([4.0] * 40, steps=1))) == 1


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
def test_validation_loss_rising_three_times_warns(
    training: list[float], validation: list[float], expected: str | None
) -> None:
    warnings = loss_warnings(_config(), _records(training, validation))
    assert len(warnings) == (expected is not None)
    if expected:
        assert expected in warnings[0]
        assert "from 1 to 1.3 at step 100" in warnings[0]
        assert ("early_stopping" if expected == "overfitting" else "learning_rate=0.002") in warnings[0]


def test_squared_errors_warn_only_if_rising() -> None:
    for loss in configs.SQUARED_ERRORS:
        assert loss_warnings(_config(train__loss=loss), _records([99.0] * 4, [99, 98, 97, 96])) == []
        (message,) = loss_warnings(_config(train__loss=loss), _records([99.0] * 4, [1, 2, 3, 4]))
        assert "has risen at 3 evaluations" in message


def test_chance_level_includes_auxiliary_heads() -> None:
    chance_level = 1.6 * math.log(CLASSES)  # Inception v1's initial loss
    inception = _config(model__name="inception_v1")
    assert loss_warnings(inception, _records([1.5 * chance_level])) == []
    assert len(loss_warnings(inception, _records([2.1 * chance_level]))) == 1


@pytest.mark.parametrize("stop", range(9))
def test_resumed_run_warns_exactly_once(stop: int, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _records([1.5, 9.0, 9.5, 9.9], [1.0, 1.1, 1.2, 1.3])
    first, second = WarnOfLosses(_config()), WarnOfLosses(_config())
    for line in lines[:stop]:
        first.on_log(None, line)  # type: ignore[arg-type]
    second.restore(json.loads(json.dumps(first.state())))
    for line in lines[stop:]:
        second.on_log(None, line)  # type: ignore[arg-type]
    printed = capsys.readouterr().err.splitlines()
    assert printed == [f"{'warning':<10}{text}" for text in loss_warnings(_config(), lines)]
    assert len(printed) == 2


def test_diverging_run_warns_and_finishes(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {"optimizer.learning_rate": 10.0, "schedule.warmup_steps": 0, "train.epochs": 6}
    result = jaxnets.train(smoke_config, {**smoke_overrides, **overrides}, workdir=tmp_path / "run")
    assert result["complete"]
    printed = capsys.readouterr().err.splitlines()
    warnings = [line for line in printed if line.startswith("warning")]
    assert any("the training loss is" in message for message in warnings)
    assert any("the validation loss is" in message for message in warnings)
    assert all("learning_rate=1 (now 10)" in message for message in warnings)
