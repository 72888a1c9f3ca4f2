"""Batch normalization: output, gradients, running statistics, and all implementations."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxnets.errors import ConfigError
from jaxnets.ops import BatchNorm
from jaxnets.ops.cpu_kernels import Kernels
from jaxnets.ops.normalization import batch_norm
from jaxnets.runtime import xla

FIXTURES = [HealthCheck.function_scoped_fixture]  # the fixtures do not change between examples


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


def test_one_value_per_channel_raises() -> None:
    x = jnp.ones((1, 1, 1, 3))
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, train=False)
    with pytest.raises(ConfigError, match="more than one value"):
        layer.apply(variables, x, train=True, mutable=["batch_stats"])


def _formula(x, scale, bias):
    mean, var = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-3) * scale[None, None, None] + bias[None, None, None]


def _arguments(dtype) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(0)
    shapes = ((3, 4, 5, 2), (2,), (2,), (3, 4, 5, 2))
    return tuple(generator.normal(1.0, 2.0, shape).astype(dtype) for shape in shapes)


@pytest.mark.usefixtures("x64")
def test_custom_gradient_matches_the_formula_to_second_order() -> None:
    *arguments, cotangent = _arguments(np.float64)

    def value(function, *arguments):
        return jnp.sum(jnp.sin(function(*arguments)) * cotangent)

    ours = functools.partial(value, lambda *a: batch_norm(*a, 1e-3)[0])
    plain = functools.partial(value, _formula)

    def gradient_energy(function, *arguments):
        gradient = jax.grad(function, (0, 1, 2))(*arguments)
        return sum(jnp.sum(jnp.cos(each)) for each in gradient)

    for transform in (lambda f: f, lambda f: functools.partial(gradient_energy, f)):
        actual, expected = (jax.grad(transform(f), (0, 1, 2))(*arguments) for f in (ours, plain))
        chex.assert_trees_all_close(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_xla_implementation_has_all_derivatives() -> None:
    *arguments, _ = _arguments(np.float64)
    directions = [np.random.default_rng(1).normal(size=each.shape) for each in arguments]
    variables = {"mean": jnp.zeros(2), "var": jnp.ones(2)}
    layer = BatchNorm(epsilon=1e-3, dtype=jnp.float64, implementation="xla")

    def ours(x, scale, bias):
        given = {"params": {"scale": scale, "bias": bias}, "batch_stats": variables}
        return layer.apply(given, x, train=True, mutable=["batch_stats"])[0]

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(function):
        energy = lambda *a: jnp.sum(jnp.sin(function(*a)))  # noqa: E731
        directional = lambda *a: jax.jvp(energy, a, tuple(directions))[1]  # noqa: E731
        twice = jax.jvp(directional, tuple(arguments), tuple(directions))[1]
        gradients = (jax.grad(f, (0, 1, 2))(*arguments) for f in (energy, directional))
        return directional(*arguments), twice, *gradients

    chex.assert_trees_all_close(derivatives(ours), derivatives(_formula), rtol=1e-10, atol=1e-12)
    custom = BatchNorm(epsilon=1e-3, dtype=jnp.float64)
    given = {"params": {"scale": arguments[1], "bias": arguments[2]}, "batch_stats": variables}
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(
            lambda x: custom.apply(given, x, train=True, mutable=["batch_stats"])[0],
            (arguments[0],),
            (directions[0],),
        )


@pytest.mark.usefixtures("x64")
def test_xla_and_custom_gradient_agree_over_several_devices() -> None:
    x, scale, bias, cotangent = _arguments(np.float64)

    def gradients(function):
        @functools.partial(jax.vmap, in_axes=(0, None, None, 0), axis_name="devices")
        def on_one_device(x, scale, bias, cotangent):
            y, pull, rest = jax.vjp(
                lambda *a: _split_first(function(*a, 1e-3, axis_name="devices")), x, scale, bias, has_aux=True
            )
            return y, rest, pull(cotangent)

        split = (each.reshape(3, 1, *each.shape[1:]) for each in (x, cotangent))
        return on_one_device(next(split), scale, bias, next(split))

    plain = functools.partial(batch_norm, implementation="xla")
    chex.assert_trees_all_close(gradients(plain), gradients(batch_norm), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_several_devices_match_double_precision(kernels: tuple[Kernels, ...], offset: float) -> None:
    """Their merged moments do not cancel; a large mean differs between the devices."""
    generator = np.random.default_rng(0)
    x, cotangent = generator.normal(size=(2, 4, 3, 5, 5, 7)).astype(np.float32)
    x += np.float32(offset) * np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1, 1, 1)
    scale, bias = generator.normal(1, 0.3, size=(2, 7)).astype(np.float32)
    images = (4 * 3, 5, 5, 7)
    exact = _exact(x.reshape(images), scale, bias, cotangent.reshape(images))

    @functools.partial(jax.jit, static_argnums=0)
    def results(implementation, x, cotangent):
        @functools.partial(jax.vmap, axis_name="devices")
        def on_one_device(x, cotangent):
            (y, *moments), pull = jax.vjp(
                lambda *a: batch_norm(*a, 1e-5, axis_name="devices", implementation=implementation),
                x,
                scale,
                bias,
            )
            return y, *pull((cotangent, *map(jnp.zeros_like, moments))), *moments

        return on_one_device(x, cotangent)

    for implementation in ("xla", "by_shape", *kernels):
        y, grad_x, grad_scale, grad_bias, mean, var = results(implementation, x, cotangent)
        found = (y.reshape(images), grad_x.reshape(images), grad_scale.sum(0), grad_bias.sum(0))
        moments = 0.1 * mean[0], 0.9 + 0.1 * var[0] * (300 / 299)
        for mine, expected in zip((*found, *moments), exact, strict=True):
            # The mean is up to 2.3 deviations; rounding of x near 400 is relative to a deviation of 112.
            assert np.abs(mine - expected).max() <= 1e-5 * np.abs(expected).max()


def _split_first(results):
    return results[0], results[1:]


def test_vmap_and_checkpoint() -> None:
    x, scale, bias, _ = _arguments(np.float32)
    function = lambda x: batch_norm(x, scale, bias, 1e-3)[0].sum(axis=-1)  # noqa: E731
    stacked = jnp.stack([x, 2 * x])
    np.testing.assert_allclose(jax.vmap(function)(stacked)[1], function(2 * x), rtol=1e-5)
    gradient = lambda f: jax.grad(lambda x: jnp.sum(f(x) ** 2))(x)  # noqa: E731
    chex.assert_trees_all_close(gradient(jax.checkpoint(function)), gradient(function), rtol=1e-5, atol=1e-5)


def test_jax_alone_stores_each_output_and_sums_by_products() -> None:
    """XLA's fusion would compute an output again for every reader; its own sums are slow."""

    def outputs_and_gradients(x, scale, bias):
        def blocks(x, scale, bias):
            for _ in range(3):
                x = batch_norm(x, scale, bias, 1e-3, residual=x, relu=True, implementation="by_shape")[0]
            return x

        y, pull = jax.vjp(blocks, x, scale, bias)
        return y, pull(y)

    arguments = jnp.ones((2, 40, 40, 8)), jnp.ones(8), jnp.zeros(8)
    program = xla.jit(outputs_and_gradients).lower(*arguments).compile().as_text()
    assert program.count(" maximum(") == 3
    assert " reduce(" not in program
    assert " reduce-window(" not in program


