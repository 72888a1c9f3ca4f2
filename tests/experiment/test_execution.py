"""Examples on the device and steps per call: what is chosen, and that training is the same."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import chex
import numpy as np
import orbax.checkpoint as ocp
import pytest
from training_runs import read_metrics

import jaxnets
from jaxnets import config as config_lib
from jaxnets.errors import ConfigError, InterruptedRunError, MachineError
from jaxnets.experiment import execution
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.experiment.resolve import check_divisible
from jaxnets.training.callbacks import Callback
from jaxnets.training.devices import Devices
from jaxnets.training.run import Run

FOUR = {
    "train.steps_per_execution": 4,
    "train.batch_size": 5,
    "train.drop_last": False,
    "train.epochs": 2,
    "log.every_steps": 5,
}
"""42 examples: calls of 4, 1 and 3 steps and one for the last batch, split at log steps and checkpoints."""


class _PerStep(Callback):
    def on_step_end(self, run: Run, metrics: Any) -> None:
        """Is called after every step."""


class _SignalAt(Callback):
    """Interrupts the run at the first log line from a step on."""

    def __init__(self, step: int):
        self._step = step

    def on_log(self, run: Run, line: Any) -> None:
        if run.step >= self._step:
            run.interrupt(signal.SIGTERM)


def _data(smoke_config: str, overrides: dict[str, Any]) -> Any:
    config = config_lib.load_config(smoke_config, overrides)
    return config, with_cache(config, open_dataset(config))


def _place(config: Any, data: Any, **options: Any) -> execution.ExecutionPlan:
    return execution.plan_execution(config, data, Devices.all(), **options)


def test_small_data_are_stored_on_the_device(
    smoke_config: str, smoke_overrides: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, data = _data(smoke_config, smoke_overrides)
    found = _place(config, data, parameters=40_000)
    assert (found.on_device, found.steps_per_execution) == (True, 1)  # no kernels here
    assert "on the device" in found.description
    monkeypatch.setattr(execution, "kernels_of", lambda config: object())
    assert _place(config, data, parameters=40_000).steps_per_execution == execution.STEPS_PER_CALL
    assert _place(config, data, parameters=2_000_000).steps_per_execution == 1
    assert _place(config, data, parameters=40_000, callbacks=[_PerStep()]).steps_per_execution == 1
    monkeypatch.setattr(execution, "_device_budget", lambda devices: data.nbytes - 1)
    found = _place(config, data, parameters=40_000)
    assert (found.on_device, found.steps_per_execution) == (False, 1)
    assert "read by threads" in found.description


def test_a_resumed_run_follows_its_fingerprint(smoke_config: str, smoke_overrides: dict) -> None:
    config, data = _data(smoke_config, smoke_overrides)
    assert not _place(config, data, previous={"data_path": "cache"}).on_device
    found = _place(config, data, previous={"data_path": "device", "steps_per_execution": 7})
    assert (found.on_device, found.steps_per_execution) == (True, 7)


@pytest.mark.parametrize(
    ("overrides", "callbacks", "message"),
    [
        ({"data.on_device": "yes", "data.cache": False}, [], "set --config.data.cache=True"),
        ({"data.on_device": "no", "train.steps_per_execution": 4}, [], "set --config.data.on_device=yes"),
        ({"train.steps_per_execution": 4}, [_PerStep()], "callback _PerStep must run after every"),
    ],
)
def test_impossible_settings_raise(
    smoke_config: str, smoke_overrides: dict, overrides: dict, callbacks: list, message: str
) -> None:
    config, data = _data(smoke_config, {**smoke_overrides, **overrides})
    with pytest.raises(ConfigError, match=message):
        _place(config, data, callbacks=callbacks)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"batch_size": 10}, "a batch of 10 is not divisible by 4 devices: change --config.train.b"),
        ({"batch_size": 8}, "last batch of 2 is not divisible by 4 devices: set --config.train.drop_"),
        (
            {"batch_size": 8, "drop_last": True, "grad_accum_steps": 4},
            "each device 2 examples, not divisible by .*=4",
        ),
        ({"batch_size": 16, "grad_accum_steps": 2}, "last batch of 10 is not divisible by 4 devices: set"),
        ({"batch_size": 64, "drop_last": True}, "42 training examples are fewer than one batch of 64"),
        ({"batch_size": 8, "drop_last": True, "grad_accum_steps": 2}, None),
    ],
)
def test_each_batch_must_be_divisible_by_devices_and_microbatches(
    smoke_config: str, overrides: dict, message: str | None
) -> None:
    given = {"train.drop_last": False, **{f"train.{name}": v for name, v in overrides.items()}}
    config = config_lib.load_config(smoke_config, given)
    four = Devices(count=4, local_count=4, process_index=0, process_count=1)
    refused = pytest.raises(ConfigError, match=message) if message else contextlib.nullcontext()
    with refused:
        check_divisible(config, 42, four)


def test_the_last_batch_has_its_own_remedy(smoke_config: str) -> None:
    overrides = {"train.batch_size": 8, "train.drop_last": False, "train.grad_accum_steps": 4}
    one = Devices(count=1, local_count=1, process_index=0, process_count=1)
    with pytest.raises(ConfigError, match=r"last batch of 2 .* --config\.train\.drop_last=True"):
        check_divisible(config_lib.load_config(smoke_config, overrides), 42, one)


@pytest.mark.parametrize(("limit", "expected"), [("1000000\n", 1_000_000), ("max\n", None), (None, None)])
def test_a_container_s_memory_limit_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, expected: int | None
) -> None:
    if limit is not None:
        (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(execution, "CGROUP_LIMIT", tmp_path / "memory.max")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert execution._host_memory() == (expected or total)


def _assert_metrics_are_close(actual: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        assert (ours["step"], ours["split"]) == (theirs["step"], theirs["split"])
        for value, other in zip(ours["values"].values(), theirs["values"].values(), strict=True):
            np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6)


def _state(directory: Path) -> Any:
    """The newest checkpoint's arrays."""
    newest = sorted((directory / "checkpoints").iterdir())[-1]
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        return checkpointer.restore(newest / "state")


