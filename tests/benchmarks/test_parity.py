"""The bench with PyTorch itself: a narrow row of each kind, and the drift."""

import copy
import functools
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks import drift, jax_workloads, mlp_sides, rows, torch_workloads
from benchmarks.measure import LOSS_TOLERANCE, Row, check_same, measure_row
from jaxnets.errors import CheckFailedError

pytestmark = pytest.mark.oracle


def lenet_row(ours: type = jax_workloads.TrainingSide) -> Row:
    row = rows.choose("cpu", [])["train/lenet5/28/64"]("train/lenet5/28/64", rows.BenchContext(1))
    make = functools.partial(ours, network="lenet5", image_size=28, batch_size=4)
    return Row(row.name, row.title, make, row.theirs)


def test_a_training_row() -> None:
    entry = measure_row(lenet_row(), rounds=1, seconds=0.05, pause=0.0)
    assert entry["ours"] > 0
    assert entry["theirs"] > 0
    assert entry["ratio_tuned"] > 0


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "from benchmarks import jax_workloads\nclass Other(jax_workloads.TrainingSide):\n"
    program += "    def answer(self): return 1.001 * super().answer()\n"
    (tmp_path / "jaxnets_test_other.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import jaxnets_test_other

    with pytest.raises(CheckFailedError, match=r"differ by 1\.0e-03"):
        measure_row(lenet_row(jaxnets_test_other.Other), rounds=1, seconds=0.05, pause=0.0)


def test_another_step_of_the_same_network_is_refused() -> None:
    ours = jax_workloads.TrainingSide(None, network="lenet5", image_size=28, batch_size=4)
    shared = ours.share()
    losses, share = ours.losses()
    assert 0.02 < 1 - losses[1] / losses[0] < 0.05  # a step that shows

    def theirs(name: str, value: float) -> np.ndarray:
        config = copy.deepcopy(shared["config"])
        config.optimizer[name] = value
        how = {"channels_last": False, "threads": 1}
        side = torch_workloads.TrainingSide({**shared, "config": config}, **how)
        return side.losses(share)[0]

    rate = shared["config"].optimizer.learning_rate
    arguments = "train/lenet5", "contiguous", losses
    check_same(*arguments, theirs("learning_rate", rate), LOSS_TOLERANCE)
    for other in (theirs("learning_rate", 1.1 * rate), theirs("momentum", 0.8)):
        with pytest.raises(CheckFailedError, match="is not measured"):
            check_same(*arguments, other, LOSS_TOLERANCE)


@pytest.mark.slow
def test_a_network_that_drops_units_is_compared_without() -> None:
    ours = jax_workloads.TrainingSide(None, network="inception_v1", image_size=32, batch_size=8)
    how = {"channels_last": True, "threads": 1}
    side = torch_workloads.TrainingSide(ours.share(), **how)
    losses, share = ours.losses()
    check_same("train/inception_v1", "channels_last", losses, side.losses(share)[0], LOSS_TOLERANCE)
    side.take_step()
    ours.take_step()
    assert any(module.training for module in side.network.modules() if side._drops(module))


def test_the_mlp_s_row() -> None:
    row = rows.choose("cpu", ["train/mlp_tanh/4"])["train/mlp_tanh/4"]("mlp", rows.BenchContext(1))
    entry = measure_row(row, rounds=1, seconds=0.05, pause=0.0)
    assert entry["ratio"] > 0
    assert entry["unit"] == "points"
    assert set(entry["images_per_second"]) >= {"ours", "eager", "eager, fused SGD"}


def test_the_mlp_s_update_counts_and_not_its_predictions_alone() -> None:
    ours = mlp_sides.ScannedSide(None)
    shared = ours.share()
    theirs = torch_workloads.MlpSide(shared, fused=False, threads=1).answer()
    check_same("train/mlp_tanh/4", "eager", ours.answer(), theirs)
    before = np.concatenate([np.column_stack(layer).ravel() for layer in shared["parameters"]])
    half_a_step = np.concatenate([theirs[:4], (theirs[4:] + before) / 2])
    with pytest.raises(CheckFailedError, match="is not measured"):
        check_same("train/mlp_tanh/4", "eager", ours.answer(), half_a_step)


@pytest.mark.parametrize("cache", [False, True])
def test_a_pipeline_row(tmp_path: Path, cache: bool) -> None:
    rows.draw_jpegs(tmp_path / "images", count=30, size=32)
    ours = functools.partial(
        jax_workloads.PipelineSide,
        images=tmp_path / "images",
        image_size=32,
        batch_size=5,
        cache=cache,
    )
    theirs = {
        f"{workers} workers": functools.partial(torch_workloads.LoaderSide, workers=workers, threads=1)
        for workers in (0, 2)
    }
    entry = measure_row(Row("pipeline/fake", "fake", ours, theirs), rounds=1, seconds=0.05, pause=0.0)
    assert entry["ratio"] > 0


def test_the_drift_is_measured_and_drawn(tmp_path: Path) -> None:
    config = drift.drift_config()
    config.model.stage_sizes, config.model.width = (1, 1, 1, 1), 8
    found = drift.measure(config, steps=3)
    for name in (drift.RESTARTED, drift.FREE):
        assert [entry["step"] for entry in found[name]] == [1, 2, 3]
    assert max(entry["largest"] for entry in found[drift.RESTARTED]) < 1e-9
    assert found[drift.FREE][-1]["parameters"] > found[drift.RESTARTED][-1]["parameters"]
    drift.draw(found, tmp_path / "drift.png")
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["drift.png"]