def test_statistics_have_no_gradient() -> None:
    x, scale, bias, _ = _arguments(np.float32)
    for form in ("by_shape", "xla"):
        statistics = lambda x: sum(map(jnp.sum, batch_norm(x, scale, bias, 1e-3, implementation=form)[1:]))  # noqa: E731, B023
        assert not jax.grad(statistics)(x).any()


@pytest.mark.parametrize(
    "shape",
    [
        (8, 8, 8, 64),
        (3, 4, 5, 7),
        (4, 3, 3, 130),
        (16, 32, 32, 64),  # many groups of pixels, which are merged
        (5, 61, 67, 7),  # the last group is smaller
    ],
)
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_kernels_match_double_precision(
    kernels: tuple[Kernels, ...], shape: tuple[int, ...], mean: float
) -> None:
    generator = np.random.default_rng(0)
    x, cotangent = generator.normal(size=(2, *shape)).astype(np.float32)
    x += np.float32(mean)
    scale, bias = generator.normal(size=(2, shape[-1])).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def results(implementation, dtype, *arrays):
        x, scale, bias, cotangent = (each.astype(dtype) for each in arrays)
        ones = {"mean": jnp.ones(shape[-1], dtype), "var": jnp.ones(shape[-1], dtype)}
        layer = BatchNorm(dtype=dtype, implementation=implementation)

        def apply(x, scale, bias):
            variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": ones}
            return layer.apply(variables, x, train=True, mutable=["batch_stats"])

        y, pull, updates = jax.vjp(apply, x, scale, bias, has_aux=True)
        return y, *pull(cotangent), updates["batch_stats"]

    with jax.enable_x64(True):
        exact = jax.device_get(results("by_shape", jnp.float64, x, scale, bias, cotangent))
    for implementation in kernels:
        ours = jax.device_get(results(implementation, jnp.float32, x, scale, bias, cotangent))
        for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(exact), strict=True):
            # The relative rounding error of 6e-8 is multiplied by mean / deviation, up to 100.
            bound = (1 + mean) * 1e-6 + 5e-6
            assert np.abs(mine - other).max() <= bound * np.abs(other).max()


