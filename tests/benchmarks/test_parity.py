"""Comparisons with PyTorch itself: one small row of each kind, and the drift."""

import copy
import functools
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks import comparisons, drift, jax_workloads, mlp_workloads, torch_workloads
from benchmarks.baselines import PYTORCH, TUNED_ALLOCATOR, with_both_allocators
from benchmarks.measure import LOSS_TOLERANCE, Comparison, check_outputs_match, measure_row
from jaxnets.errors import CheckFailedError

pytestmark = pytest.mark.oracle


def lenet_row(ours: type = jax_workloads.TrainingWorkload) -> Comparison:
    row = comparisons.SUITES["cpu"]["train/lenet5/28/64"]("train/lenet5/28/64", comparisons.BenchContext(1))
    make = functools.partial(ours, network="lenet5", image_size=28, batch_size=4)
    eager = {name: one for name, one in row.baselines.items() if name.startswith(PYTORCH)}
    return Comparison(row.name, row.title, make, eager)


def test_a_training_row() -> None:
    entry = measure_row(lenet_row(), rounds=1, seconds=0.05, cooldown=0.0)
    assert entry["ours"] > 0
    assert entry["theirs"] > 0
    assert entry["ratio_eager_tuned"] > 0


def test_other_weights_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "from benchmarks import jax_workloads\nclass Other(jax_workloads.TrainingWorkload):\n"
    program += "    def outputs(self): return 1.001 * super().outputs()\n"
    (tmp_path / "jaxnets_test_other.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import jaxnets_test_other

    with pytest.raises(CheckFailedError, match=r"differ by 1\.0e-03"):
        measure_row(lenet_row(jaxnets_test_other.Other), rounds=1, seconds=0.05, cooldown=0.0)


def test_another_optimizer_step_raises() -> None:
    ours = jax_workloads.TrainingWorkload(None, network="lenet5", image_size=28, batch_size=4)
    shared = ours.shared_data()
    losses, lr_fraction = ours.losses()
    assert 0.02 < 1 - losses[1] / losses[0] < 0.05  # a step large enough to be compared

    def theirs(name: str, value: float) -> np.ndarray:
        config = copy.deepcopy(shared["config"])
        config.optimizer[name] = value
        options = {"channels_last": False, "threads": 1}
        workload = torch_workloads.TrainingWorkload({**shared, "config": config}, **options)
        return workload.losses(lr_fraction)[0]

    rate = shared["config"].optimizer.learning_rate
    arguments = "train/lenet5", "contiguous", losses
    check_outputs_match(*arguments, theirs("learning_rate", rate), LOSS_TOLERANCE)
    for other in (theirs("learning_rate", 1.1 * rate), theirs("momentum", 0.8)):
        with pytest.raises(CheckFailedError, match="is not measured"):
            check_outputs_match(*arguments, other, LOSS_TOLERANCE)


@pytest.mark.slow
def test_losses_are_compared_without_dropout() -> None:
    ours = jax_workloads.TrainingWorkload(None, network="inception_v1", image_size=32, batch_size=8)
    options = {"channels_last": True, "threads": 1}
    workload = torch_workloads.TrainingWorkload(ours.shared_data(), **options)
    losses, lr_fraction = ours.losses()
    check_outputs_match(
        "train/inception_v1", "channels_last", losses, workload.losses(lr_fraction)[0], LOSS_TOLERANCE
    )
    workload.take_step()
    ours.take_step()
    assert any(module.training for module in workload.network.modules() if workload._is_dropout(module))


def test_the_mlp_row() -> None:
    row = comparisons.SUITES["cpu"]["train/mlp_tanh/4"]("mlp", comparisons.BenchContext(1))
    entry = measure_row(row, rounds=1, seconds=0.05, cooldown=0.0)
    assert entry["ratio"] > 0
    assert entry["unit"] == "points"
    forms = {"PyTorch", "PyTorch, fused SGD"}
    measured = {name.removesuffix(TUNED_ALLOCATOR) for name in entry["images_per_second"]} - {"ours"}
    assert measured <= forms
    assert len(entry["images_per_second"]) == 3  # the faster form with each allocator setting


def test_the_mlp_s_update_is_compared_too() -> None:
    ours = mlp_workloads.ScannedMlpWorkload(None)
    shared = ours.shared_data()
    theirs = torch_workloads.MlpWorkload(shared, fused=False, threads=1).outputs()
    check_outputs_match("train/mlp_tanh/4", "eager", ours.outputs(), theirs)
    before = np.concatenate([np.column_stack(layer).ravel() for layer in shared["parameters"]])
    half_a_step = np.concatenate([theirs[:4], (theirs[4:] + before) / 2])
    with pytest.raises(CheckFailedError, match="is not measured"):
        check_outputs_match("train/mlp_tanh/4", "eager", ours.outputs(), half_a_step)


@pytest.mark.parametrize("cache", [False, True])
def test_a_pipeline_row(tmp_path: Path, cache: bool) -> None:
    comparisons.write_jpegs(tmp_path / "images", count=30, size=32)
    ours = functools.partial(
        jax_workloads.PipelineWorkload, images=tmp_path / "images", image_size=32, batch_size=5, cache=cache
    )
    theirs = {
        f"{workers} workers": functools.partial(
            torch_workloads.DataLoaderWorkload, workers=workers, threads=1
        )
        for workers in (0, 2)
    }
    entry = measure_row(
        Comparison("pipeline/fake", "fake", ours, with_both_allocators(theirs)),
        rounds=1,
        seconds=0.05,
        cooldown=0.0,
    )
    assert entry["ratio"] > 0


def test_the_drift_is_measured_and_drawn(tmp_path: Path) -> None:
    config = drift.drift_config()
    config.model.stage_sizes, config.model.width = (1, 1, 1, 1), 8
    found = drift.measure(config, steps=3)
    for name in ("restarted", "free"):
        assert [entry["step"] for entry in found[name]] == [1, 2, 3]
    assert max(entry["largest"] for entry in found["restarted"]) < 1e-9
    assert found["free"][-1]["parameters"] > found["restarted"][-1]["parameters"]
    drift.draw(found, tmp_path / "drift.png")
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["drift.png"]
