"""Pooling compared with our operations, Flax and jax.grad, including ties."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import ops
from jaxnets.errors import ConfigError
from studies.by_hand.blocks import pooling


def _gradient_like(y):
    return jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)


def _by_jax(function, x, *window, **options):
    """Returns the output of `function` and its gradient by JAX."""
    y, pull = jax.vjp(lambda x: function(x, *window, **options), x)
    return y, pull(_gradient_like(y))[0]


def _by_hand(name, x, *window, **options):
    """Returns the output of `name` and its gradient by `name`_backward."""
    y = getattr(pooling, name)(x, *window, **options)
    backward = getattr(pooling, f"{name}_backward")
    return y, backward(_gradient_like(y), x, *window, **options)


@pytest.mark.usefixtures("x64")
class TestAgainstOthers:
    @pytest.mark.parametrize(
        ("window", "strides", "padding", "others"),
        [
            ((2, 2), (2, 2), ((0, 0), (0, 0)), (ops.max_pool, ops.average_pool)),
            ((3, 2), (2, 1), ((1, 2), (1, 0)), (ops.max_pool, ops.average_pool)),
            ((2, 3), (1, 3), ((1, 0), (0, 2)), (nn.max_pool, nn.avg_pool)),
        ],
    )
    def test_windowed_pooling(self, window, strides, padding, others) -> None:
        # Small integers, so nearly every window has ties.
        x = np.random.default_rng(0).integers(0, 3, size=(2, 7, 8, 2)).astype(float)
        sizes = {"strides": strides, "padding": padding}

        @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
        def compute(x):
            pairs = [(_by_hand("max_pool", x, window, **sizes), _by_jax(others[0], x, window, **sizes))]
            for count_include_pad in (True, False):
                options = {**sizes, "count_include_pad": count_include_pad}
                mine = _by_hand("average_pool", x, window, **options)
                pairs.append((mine, _by_jax(others[1], x, window, **options)))
            return pairs

        for mine, theirs in compute(x):
            for ours, other in zip(mine, theirs, strict=True):
                np.testing.assert_allclose(ours, other, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("name", ["global_max_pool", "global_average_pool"])
    @pytest.mark.parametrize("ties", [True, False])
    def test_global_pooling(self, name: str, ties: bool) -> None:
        generator = np.random.default_rng(0)
        x = jnp.asarray(generator.normal(size=(2, 4, 3, 5)))
        x = jnp.round(x) if ties else x
        plain = {"global_max_pool": jnp.max, "global_average_pool": jnp.mean}[name]
        mine = _by_hand(name, x)
        for other in (getattr(ops, name), lambda x: plain(x, axis=(1, 2))):
            for ours, theirs in zip(mine, _by_jax(other, x), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)

    def test_global_pooling_equals_a_window_of_the_image_size(self) -> None:
        @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
        def compute(x):
            global_ = [_by_hand(f"global_{name}_pool", x) for name in ("max", "average")]
            window = {"window": (4, 3), "strides": (1, 1)}
            return global_, [_by_hand(f"{name}_pool", x, **window) for name in ("max", "average")]

        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3, 5)))
        for global_, window in zip(*map(jax.tree.leaves, compute(x)), strict=True):
            np.testing.assert_allclose(global_, window.reshape(global_.shape), rtol=1e-12)


def test_example_of_the_report() -> None:
    x = jnp.array([1.0, 3.0, 2.0, 4.0]).reshape(1, 2, 2, 1)
    window = {"window": (2, 2), "strides": (2, 2)}
    assert pooling.max_pool(x, **window).item() == 4
    assert pooling.average_pool(x, **window).item() == 2.5


def test_padding_is_never_the_maximum_and_count_include_pad() -> None:
    sizes = {"window": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1))}

    @jax.jit
    def compute(x):
        excluded = pooling.average_pool(x, count_include_pad=False, **sizes)
        return pooling.max_pool(x, **sizes), pooling.average_pool(x, **sizes), excluded

    largest, included, excluded = compute(-jnp.ones((1, 3, 3, 1)))
    np.testing.assert_array_equal(largest, -jnp.ones((1, 2, 2, 1)))
    np.testing.assert_allclose(included, jnp.full((1, 2, 2, 1), -4 / 9), rtol=1e-6)
    np.testing.assert_allclose(excluded, -jnp.ones((1, 2, 2, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "window", "padding", "message"),
    [
        ((4, 4, 1), (2, 2), ((0, 0), (0, 0)), r"x \[4, 4, 1\] must be"),
        ((1, 2, 4, 1), (3, 3), ((0, 0), (0, 0)), r"\[3, 3\] does not fit on an image \[2, 4\]"),
        ((1, 4, 4, 1), (2, 2), ((2, 0), (0, 0)), r"padding .* for a window \[2, 2\]"),
    ],
)
def test_mismatched_shapes_raise(shape, window, padding, message) -> None:
    for pool in (pooling.max_pool, pooling.average_pool):
        with pytest.raises(ConfigError, match=message):
            pool(jnp.ones(shape), window, strides=(2, 2), padding=padding)


def test_mismatched_gradients_raise() -> None:
    x, wrong = jnp.ones((1, 4, 4, 3)), jnp.ones((1, 1))
    sizes = {"window": (2, 2), "strides": (2, 2)}
    for backward, options, message in (
        (pooling.max_pool_backward, sizes, r"\[1, 2, 2, 3\]"),
        (pooling.average_pool_backward, sizes, r"\[1, 2, 2, 3\]"),
        (pooling.global_max_pool_backward, {}, r"\[1, 3\]"),
        (pooling.global_average_pool_backward, {}, r"\[1, 3\]"),
    ):
        with pytest.raises(ConfigError, match=rf"\[1, 1\], but the pooling's output has shape {message}"):
            backward(wrong, x, **options)
    with pytest.raises(ConfigError, match="at least one pixel"):
        pooling.global_max_pool(jnp.ones((1, 0, 4, 3)))