def _exact(x, scale, bias, cotangent):
    """Returns output, gradients and updated statistics by numpy, from mean 0 and variance 1."""
    x, scale, bias, cotangent = (each.astype(np.float64) for each in (x, scale, bias, cotangent))
    pixels, count = (0, 1, 2), x.size // x.shape[-1]
    mean, var = x.mean(pixels), x.var(pixels)
    deviation = 1 / np.sqrt(var + 1e-5)
    normalized = (x - mean) * deviation
    sums, products = cotangent.sum(pixels), (cotangent * normalized).sum(pixels)
    grad_x = scale * deviation * (cotangent - sums / count - normalized * products / count)
    statistics = (0.1 * mean, 0.9 + 0.1 * var * count / (count - 1))
    return normalized * scale + bias, grad_x, products, sums, *statistics


def _apply(implementation, x, scale, bias):
    """Returns the output and updated statistics of a layer, from mean 0 and variance 1."""
    layer = BatchNorm(dtype=scale.dtype, compute_dtype=x.dtype, implementation=implementation)
    before = {"mean": jnp.zeros_like(scale), "var": jnp.ones_like(scale)}
    variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": before}
    return layer.apply(variables, x, train=True, mutable=["batch_stats"])


def _results(implementation, x, scale, bias, cotangent, transform=lambda function: function):
    """Returns the output, the gradients and the statistics."""
    apply = transform(functools.partial(_apply, implementation))
    y, pull, updates = jax.vjp(apply, x, scale, bias, has_aux=True)
    statistics = updates["batch_stats"]
    return y, *pull(cotangent), statistics["mean"], statistics["var"]


def _check(implementations, precision, shape, offset, seed, compiler_options=None) -> None:
    dtype, bound = precision
    param_dtype = np.float64 if dtype == np.float64 else np.float32  # also of the statistics
    generator = np.random.default_rng(seed)
    x = (offset + generator.normal(size=shape)).astype(dtype)
    cotangent = generator.normal(size=shape).astype(dtype)
    scale, bias = generator.normal(1, 0.3, size=(2, shape[-1])).astype(param_dtype)

    @functools.partial(jax.jit, compiler_options=compiler_options)
    def compute(*arrays):
        found = [_results(implementation, *arrays) for implementation in implementations]
        assert all(y.dtype == dtype for y, *_ in found)
        return found

    exact = _exact(x, scale, bias, cotangent)
    names = ("y", "grad x", "grad scale", "grad bias", "mean", "var")
    # The error of a sum is relative to its terms, in case they cancel.
    normalized = (x.astype(np.float64) - x.mean((0, 1, 2))) / x.astype(np.float64).std((0, 1, 2))
    terms = {"grad scale": cotangent * normalized, "grad bias": cotangent.astype(np.float64)}
    min_size = {name: np.linalg.norm(each) / shape[-1] ** 0.5 for name, each in terms.items()}
    for implementation, ours in zip(implementations, compute(x, scale, bias, cotangent), strict=True):
        for name, mine, expected in zip(names, ours, exact, strict=True):
            error = np.abs(np.asarray(mine, np.float64) - expected).max()
            size = max(np.abs(expected).max(), min_size.get(name, 0.0))
            assert error <= bound * size, (implementation, name)


