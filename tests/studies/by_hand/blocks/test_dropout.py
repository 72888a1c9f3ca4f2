"""Dropout compared with Flax and jax.grad, and its expectation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.errors import ConfigError
from studies.by_hand.blocks.dropout import draw_mask, dropout, dropout_backward


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5])
def test_matches_flax_and_its_gradient(rate: float) -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 20)))
    key, gradient = jax.random.key(3), jnp.cos(x)
    layer = nn.Dropout(rate, deterministic=False)
    theirs, pull = jax.vjp(lambda x: layer.apply({}, x, rngs={"dropout": key}), x)
    mask = theirs != 0
    np.testing.assert_allclose(dropout(x, mask, rate), theirs, rtol=1e-15)
    np.testing.assert_allclose(dropout_backward(gradient, mask, rate), pull(gradient)[0], rtol=1e-15)


def test_mask_matches_flax() -> None:
    key, x = jax.random.key(3), jnp.ones((50, 20))
    theirs = nn.Dropout(0.2, deterministic=False).apply({}, x, rng=key)
    np.testing.assert_array_equal(draw_mask(key, 0.2, x.shape), theirs != 0)


@pytest.mark.usefixtures("x64")
def test_expectation_over_all_masks_is_the_input() -> None:
    # All 2^4 masks, weighted by their probability, so the test is exact.
    x, rate = jnp.array([1.0, -2.0, 3.0, 0.5]), 0.2
    masks = jnp.array([[number >> bit & 1 for bit in range(4)] for number in range(16)]) == 1
    probabilities = jnp.where(masks, 1 - rate, rate).prod(axis=1)
    mean = probabilities @ dropout(jnp.tile(x, (16, 1)), masks, rate)
    np.testing.assert_allclose(mean, x, rtol=1e-15)
    np.testing.assert_array_equal(dropout(x, None, rate), x)  # inference is not scaled


def test_mismatched_mask_and_invalid_rate_raise() -> None:
    with pytest.raises(ConfigError, match=r"mask \[3\] for values \[2, 3\]"):
        dropout(jnp.ones((2, 3)), jnp.ones(3, bool), 0.5)
    for rate in (-0.1, 1.0):
        with pytest.raises(ConfigError, match=rf"rate of {rate} is not in \[0, 1\)"):
            draw_mask(jax.random.key(0), rate, (2,))
