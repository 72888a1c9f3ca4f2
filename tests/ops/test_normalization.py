"""Batch normalisation by hand: output, running statistics, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.ops import BatchNorm


@pytest.mark.usefixtures("x64")
def test_output_and_statistics_by_hand() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(4, 5, 6, 3))
    layer = BatchNorm(dtype=jnp.float64)
    variables = layer.init(jax.random.key(0), x, train=False)
    y, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    mean, var, count = x.mean((0, 1, 2)), x.var((0, 1, 2)), 4 * 5 * 6
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-12)
    statistics = updated["batch_stats"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * mean, rtol=1e-12)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * var * count / (count - 1), rtol=1e-12)


def test_evaluation_uses_the_running_statistics() -> None:
    x = jnp.full((2, 2, 2, 1), 5.0)
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, train=False)
    variables["batch_stats"] = {"mean": jnp.array([1.0]), "var": jnp.array([4.0])}
    np.testing.assert_allclose(layer.apply(variables, x, train=False), 2.0, rtol=1e-5)


def test_large_means_do_not_cancel() -> None:
    noise = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), noise, train=False)
    y, _ = layer.apply(variables, 1000 + noise, train=True, mutable=["batch_stats"])
    expected = (noise - noise.mean()) / noise.std()
    np.testing.assert_allclose(y, expected, atol=2e-3)


def test_one_value_a_channel_is_refused() -> None:
    x = jnp.ones((1, 1, 1, 3))
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, train=False)
    with pytest.raises(ValueError, match="more than one value"):
        layer.apply(variables, x, train=True, mutable=["batch_stats"])
