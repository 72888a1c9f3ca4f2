"""The callbacks and their saved states."""

import errno
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jaxnets.errors import DivergedError, MachineError
from jaxnets.training.callbacks import tensorboard
from jaxnets.training.callbacks.logs import MetricsLog
from jaxnets.training.callbacks.monitors import CheckpointBest, EarlyStopping, ReduceOnPlateau
from jaxnets.training.callbacks.tensorboard import TensorBoard
from jaxnets.training.run import check_finite


class _Run(SimpleNamespace):
    """A stub of a run with the attributes that the callbacks use."""

    def __init__(self, workdir: Path = Path(), step: int = 0):
        super().__init__(workdir=workdir, step=step, stopped=None, saves=[], scale=1.0)
        self.saved_step = None
        self.plan = SimpleNamespace(histograms_every=2)
        self.state = SimpleNamespace(params={"dense": {"kernel": jnp.arange(6.0)}})

    def stop(self, reason: str) -> None:
        self.stopped = reason

    def request_checkpoint(self, *, best: bool = False) -> None:
        self.saves.append((self.step, best))

    def scale_learning_rate(self, value: float) -> None:
        self.scale = value


def _feed(callback: Any, losses: list[float], run: _Run | None = None) -> _Run:
    run = run or _Run()
    for loss in losses:
        run.step += 1
        callback.on_evaluate(run, {"loss": loss, "accuracy": 1 - loss})
    return run


def _restored(callback: Any, fresh: Any) -> Any:
    fresh.restore(json.loads(json.dumps(callback.state())))
    return fresh


def test_early_stopping_after_patience() -> None:
    callback = EarlyStopping("validation_loss", patience=2)
    assert _feed(callback, [0.5, 0.4, 0.45]).stopped is None
    resumed = _restored(callback, EarlyStopping("validation_loss", patience=2))
    message = "validation_loss has not improved over 0.4 for 2 evaluations"
    assert _feed(resumed, [0.41]).stopped == message


def test_early_stopping_requires_min_delta() -> None:
    callback = EarlyStopping("validation_loss", patience=1, min_delta=0.1)
    assert _feed(callback, [0.5, 0.45, 0.42]).stopped is not None


@pytest.mark.parametrize(
    ("metric", "losses", "expected"),
    [
        ("validation_loss", [0.5, 0.6, 0.4, math.nan, 0.4], [1, 3]),
        ("validation_accuracy", [0.5, 0.6, 0.4, math.nan, 0.3], [1, 3, 5]),
    ],
)
def test_best_checkpoint_is_saved_and_nan_is_never_best(metric: str, losses: list, expected: list) -> None:
    callback = CheckpointBest(metric)
    run = _feed(callback, losses[:3])
    run = _feed(_restored(callback, CheckpointBest(metric)), losses[3:], run)
    assert run.saves == [(step, True) for step in expected]


def _plateau() -> ReduceOnPlateau:
    return ReduceOnPlateau(
        "validation_loss", patience=2, factor=0.1, cooldown=0, min_delta=1e-4, min_scale=0.0
    )


@pytest.mark.usefixtures("optax_promotion")
def test_reduce_on_plateau_restores_its_state() -> None:
    callback = _plateau()
    assert _feed(callback, [0.5, 0.5]).scale == 1.0
    resumed = _restored(callback, _plateau())
    uninterrupted = _plateau()
    losses = [0.5, 0.5, 0.5, 0.4, 0.4, 0.4]
    first = _feed(resumed, losses)
    second = _feed(uninterrupted, [0.5, 0.5, *losses])
    assert first.scale == second.scale
    assert first.scale == pytest.approx(0.001)
    assert resumed.state() == uninterrupted.state()


@pytest.mark.usefixtures("optax_promotion")
def test_reduce_on_plateau_matches_optax() -> None:
    callback, run = _plateau(), _Run()
    rule = optax.contrib.reduce_on_plateau(factor=0.1, patience=2, rtol=1e-4)
    state = rule.init({})
    for loss in (0.9, 0.8, 0.8, 0.8, 0.7, 0.7, 0.7, 0.7):
        _feed(callback, [loss], run)
        _, state = rule.update({}, state, value=jnp.float32(loss))
        assert run.scale == pytest.approx(float(state.scale))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_metrics_raise_with_a_hint(value: float) -> None:
    with pytest.raises(DivergedError, match=r"gradient_norm is .*learning_rate"):
        check_finite({"loss": 0.1, "gradient_norm": value}, "train", 3)


