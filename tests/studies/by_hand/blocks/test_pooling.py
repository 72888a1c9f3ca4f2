"""Pooling by hand: our operations, Flax's, jax.grad, ties and refusals."""

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


def _of(function, x, *window, **options):
    """Output and gradient by x of `function`, differentiated by JAX."""
    y, pull = jax.vjp(lambda x: function(x, *window, **options), x)
    return y, pull(_gradient_like(y))[0]


def _by_hand(name, x, *window, **options):
    """Output and gradient by x of the pair `name`, `name`_backward."""
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
    def test_windows(self, window, strides, padding, others) -> None:
        # Small whole numbers: nearly every window holds its largest value more than once.
        x = np.random.default_rng(0).integers(0, 3, size=(2, 7, 8, 2)).astype(float)
        sizes = {"strides": strides, "padding": padding}

        @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
        def both_ways(x):
            pairs = [(_by_hand("max_pool", x, window, **sizes), _of(others[0], x, window, **sizes))]
            for counted in (True, False):
                options = {**sizes, "count_include_pad": counted}
                mine = _by_hand("average_pool", x, window, **options)
                pairs.append((mine, _of(others[1], x, window, **options)))
            return pairs

        for mine, theirs in both_ways(x):
            for ours, other in zip(mine, theirs, strict=True):
                np.testing.assert_allclose(ours, other, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("name", ["global_max_pool", "global_average_pool"])
    @pytest.mark.parametrize("ties", [True, False])
    def test_whole_images(self, name: str, ties: bool) -> None:
        generator = np.random.default_rng(0)
        x = jnp.asarray(generator.normal(size=(2, 4, 3, 5)))
        x = jnp.round(x) if ties else x
        plain = {"global_max_pool": jnp.max, "global_average_pool": jnp.mean}[name]
        mine = _by_hand(name, x)
        for other in (getattr(ops, name), lambda x: plain(x, axis=(1, 2))):
            for ours, theirs in zip(mine, _of(other, x), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)

    def test_a_global_pool_is_a_window_of_the_image(self) -> None:
        @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
        def both_ways(x):
            whole = [_by_hand(f"global_{name}_pool", x) for name in ("max", "average")]
            window = {"window": (4, 3), "strides": (1, 1)}
            return whole, [_by_hand(f"{name}_pool", x, **window) for name in ("max", "average")]

        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3, 5)))
        for whole, window in zip(*map(jax.tree.leaves, both_ways(x)), strict=True):
            np.testing.assert_allclose(whole, window.reshape(whole.shape), rtol=1e-12)


def test_the_report_s_example() -> None:
    x = jnp.array([1.0, 3.0, 2.0, 4.0]).reshape(1, 2, 2, 1)
    window = {"window": (2, 2), "strides": (2, 2)}
    assert pooling.max_pool(x, **window).item() == 4
    assert pooling.average_pool(x, **window).item() == 2.5


def test_padding_never_wins_and_is_counted_as_asked() -> None:
    sizes = {"window": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1))}

    @jax.jit
    def three_ways(x):
        left_out = pooling.average_pool(x, count_include_pad=False, **sizes)
        return pooling.max_pool(x, **sizes), pooling.average_pool(x, **sizes), left_out

    largest, counted, left_out = three_ways(-jnp.ones((1, 3, 3, 1)))
    np.testing.assert_array_equal(largest, -jnp.ones((1, 2, 2, 1)))
    np.testing.assert_allclose(counted, jnp.full((1, 2, 2, 1), -4 / 9), rtol=1e-6)
    np.testing.assert_allclose(left_out, -jnp.ones((1, 2, 2, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "window", "padding", "message"),
    [
        ((4, 4, 1), (2, 2), ((0, 0), (0, 0)), r"x \[4, 4, 1\] must be"),
        ((1, 2, 4, 1), (3, 3), ((0, 0), (0, 0)), r"\[3, 3\] does not fit on an image \[2, 4\]"),
        ((1, 4, 4, 1), (2, 2), ((2, 0), (0, 0)), r"padding .* for a window \[2, 2\]"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shape, window, padding, message) -> None:
    for pool in (pooling.max_pool, pooling.average_pool):
        with pytest.raises(ConfigError, match=message):
            pool(jnp.ones(shape), window, strides=(2, 2), padding=padding)


def test_gradients_of_another_shape_are_named() -> None:
    x, wrong = jnp.ones((1, 4, 4, 3)), jnp.ones((1, 1))
    sizes = {"window": (2, 2), "strides": (2, 2)}
    for backward, options, message in (
        (pooling.max_pool_backward, sizes, r"\[1, 2, 2, 3\]"),
        (pooling.average_pool_backward, sizes, r"\[1, 2, 2, 3\]"),
        (pooling.global_max_pool_backward, {}, r"\[1, 3\]"),
        (pooling.global_average_pool_backward, {}, r"\[1, 3\]"),
    ):
        with pytest.raises(ConfigError, match=rf"\[1, 1\] is not of the shape {message}"):
            backward(wrong, x, **options)
    with pytest.raises(ConfigError, match="a pixel or more"):
        pooling.global_max_pool(jnp.ones((1, 0, 4, 3)))
