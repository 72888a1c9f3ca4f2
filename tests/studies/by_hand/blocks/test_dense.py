"""The dense layer and flattening compared with our layers and jax.grad."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen.initializers import zeros

from jaxnets import ops
from jaxnets.errors import ConfigError
from studies.by_hand.blocks.dense import dense, dense_backward, flatten, flatten_backward


@pytest.mark.usefixtures("x64")
def test_matches_our_layer_and_jax_gradients() -> None:
    generator = np.random.default_rng(0)
    x, kernel = generator.normal(size=(5, 4)), generator.normal(size=(4, 3))
    bias, gradient = generator.normal(size=3), generator.normal(size=(5, 3))
    layer = ops.Dense(3, ops.Initialization(zeros, lambda fan_in: zeros), dtype=jnp.float64)

    def ours(x, kernel, bias):
        return layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)

    y, pull = jax.vjp(ours, x, kernel, bias)
    np.testing.assert_allclose(dense(x, kernel, bias), y, rtol=1e-14)
    for grad, expected in zip(dense_backward(gradient, x, kernel), pull(gradient), strict=True):
        np.testing.assert_allclose(grad, expected, rtol=1e-14, atol=1e-15)


def test_flatten_order_matches_our_networks() -> None:
    x = jnp.arange(24.0).reshape(2, 2, 3, 2)
    flat = flatten(x)
    np.testing.assert_array_equal(flat, x.reshape(2, -1))  # as jaxnets.models.lenet does
    np.testing.assert_array_equal(flatten_backward(flat, x.shape), x)


@pytest.mark.parametrize(
    ("x", "kernel", "bias", "message"),
    [
        ((5, 4), (3, 2), (2,), r"x \[5, 4\] and kernel \[3, 2\]"),
        ((4,), (4, 2), (2,), r"x \[4\] and kernel \[4, 2\]"),
        # The mistake of report A: a column broadcasts along a batch of the same size.
        (
            (4, 4),
            (4, 4),
            (4, 1),
            r"bias \[4, 1\] for a kernel \[4, 4\]: it must have one value per neuron, \[4\]",
        ),
    ],
)
def test_mismatched_shapes_raise(x, kernel, bias, message) -> None:
    with pytest.raises(ConfigError, match=message):
        dense(jnp.ones(x), jnp.ones(kernel), jnp.ones(bias))


def test_mismatched_gradients_raise() -> None:
    with pytest.raises(ConfigError, match=r"\[5, 1\], but the layer's output has shape \[5, 2\]"):
        dense_backward(jnp.ones((5, 1)), jnp.ones((5, 4)), jnp.ones((4, 2)))
    with pytest.raises(ConfigError, match=r"\[2, 11\] does not match the shape \[2, 2, 3, 2\]"):
        flatten_backward(jnp.ones((2, 11)), (2, 2, 3, 2))