def test_metrics_after_the_checkpoint_are_truncated_on_resume(tmp_path: Path) -> None:
    callback, run = MetricsLog(), _Run(tmp_path)
    callback.on_train_begin(run)
    for step in (1, 2):
        callback.on_log(run, {"step": step})
    saved = callback.state()
    callback.on_log(run, {"step": 3})
    callback.on_train_end(run)
    resumed = MetricsLog()
    resumed.restore(saved)
    resumed.on_train_begin(run)
    resumed.on_log(run, {"step": 3, "again": True})
    resumed.on_train_end(run)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]


def test_tensorboard_events_are_readable_and_purged_on_resume(tmp_path: Path) -> None:
    run = _Run(tmp_path)

    def write(steps: list[int], offset: float) -> None:
        callback = TensorBoard()
        callback.on_train_begin(run)
        for step in steps:
            run.step = step
            values = {"loss": step + offset}
            callback.on_log(run, {"step": step, "split": "train", "values": values, "images_per_second": 9})
            callback.on_step_end(run, {})
        callback.on_train_end(run)

    write([1, 2, 3, 4], 0.0)
    run.step = run.saved_step = 2
    write([3, 4], 0.5)
    reader = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    scalars = [(event.step, event.value) for event in reader.Scalars("train/loss")]
    assert scalars == [(1, 1.0), (2, 2.0), (3, 3.5), (4, 4.5)]
    histogram = reader.Histograms("weights/dense/kernel")[-1].histogram_value
    assert (histogram.min, histogram.max, histogram.num) == (0.0, 5.0, 6.0)
    assert "train/images_per_second" in reader.Tags()["scalars"]


def test_events_are_ordered_if_the_clock_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, value, first in ((2e9, 1.0, 1), (1e9, 2.0, 2), (1e9, 3.0, 3)):
        monkeypatch.setattr(tensorboard.time, "time", lambda seconds=seconds: seconds)
        events = tensorboard.EventFile(tmp_path, first_step=first)
        for step in range(first, 5):
            events.scalars(step, {"loss": value})
        events.close()
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    found = [(event.step, event.value) for event in reader.Scalars("loss")]
    assert found == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 3.0)]


def test_events_are_flushed_immediately(tmp_path: Path) -> None:
    run, callback = _Run(tmp_path, step=0), TensorBoard()
    callback.on_train_begin(run)
    callback.on_log(run, {"step": 1, "split": "train", "values": {"loss": 0.5}})
    reader = EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    assert [(event.step, event.value) for event in reader.Scalars("train/loss")] == [(1, 0.5)]
    callback.on_train_end(run)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_full_disk_raises_in_the_tensorboard_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run, callback = _Run(tmp_path, step=2), TensorBoard()
    callback.on_train_begin(run)

    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tensorboard.EventFile, "_add", full)
    line = {"step": 2, "split": "train", "values": {"loss": 1.0}}
    for write in (lambda: callback.on_log(run, line), lambda: callback.on_step_end(run, {})):
        with pytest.raises(MachineError, match=r"tensorboard cannot be written \(.*: free some space"):
            write()
    callback.on_train_end(run)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full exists only on Linux")
def test_tensorboard_file_on_a_full_device_closes_without_error(tmp_path: Path) -> None:
    run, callback = _Run(tmp_path, step=2), TensorBoard()
    callback.on_train_begin(run)
    assert callback._events is not None
    callback._events._file.close()
    callback._events._file = Path("/dev/full").open("wb")  # noqa: SIM115 (closed by the callback)
    with pytest.raises(MachineError, match="No space left"):
        callback.on_log(run, {"step": 2, "split": "train", "values": {"loss": 1.0}})
    callback.on_train_end(run)


def test_histograms_match_numpy_and_skip_non_finite_values(tmp_path: Path) -> None:
    values = np.array([*np.linspace(-1, 1, 100), np.nan, np.inf])
    events = tensorboard.EventFile(tmp_path, first_step=1)
    events.histogram(300, "w", values)
    events.histogram(301, "nothing", values[-2:])
    events.close()
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    (found,) = reader.Histograms("w")
    counts, edges = np.histogram(values[:100], tensorboard.BINS)
    assert found.step == 300
    np.testing.assert_array_equal(found.histogram_value.bucket, counts)
    np.testing.assert_array_equal(found.histogram_value.bucket_limit, edges[1:])
    assert found.histogram_value.sum_squares == pytest.approx(np.square(values[:100]).sum())
    assert reader.Tags()["histograms"] == ["w"]


def test_states_contain_no_arrays() -> None:
    for callback in (_plateau(), CheckpointBest("validation_loss"), MetricsLog()):
        for value in jax.tree.leaves(callback.state()):
            assert not isinstance(value, jax.Array | np.generic)