@pytest.mark.slow
def test_logs_and_checkpoints_do_not_depend_on_steps_per_execution(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path
) -> None:
    runs = {"host": {"data.on_device": "no"}, "device": {}, "many": {"train.steps_per_execution": 4}}
    for name, overrides in runs.items():
        every = {**smoke_overrides, **FOUR, "train.steps_per_execution": 0, **overrides}
        jaxnets.train(smoke_config, every, workdir=tmp_path / name)
    expected, saved = read_metrics(tmp_path / "host"), _saves(tmp_path / "host")
    for name in ("device", "many"):
        assert _saves(tmp_path / name) == saved
        _assert_metrics_are_close(read_metrics(tmp_path / name), expected)


def _saves(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


@pytest.mark.slow
def test_resume_with_several_steps_per_call_is_bit_exact(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path
) -> None:
    overrides = {**smoke_overrides, **FOUR}
    jaxnets.train(smoke_config, overrides, workdir=tmp_path / "straight")
    with pytest.raises(InterruptedRunError, match="stopped at step 10"):
        jaxnets.train(smoke_config, overrides, workdir=tmp_path / "cut", callbacks=[_SignalAt(10)])
    # A resumed run follows its fingerprint.
    again = {**overrides, "train.steps_per_execution": 0}
    jaxnets.train(smoke_config, again, workdir=tmp_path / "cut")
    assert read_metrics(tmp_path / "cut") == read_metrics(tmp_path / "straight")
    chex.assert_trees_all_equal(_state(tmp_path / "cut"), _state(tmp_path / "straight"))


@pytest.mark.slow
def test_two_devices_match_batches_from_the_host(
    repository: Path, smoke_overrides: dict, tmp_path: Path
) -> None:
    overrides = {**smoke_overrides, **FOUR, "train.batch_size": 8, "train.drop_last": True}
    flags = f"--xla_force_host_platform_device_count=2 {os.environ['XLA_FLAGS']}"
    environment = {**os.environ, "XLA_FLAGS": flags}
    for name, wanted in {"host": ("no", 0), "many": ("yes", 4)}.items():
        overrides["data.on_device"], overrides["train.steps_per_execution"] = wanted
        flags = [f"--config.{field}={value}" for field, value in overrides.items()]
        command = [sys.executable, "scripts/train.py", "--config=configs/lung_resnet.py:smoke"]
        subprocess.run(
            [*command, f"--workdir={tmp_path / name}", *flags], cwd=repository, env=environment, check=True
        )
    _assert_metrics_are_close(read_metrics(tmp_path / "many"), read_metrics(tmp_path / "host"))


@pytest.mark.parametrize(
    ("remat", "remedy"), [(False, r"use --config\.train\.remat=True, a smaller"), (True, "use a smaller")]
)
def test_a_step_that_cannot_fit_is_refused(
    smoke_config: str,
    smoke_overrides: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    remat: bool,
    remedy: str,
) -> None:
    monkeypatch.setattr("jaxnets.experiment.train.device_memory", lambda devices: 1024.0)
    message = f"a training step needs .* GiB of memory, .*: {remedy} .*batch_size"
    with pytest.raises(MachineError, match=message):
        jaxnets.train(
            smoke_config, {**smoke_overrides, "train.remat": remat}, workdir=tmp_path / "run", kernels=False
        )
