"""Xception: variants, feature maps and what the separable convolutions compute."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import models
from jaxnets.models.xception import VARIANTS, SeparableConvNorm, Xception


@pytest.mark.parametrize("variant", VARIANTS)
def test_feature_map_of_the_paper(variant: str) -> None:
    model = Xception(3, variant=variant)
    init = functools.partial(model.init_with_output, jax.random.key(0), train=False, method="features")
    features, variables = jax.eval_shape(init, jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32))
    assert features.shape == (2, 10, 10, 2048)
    assert models.count_parameters(variables["batch_stats"]) == 54_528


def test_a_separable_convolution_is_one_convolution_with_the_product_of_its_kernels() -> None:
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=(2, 6, 7, 3)), jnp.float32)
    layer = SeparableConvNorm(Xception(3).layers(), 5, kernel_size=5, stride=2)
    variables = jax.jit(functools.partial(layer.init, train=False))(jax.random.key(0), x)
    depthwise, pointwise = (variables["params"][name]["kernel"] for name in ("depthwise", "conv"))
    kernel = jnp.einsum("hwic,xycf->hwcf", depthwise, pointwise)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = layer.apply(variables, x, train=False) * np.sqrt(
        1 + 1e-3
    )  # the norm's initial statistics are 0 and 1
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
