"""AlexNet: parameter counts, feature maps and variants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.models.alexnet import AlexNet
from jaxnets.models.base import adaptive_average_pool


def shapes(variant: str, size: int = 32, classes: int = 10):
    model = AlexNet(classes, variant=variant)
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    features = jax.eval_shape(lambda v, x: model.apply(v, x, train=False, method="features"), variables, x)
    return variables, features


@pytest.mark.parametrize(
    ("variant", "parameters", "last_map"), [("pool3", 57_023_306, (3, 3)), ("pool2", 56_826_698, (4, 4))]
)
def test_parameter_counts_and_last_feature_map(
    variant: str, parameters: int, last_map: tuple[int, int]
) -> None:
    variables, features = shapes(variant)
    assert models.count_parameters(variables["params"]) == parameters
    assert set(variables) == {"params"}
    assert features.shape == (1, *last_map, 256)


def test_smallest_image_gives_one_pixel() -> None:
    smallest = models.entry("alexnet").smallest
    assert [shapes(variant, smallest)[1].shape[1] for variant in ("pool3", "pool2")] == [1, 1]
    assert shapes("pool3", smallest - 1)[1].shape[1] == 0


def test_variant_is_set_by_the_config() -> None:
    config = config_lib.default_config()
    config.model.name, config.model.num_classes = "alexnet", 10
    assert models.create(config.model).variant == "pool3"
    config.model.variant = "pool2"
    assert models.create(config.model).variant == "pool2"


def test_adaptive_average_pool_repeats_pixels() -> None:
    """From 3x3 to 6x6 each bin is one pixel wide, so every pixel occurs twice per axis."""
    x = np.arange(9.0, dtype=np.float32).reshape(1, 3, 3, 1)
    pooled = adaptive_average_pool(jnp.asarray(x), (6, 6))
    np.testing.assert_array_equal(pooled[0, :, :, 0], x[0, :, :, 0].repeat(2, 0).repeat(2, 1))
