"""The ResNet in Keras's form: what differs from torchvision's, and its logits are Keras's."""

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxnets import config as recipes
from jaxnets import models
from jaxnets.bench.oracles import FOLDER, load
from jaxnets.errors import ConfigError


def keras_resnet(num_classes: int = 3, **fields):
    model = recipes.recipe().model
    fields = {"name": "resnet50", "num_classes": num_classes, "variant": "keras", **fields}
    with model.unlocked():
        model.update(fields)
    return models.create(model)


def shapes_of(model, size: int = 32):
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(functools.partial(model.init, jax.random.key(0)), x)


@pytest.mark.parametrize(("classes", "parameters"), [(3, 23_540_739), (1000, 25_583_592)])
def test_counts_are_those_of_keras(classes: int, parameters: int) -> None:
    shapes = shapes_of(keras_resnet(classes))
    assert models.count_parameters(shapes["params"]) == parameters
    assert models.count_parameters(shapes["batch_stats"]) == 53_120


def test_every_convolution_has_a_bias_and_begins_as_in_keras() -> None:
    model = keras_resnet(stage_sizes=(1,), width=32)
    params = models.initialize(model, jax.random.key(0), (1, 32, 32, 3))["params"]
    flat = traverse_util.flatten_dict(params, sep="/")
    for path in flat:
        if path.endswith("kernel"):
            assert not flat[path.replace("kernel", "bias")].any()
    kernel = flat["stage1_block1/conv2/kernel"]  # Glorot uniform: ±sqrt(6 / (fan_in + fan_out))
    bound = (6 / (9 * 32 + 9 * 32)) ** 0.5
    assert 0.99 * bound < float(jnp.abs(kernel).max()) <= bound


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"--config.model.variant='kera': .* \(did you mean keras"
    ):
        keras_resnet(variant="kera")


@pytest.mark.oracle
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("x64")
def test_logits_are_those_of_keras(tmp_path: Path) -> None:
    if importlib.util.find_spec("keras") is None:  # not imported: its backend is not set here
        pytest.skip("needs Keras")
    theirs, mirror = load("keras_resnet"), load("mirror")
    model = keras_resnet(dtype="float64")
    variables = mirror.perturbed(
        models.initialize(model, jax.random.key(0), (1, 64, 64, 3)), seed=1
    )
    inputs = np.random.default_rng(0).normal(size=(2, 64, 64, 3))
    arrays = {
        theirs.keras_name(path): array
        for tree in variables.values()
        for path, array in traverse_util.flatten_dict(tree, sep="/").items()
    }
    np.savez(tmp_path / "arrays.npz", inputs=inputs, **arrays)
    program = [sys.executable, FOLDER / "keras_resnet.py", "arrays.npz", "logits.npy"]
    subprocess.run(program, cwd=tmp_path, env={**os.environ, **theirs.ENVIRONMENT}, check=True)
    expected = np.load(tmp_path / "logits.npy")

    options = {"xla_backend_optimization_level": 0}
    evaluate = jax.jit(lambda v, x: model.apply(v, x, train=False), compiler_options=options)
    ours = np.asarray(evaluate(variables, inputs))
    assert np.abs(ours - expected).max() < 1e-9 * np.abs(expected).max()
