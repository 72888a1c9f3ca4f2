"""Runs in double precision: export, comparison, transfer and prediction."""

import json
from pathlib import Path
from typing import Any

import jax
import made_results
import numpy as np
import pytest
from ml_collections import config_dict

import jaxnets
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.commands import export as exporting
from jaxnets.experiment import restore, workdir
from jaxnets.experiment.restore import open_pretrained
from jaxnets.interop.weights import flatten, read_weights
from jaxnets.runtime.xla import precision_of
from jaxnets.training.checkpoint import Checkpoints
from studies.compare_activations import compare_activations

SHAPE = (16, 16, 3)
pytestmark = pytest.mark.filterwarnings("ignore:.* has not finished training")  # runs without results


def _config(smoke_config: str, dtype: str) -> config_dict.ConfigDict:
    overrides = {"model.name": "lenet5", "model.kernel_size": 3, "data.image_size": SHAPE[0]}
    config = config_lib.load_config(smoke_config, {**overrides, "model.dtype": dtype})
    config.model.num_classes = 3
    return config


@pytest.fixture(scope="module")
def runs(smoke_config: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run directories with random checkpoints, by precision."""
    made = {}
    for dtype in ("float32", "float64"):
        made[dtype] = tmp_path_factory.mktemp("runs") / dtype
        config = _config(smoke_config, dtype)
        with precision_of(config.model):
            shapes = restore.abstract_state(config, models.create(config.model), SHAPE)
            generator = np.random.default_rng(0)
            state = jax.tree.map(
                lambda leaf, draw=generator: np.asarray(draw.normal(size=leaf.shape) / 4, leaf.dtype), shapes
            )
            Checkpoints(made[dtype] / workdir.CHECKPOINTS, keep=1).save(0, state, {})
        contents = {
            workdir.CONFIG: config_lib.to_json(config),
            workdir.MANIFEST: made_results.manifest_json(),
        }
        workdir.write_files(made[dtype], contents)
    return made


def test_export(runs: dict[str, Path], tmp_path: Path) -> None:
    out = exporting.export(runs["float64"], tmp_path / "out")
    arrays = flatten(read_weights(out).variables)
    assert {array.dtype.name for array in arrays.values()} == {"float64"}
    images = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8)
    program = jax.export.deserialize((out / exporting.PROGRAMS["stablehlo"]).read_bytes())
    with jax.enable_x64(True):
        expected = jax.nn.softmax(program.call(arrays, images))
    probabilities = jaxnets.load(runs["float64"]).probabilities(images)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, expected, rtol=1e-12)
    assert "jax_enable_x64" in (out / exporting.CARD).read_text()
    assert len(compare_activations(out, runs["float64"])) == 5


def test_each_run_has_its_own_precision(runs: dict[str, Path], tmp_path: Path) -> None:
    for order in (("float64", "float32"), ("float32", "float64")):
        for dtype in order:
            leaves = jax.tree.leaves(restore.read_weights_or_run(runs[dtype]).variables)
            assert {leaf.dtype.name for leaf in leaves} == {dtype}
    exporting.export(runs["float32"], tmp_path / "out")
    assert "jax_enable_x64" not in (tmp_path / "out" / exporting.CARD).read_text()


@pytest.mark.parametrize(("dtype", "other"), [("float32", "float64"), ("float64", "float32")])
def test_a_backbone_of_another_precision_is_used(
    dtype: str, other: str, runs: dict[str, Path], smoke_config: str, tmp_path: Path
) -> None:
    config = _config(smoke_config, dtype)
    config.transfer.weights = str(runs[other])
    with precision_of(config.model):
        found = open_pretrained(config, None)
        assert jax.config.jax_enable_x64 is (dtype == "float64")  # unchanged
    assert found is not None
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found.variables)} == {other}


def test_a_run_is_not_affected_by_runs_of_another_precision(
    smoke_config: str, smoke_overrides: dict[str, Any], tmp_path: Path
) -> None:
    """Augmentation draws other numbers in double precision, which reveals a leaked setting."""
    overrides = {**smoke_overrides, "augment.rotation_degrees": 10.0, "augment.brightness": 0.2}
    metrics = {}
    for name, changes in {"alone": {}, "double": {"model.dtype": "float64"}, "after": {}}.items():
        before = jax.config.jax_enable_x64
        jaxnets.train(smoke_config, {**overrides, **changes}, workdir=tmp_path / name)
        assert jax.config.jax_enable_x64 is before
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        metrics[name] = [json.loads(line)["values"] for line in lines]
    with jax.enable_x64(True):  # the user's setting does not affect a run
        jaxnets.train(smoke_config, overrides, workdir=tmp_path / "within")
    lines = (tmp_path / "within" / "metrics.jsonl").read_text().splitlines()
    metrics["within"] = [json.loads(line)["values"] for line in lines]
    assert metrics["alone"] == metrics["after"] == metrics["within"]
    assert metrics["alone"] != metrics["double"]


def test_prediction_does_not_change_the_process(runs: dict[str, Path]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8)
    alone = jaxnets.load(runs["float32"]).probabilities(images)
    double = jaxnets.load(runs["float64"])
    first = double.probabilities(images)
    assert not jax.config.jax_enable_x64
    assert double.gradcam(images, np.zeros(3, int)).dtype == np.float64
    after = jaxnets.load(runs["float32"])
    assert after.probabilities(images).tobytes() == alone.tobytes()
    assert double.probabilities(images).tobytes() == first.tobytes()
