"""LeNet-5: options and image sizes."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks.oracles import load
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import ConfigError


def network(name: str = "lenet5", **changes: Any):
    config = config_lib.default_config()
    config.model.name, config.model.num_classes = name, 10
    config.model.update(changes)
    return models.create(config.model)


def test_average_pooling_follows_the_sigmoid_activation() -> None:
    """Convolution, activation, pooling: for a constant image the second feature map is constant."""
    model = network(pooling="average", activation="sigmoid")
    x = jnp.ones((1, 16, 16, 1))
    variables = load("drawn").variables(model, x.shape)
    features = model.apply(variables, x, train=False, method="features")
    first = jax.nn.sigmoid(
        variables["params"]["conv1"]["kernel"].sum((0, 1, 2)) + variables["params"]["conv1"]["bias"]
    )
    second = variables["params"]["conv2"]
    expected = jax.nn.sigmoid(first @ second["kernel"].sum((0, 1)) + second["bias"])
    assert jnp.allclose(features[0, 0, 0], expected, atol=1e-5)


@pytest.mark.parametrize(("kernel_size", "smallest"), [(1, 4), (3, 10), (5, 16), (7, 22)])
def test_smallest_image_depends_on_the_kernel_size(kernel_size: int, smallest: int) -> None:
    model = network(kernel_size=kernel_size)

    def shape(size: int) -> tuple[int, ...]:
        x = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        return jax.eval_shape(
            lambda v, x: model.apply(v, x, train=False, method="features"), variables, x
        ).shape

    assert shape(smallest) == (1, 1, 1, 16)
    with pytest.raises(ConfigError, match=f"of {smallest} pixels or more"):
        shape(smallest - 1)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("resnet50", {"model.activation": "tanh"}, "lenet5 or alexnet"),
        ("densenet121", {"model.pooling": "average"}, "lenet5 or alexnet"),
        ("alexnet", {"model.kernel_size": 3}, "set --config.model.name=lenet5,"),
    ],
)
def test_options_of_other_networks_raise(
    name: str, change: dict[str, Any], message: str, repository: Path
) -> None:
    spec = f"{repository}/configs/lung_resnet.py:smoke"
    with pytest.raises(ConfigError, match=message):
        config_lib.load_config(spec, {"model.name": name, **change})


def test_alexnet_accepts_activation_and_pooling() -> None:
    model = network("alexnet", activation="tanh", pooling="average")
    assert (model.activation, model.pooling) == ("tanh", "average")
