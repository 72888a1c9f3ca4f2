"""Inception-ResNet v2: parameter counts, smallest input and residual blocks."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import models, ops
from jaxnets.models import inception_resnet_v2 as network
from jaxnets.models.base import Layers
from jaxnets.models.inception_resnet_v2 import InceptionResNetV2, Mixed5b, Residual, branches


@pytest.fixture(scope="module")
def smallest() -> tuple[Any, dict[str, Any]]:
    """Returns the shapes of the features of the smallest images and of the variables."""
    init = functools.partial(
        InceptionResNetV2(3).init_with_output, jax.random.key(0), train=False, method="features"
    )
    return jax.eval_shape(init, jax.ShapeDtypeStruct((2, 75, 75, 3), jnp.float32))


@pytest.mark.parametrize(("classes", "parameters"), [(3, 54_311_075), (1000, 55_843_464)])
def test_parameter_counts_match_timm(smallest, classes: int, parameters: int) -> None:
    features, variables = smallest
    model = InceptionResNetV2(classes)
    init = functools.partial(model.init, jax.random.key(0), train=False, method="head")
    head = jax.eval_shape(init, features)
    found = models.count_parameters([variables["params"], head["params"]])
    assert found == parameters
    assert models.count_parameters(variables["batch_stats"]) == 60_544


def test_smallest_image_gives_one_pixel(smallest) -> None:
    assert smallest[0].shape == (2, 1, 1, 1536)
    model = InceptionResNetV2(3, repeats=(0, 0, 1))
    init = functools.partial(model.init_with_output, jax.random.key(0), method="features")
    images = jax.ShapeDtypeStruct((2, 74, 74, 3), jnp.float32)
    features, _ = jax.eval_shape(functools.partial(init, train=False), images)
    assert features.shape[1:3] == (0, 0)


def _layers() -> Layers:
    """Returns layers whose kernels are ones."""
    init = ops.INITIALIZERS["torch"]._replace(kernel=nn.initializers.ones)
    return InceptionResNetV2(3).layers(conv=init)


BRANCHES = branches(((2, 1, 1),), ((2, 1, 1), (3, 1, 7)))


def test_residual_block_adds_its_scaled_branches() -> None:
    @jax.jit
    def compute(x):
        blocks = [
            Residual(BRANCHES, _layers(), scale, relu)
            for scale, relu in ((1.0, False), (0.1, False), (0.1, True))
        ]
        variables = blocks[0].init(jax.random.key(0), x, train=False)
        return variables["params"], [block.apply(variables, x, train=False) for block in blocks]

    x = np.random.default_rng(0).normal(size=(2, 5, 5, 4)).astype(np.float32)
    params, (unscaled, scaled, positive) = compute(x)
    assert params["projection"]["bias"].any()
    residual = unscaled - x
    assert np.abs(residual).max() > 1
    np.testing.assert_allclose(scaled, x + 0.1 * residual, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(positive, np.maximum(scaled, 0), rtol=1e-6, atol=1e-6)


def test_average_pool_of_mixed_5b_excludes_padding() -> None:
    module = Mixed5b(BRANCHES, _layers())
    y, _ = jax.jit(lambda x: module.init_with_output(jax.random.key(0), x, train=False))(
        np.ones((1, 4, 4, 3), np.float32)
    )
    pooled = y[..., -64:]
    np.testing.assert_allclose(pooled, np.full_like(pooled, pooled[0, 1, 1, 0]), rtol=1e-6)


def test_only_the_last_block_has_scale_1_and_no_relu() -> None:
    model = InceptionResNetV2(3).bind({})
    blocks = [block for block in model.blocks if isinstance(block, Residual)]
    scales = [network.SCALE_A] * 10 + [network.SCALE_B] * 20 + [network.SCALE_C] * 9 + [1.0]
    assert [block.scale for block in blocks] == scales
    assert [block.relu for block in blocks] == [True] * 39 + [False]
