"""A run in double precision is exported, diagnosed and begun from like any other."""

import functools
from pathlib import Path

import jax
import made_results
import numpy as np
import pytest
from ml_collections import config_dict

import jaxnets
from jaxnets import config as recipes
from jaxnets.app import checksums, environment, restore, workdir
from jaxnets.app import export as exporting
from jaxnets.app import weights as folders
from jaxnets.app.diagnose import diagnose
from jaxnets.app.pretrained import open_pretrained
from jaxnets.app.screen import Screen
from jaxnets.interop.weights import flatten, read_weights
from jaxnets.training.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("x64")  # which is off again after the test
SHAPE = (16, 16, 3)


def _recipe(smoke_config: str, dtype: str) -> config_dict.ConfigDict:
    overrides = {"model.name": "lenet5", "model.kernel_size": 3, "data.image_size": SHAPE[0]}
    config = recipes.load(smoke_config, {**overrides, "model.dtype": dtype})
    config.model.num_classes = 3
    return config


@pytest.fixture(scope="module")
def runs(smoke_config: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By precision, the directory of a run whose checkpoint holds drawn numbers."""
    made = {}
    for dtype in ("float32", "float64"):
        made[dtype] = tmp_path_factory.mktemp("runs") / dtype
        config = _recipe(smoke_config, dtype)
        with environment.precision_of(config.model):
            shapes = jax.eval_shape(functools.partial(restore._initial_state, config, SHAPE))
            generator = np.random.default_rng(0)
            state = jax.tree.map(
                lambda leaf, draw=generator: np.asarray(
                    draw.normal(size=leaf.shape) / 4, leaf.dtype
                ),
                shapes,
            )
            Checkpoints(made[dtype] / workdir.CHECKPOINTS, keep=1).save(0, state, {})
        contents = {
            "config.json": recipes.to_json(config),
            "manifest.json": made_results.manifest(),
        }
        checksums.write_files(made[dtype], contents)
    return made


def _as_in_a_new_process() -> None:
    jax.config.update("jax_enable_x64", False)


def test_it_is_exported(runs: dict[str, Path], tmp_path: Path) -> None:
    _as_in_a_new_process()
    out = exporting.export(runs["float64"], tmp_path / "out")
    arrays = flatten(read_weights(out).variables)
    assert {array.dtype.name for array in arrays.values()} == {"float64"}
    images = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8)
    program = jax.export.deserialize((out / exporting.PROGRAM).read_bytes())
    logits = program.call(arrays, images)
    expected = jaxnets.load(runs["float64"]).probabilities(images)
    np.testing.assert_allclose(jax.nn.softmax(logits), expected, rtol=1e-12)
    assert "jax_enable_x64" in (out / exporting.CARD).read_text()
    _as_in_a_new_process()
    assert len(diagnose(out, runs["float64"])) == 5


def test_each_has_its_own_precision(runs: dict[str, Path], tmp_path: Path) -> None:
    for order in (("float64", "float32"), ("float32", "float64")):
        _as_in_a_new_process()
        for dtype in order:
            leaves = jax.tree.leaves(folders.read(runs[dtype]).variables)
            assert {leaf.dtype.name for leaf in leaves} == {dtype}
    exporting.export(runs["float32"], tmp_path / "out")
    assert "jax_enable_x64" not in (tmp_path / "out" / exporting.CARD).read_text()


@pytest.mark.parametrize(("dtype", "other"), [("float32", "float64"), ("float64", "float32")])
def test_a_body_of_the_other_precision_is_taken(
    dtype: str, other: str, runs: dict[str, Path], smoke_config: str, tmp_path: Path
) -> None:
    _as_in_a_new_process()
    config = _recipe(smoke_config, dtype)
    config.transfer.weights = str(runs[other])
    environment.enable_precision(config)
    found = open_pretrained(config, Screen(), tmp_path)
    assert found is not None
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found.variables)} == {other}
    assert jax.config.jax_enable_x64 is (dtype == "float64")  # the new run's is as it was
