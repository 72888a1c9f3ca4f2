"""The Keras variant of ResNet: parameter counts, biases and initialization."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import traverse_util

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import ConfigError


def keras_resnet(num_classes: int = 3, **fields):
    model = config_lib.default_config().model
    fields = {"name": "resnet50", "num_classes": num_classes, "variant": "keras", **fields}
    with model.unlocked():
        model.update(fields)
    return models.create(model)


def shapes_of(model, size: int = 32):
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(functools.partial(model.init, jax.random.key(0)), x)


@pytest.mark.parametrize(
    ("name", "classes", "parameters", "statistics"),
    [
        ("resnet50", 3, 23_540_739, 53_120),
        ("resnet50", 1000, 25_583_592, 53_120),
        pytest.param("resnet101", 1000, 44_601_832, 105_344, marks=pytest.mark.slow),
        pytest.param("resnet152", 1000, 60_268_520, 151_424, marks=pytest.mark.slow),
    ],
)
def test_parameter_counts_match_keras(name: str, classes: int, parameters: int, statistics: int) -> None:
    shapes = shapes_of(keras_resnet(classes, name=name))
    assert models.count_parameters(shapes["params"]) == parameters
    assert models.count_parameters(shapes["batch_stats"]) == statistics


def test_convolutions_have_biases_and_keras_initialization() -> None:
    model = keras_resnet(stage_sizes=(1,), width=32)
    params = models.initialize(model, jax.random.key(0), (1, 32, 32, 3))["params"]
    flat = traverse_util.flatten_dict(params, sep="/")
    for path in flat:
        if path.endswith("kernel"):
            assert not flat[path.replace("kernel", "bias")].any()
    kernel = flat["stage1_block1/conv2/kernel"]  # Glorot uniform: ±sqrt(6 / (fan_in + fan_out))
    bound = (6 / (9 * 32 + 9 * 32)) ** 0.5
    assert 0.99 * bound < float(jnp.abs(kernel).max()) <= bound


def test_unknown_variant_raises() -> None:
    with pytest.raises(ConfigError, match=r"--config.model.variant=kera: .* \(did you mean keras"):
        keras_resnet(variant="kera")
