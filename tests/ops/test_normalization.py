"""Batch normalisation by hand: output, running statistics, refusals."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.ops import BatchNorm
from jaxnets.ops.normalization import batch_norm


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


def _plain(x, scale, bias):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(var + 1e-3) * scale + bias


def _arguments(dtype) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(0)
    shapes = ((3, 4, 5, 2), (2,), (2,), (3, 4, 5, 2))
    return tuple(generator.normal(1.0, 2.0, shape).astype(dtype) for shape in shapes)


@pytest.mark.usefixtures("x64")
def test_the_written_gradient_is_that_of_the_plain_form_to_second_order() -> None:
    *arguments, cotangent = _arguments(np.float64)

    def value(function, *arguments):
        return jnp.sum(jnp.sin(function(*arguments)) * cotangent)

    ours = functools.partial(value, lambda *a: batch_norm(*a, 1e-3, None)[0])
    plain = functools.partial(value, _plain)

    def tilted_gradient(function, *arguments):
        gradient = jax.grad(function, (0, 1, 2))(*arguments)
        return sum(jnp.sum(jnp.cos(each)) for each in gradient)

    for of in (lambda f: f, lambda f: functools.partial(tilted_gradient, f)):
        mine, other = (jax.grad(of(f), (0, 1, 2))(*arguments) for f in (ours, plain))
        chex.assert_trees_all_close(mine, other, rtol=1e-10, atol=1e-12)


def test_it_maps_and_rematerialises() -> None:
    x, scale, bias, _ = _arguments(np.float32)
    function = lambda x: batch_norm(x, scale, bias, 1e-3, None)[0].sum(axis=-1)  # noqa: E731
    stacked = jnp.stack([x, 2 * x])
    np.testing.assert_allclose(jax.vmap(function)(stacked)[1], function(2 * x), rtol=1e-5)
    gradient = lambda f: jax.grad(lambda x: jnp.sum(f(x) ** 2))(x)  # noqa: E731
    chex.assert_trees_all_close(
        gradient(jax.checkpoint(function)), gradient(function), rtol=1e-5, atol=1e-5
    )


def test_statistics_carry_no_gradient() -> None:
    x, scale, bias, _ = _arguments(np.float32)
    gradient = jax.grad(lambda x: sum(map(jnp.sum, batch_norm(x, scale, bias, 1e-3, None)[1:])))(x)
    assert not gradient.any()