SHAPES = st.tuples(
    st.integers(2, 5), st.integers(2, 9), st.integers(2, 9), st.sampled_from([1, 3, 16, 21, 48, 65])
)
WIDE = st.tuples(st.just(2), st.integers(30, 34), st.integers(30, 34), st.integers(17, 63))
OFFSETS = st.sampled_from([0.0, 3.0])


@settings(max_examples=6, deadline=None)
@given(shape=SHAPES, offset=OFFSETS, seed=st.integers(0, 1000))
def test_every_implementation_matches_numpy(kernels, shape, offset, seed) -> None:
    implementations = ("xla", "by_shape", *kernels)
    _check(implementations, (np.dtype(np.float32), 1e-5), shape, offset, seed)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@settings(max_examples=50, deadline=None, suppress_health_check=FIXTURES)
@given(shape=st.one_of(SHAPES, WIDE), offset=OFFSETS, seed=st.integers(0, 1000))
def test_every_implementation_matches_numpy_in_every_precision(
    kernels, precision, optimized, shape, offset, seed
) -> None:
    _check(("xla", "by_shape", *kernels), precision, shape, offset, seed, optimized)


def test_kernels_have_second_derivatives(kernels: tuple[Kernels, ...]) -> None:
    x, scale, bias, direction = _arguments(np.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def curvatures(implementation):
        variables = {
            "params": {"scale": scale, "bias": bias},
            "batch_stats": {"mean": bias, "var": jnp.ones(2)},
        }
        layer = BatchNorm(implementation=implementation)

        def energy(x):
            y, _ = layer.apply(variables, x, train=True, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(y))

        slope = jax.grad(energy)
        forward = jax.jvp(slope, (x,), (direction,))[1]
        return forward, jax.grad(lambda x: jnp.vdot(slope(x), direction))(x)

    for mine, other in zip(curvatures(kernels[-1]), curvatures("by_shape"), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("channels", [3, 21])
@pytest.mark.parametrize("shared", [False, True])
def test_kernels_support_vmap_and_checkpoint(
    kernels: tuple[Kernels, ...], channels: int, shared: bool
) -> None:
    generator = np.random.default_rng(0)
    xs, cotangents = generator.normal(1.0, 2.0, (2, 3, 2, 5, 4, channels)).astype(np.float32)
    scales, biases = generator.normal(1.0, 0.3, (2, 3, channels)).astype(np.float32)
    if shared:  # one scale and bias for all
        scales[:], biases[:] = scales[0], biases[0]
    given = (scales[0], biases[0]) if shared else (scales, biases)
    axes = (0, None, None, 0) if shared else (0, 0, 0, 0)
    results = functools.partial(_results, kernels[-1], transform=jax.checkpoint)
    program = jax.jit(jax.vmap(results, axes)).lower(xs, *given, cotangents)
    assert kernels[-1].library in program.as_text()
    ours = program.compile()(xs, *given, cotangents)
    exact = zip(*map(_exact, xs, scales, biases, cotangents), strict=True)
    for mine, expected in zip(ours, exact, strict=True):
        assert np.abs(mine - np.array(expected)).max() <= 1e-5 * np.abs(expected).max()


def test_forward_mode_needs_the_xla_implementation(kernels: tuple[Kernels, ...]) -> None:
    x, scale, bias, direction = _arguments(np.float32)

    def output(implementation, x):
        return _apply(implementation, x, scale, bias)[0]

    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(functools.partial(output, kernels[-1]), (x,), (direction,))
    tangent = jax.jvp(functools.partial(output, "xla"), (x,), (direction,))[1]
    # <cotangent, J v> = <Jᵀ cotangent, v>
    grad_x = _results(kernels[-1], x, scale, bias, direction)[1]
    np.testing.assert_allclose(np.vdot(tangent, direction), np.vdot(grad_x, direction), rtol=1e-5)
