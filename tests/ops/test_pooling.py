"""Pooling: values, padding, ties, NaN and gradients."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.oracles import load
from jaxnets.ops import average_pool, global_average_pool, global_max_pool, max_pool
from jaxnets.ops.cpu_kernels import Implementation, Kernels
from jaxnets.ops.windows import Windows

FIXTURES = [HealthCheck.function_scoped_fixture]  # the fixtures do not change between examples
oracle = load("windows")
PADDED = {"strides": (2, 2), "padding": ((1, 1), (1, 1))}


SIDES = st.tuples(st.integers(1, 4), st.integers(1, 4))
STRIDES = st.tuples(st.integers(1, 3), st.integers(1, 3))
SIZES = st.tuples(st.integers(4, 11), st.integers(4, 11))


LONG = st.sampled_from([(1, 7), (7, 1), (3, 3)])
WIDE = st.tuples(st.integers(30, 34), st.integers(30, 34))


@st.composite
def cases(draw: st.DrawFn, windows: Any = SIDES, sizes: Any = SIZES) -> tuple[Any, Any, dict[str, Any]]:
    """Draws an image size, a window, strides and padding, such that every window contains a pixel."""
    window = draw(windows)
    padding = tuple((draw(st.integers(0, side - 1)), draw(st.integers(0, side - 1))) for side in window)
    return draw(sizes), window, {"strides": draw(STRIDES), "padding": padding}


def _with_gradient(
    x: jax.Array,
    window: tuple[int, int],
    cotangent: jax.Array,
    implementation: Implementation,
    **options: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Maxima, the gradient of x, and the maxima of a call without gradients."""
    pool = functools.partial(max_pool, window=window, implementation=implementation, **options)
    y, pull = jax.vjp(pool, x)
    return y, *pull(cotangent), pool(x)


@settings(max_examples=8, deadline=None)
@given(
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pad=st.integers(0, 1),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    channels=st.sampled_from([1, 3, 16, 21, 48]),
    seed=st.integers(0, 1000),
)
def test_every_implementation_matches_numpy_with_ties_and_nan(
    kernels, window, strides, pad, size, channels, seed
) -> None:
    pad = min(pad, min(window) - 1)
    options = {"strides": strides, "padding": ((pad, pad), (pad, pad))}
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 3, size=(2, *size, channels)).astype(np.float32)
    with_nan = np.where(generator.random(x.shape) < 0.1, np.float32(np.nan), x)
    y_shape = oracle.output_shape(x.shape, window, channels, **options)
    cotangent = generator.normal(size=y_shape).astype(np.float32)

    @jax.jit
    def compute(x, with_nan):
        cases = [(x, "xla"), *((v, f) for f in ("by_shape", *kernels) for v in (x, with_nan))]
        return [
            _with_gradient(v, window, cotangent, implementation, **options) for v, implementation in cases
        ]

    exact, exact_with_nan = (oracle.max_pool(v, window, cotangent, **options) for v in (x, with_nan))
    reference, *others = compute(x, with_nan)
    expected = [exact, *(len(others) // 2 * [exact, exact_with_nan])]
    for ours, (y, grad_x) in zip([reference, *others], expected, strict=True):
        np.testing.assert_array_equal(ours[0], y)
        np.testing.assert_array_equal(ours[2], y)
        np.testing.assert_allclose(ours[1], grad_x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize(("window", "padding"), [((3, 3), ((1, 0), (0, 2))), ((1, 7), ((0, 0), (6, 5)))])
@pytest.mark.parametrize("channels", [16, 48, 2896])
def test_maxima_of_many_channels_without_gradients(
    kernels: tuple[Kernels, ...],
    channels: int,
    window: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
    strides: tuple[int, int],
    dtype: str,
) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(1, 5, 40 if channels < 100 else 12, channels))
    values[generator.random(values.shape) < 0.05] = -np.inf
    values[generator.random(values.shape) < 0.02] = np.nan
    x, options = jnp.asarray(values, dtype), {"strides": strides, "padding": padding}
    expected = np.asarray(max_pool(x, window, implementation="by_shape", **options), np.float64)
    assert np.isnan(expected).any()
    for implementation in kernels:
        ours = np.asarray(max_pool(x, window, implementation=implementation, **options), np.float64)
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@settings(max_examples=50, deadline=None, suppress_health_check=FIXTURES)
@given(
    case=st.one_of(cases(), cases(LONG, WIDE)),
    channels=st.sampled_from([1, 3, 16, 21, 33, 48, 63]),
    seed=st.integers(0, 1000),
)
def test_every_implementation_matches_numpy_in_every_precision(
    kernels: tuple[Kernels, ...],
    precision: tuple[Any, float],
    optimized: dict[str, int],
    case: tuple[Any, Any, dict[str, Any]],
    channels: int,
    seed: int,
) -> None:
    (size, window, options), (dtype, bound) = case, precision
    generator = np.random.default_rng(seed)
    # Small integers have many ties and are exact in every precision.
    x = generator.integers(0, 3, size=(2, *size, channels)).astype(dtype)
    with_nan = np.where(generator.random(x.shape) < 0.1, np.array(np.nan, dtype), x)
    y_shape = oracle.output_shape(x.shape, window, channels, **options)
    cotangent = generator.normal(size=y_shape).astype(dtype)
    values = {"xla": x, "by_shape": with_nan, **dict.fromkeys(kernels, with_nan)}

    @functools.partial(jax.jit, compiler_options=optimized)
    def compute():
        return [
            _with_gradient(jnp.asarray(v), window, cotangent, implementation, **options)
            for implementation, v in values.items()
        ]

    for given_x, (ours_y, our_gradient, alone) in zip(values.values(), compute(), strict=True):
        y, grad_x = oracle.max_pool(given_x, window, cotangent.astype(np.float64), **options)
        assert ours_y.dtype == our_gradient.dtype == dtype
        np.testing.assert_array_equal(np.asarray(ours_y, np.float64), y)
        np.testing.assert_array_equal(np.asarray(alone, np.float64), y)
        error = np.abs(np.asarray(our_gradient, np.float64) - grad_x).max()
        assert error <= bound * np.abs(grad_x).max()


def _check_average(
    case: tuple[Any, Any, dict[str, Any]],
    count_include_pad: bool,
    seed: int,
    precision: tuple[Any, float],
    compiler_options: dict[str, int] | None = None,
) -> None:
    (size, window, options), (dtype, bound) = case, precision
    options = {**options, "count_include_pad": count_include_pad}
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(2, *size, 3)).astype(dtype)
    windows = Windows(size, window, options["strides"], options["padding"])
    y_shape = (2, *windows.output_size, 3)
    cotangent = generator.normal(size=y_shape).astype(dtype)

    @functools.partial(jax.jit, compiler_options=compiler_options)
    def ours(x, cotangent):
        y, pull = jax.vjp(lambda x: average_pool(x, window, **options), x)
        return y, *pull(cotangent)

    doubles = (each.astype(np.float64) for each in (x, cotangent))
    exact = oracle.average_pool(next(doubles), window, next(doubles), **options)
    for mine, expected in zip(ours(x, cotangent), exact, strict=True):
        assert mine.dtype == dtype
        error = np.abs(np.asarray(mine, np.float64) - expected).max()
        assert error <= bound * np.abs(expected).max()


@settings(max_examples=8, deadline=None)
@given(case=cases(), count_include_pad=st.booleans(), seed=st.integers(0, 1000))
def test_average_pool_matches_numpy(case: Any, count_include_pad: bool, seed: int) -> None:
    _check_average(case, count_include_pad, seed, (np.dtype(np.float32), 1e-5))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@settings(max_examples=50, deadline=None, suppress_health_check=FIXTURES)
@given(case=st.one_of(cases(), cases(LONG, WIDE)), count_include_pad=st.booleans(), seed=st.integers(0, 1000))
def test_average_pool_matches_numpy_in_every_precision(
    precision: tuple[Any, float], optimized: dict[str, int], case: Any, count_include_pad: bool, seed: int
) -> None:
    _check_average(case, count_include_pad, seed, precision, optimized)


@pytest.fixture(params=["by_shape", "kernels"])
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """Returns the two implementations for CPUs."""
    return request.getfixturevalue("kernels")[-1] if request.param == "kernels" else "by_shape"


def test_second_derivatives_vmap_and_checkpoint(implementation: Implementation) -> None:
    xs, direction = jax.random.normal(jax.random.key(0), (2, 3, 1, 5, 5, 2))

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(implementation):
        def energy(x):
            return jnp.sum(max_pool(x, (3, 3), implementation=implementation, **PADDED) ** 3)

        slope = jax.grad(jax.checkpoint(energy))
        curvature = jax.jvp(slope, (xs[0],), (direction[0],))[1]
        again = jax.grad(lambda x: jnp.vdot(slope(x), direction[0]))(xs[0])
        return jax.vmap(slope)(xs), curvature, again

    for ours, expected in zip(derivatives(implementation), derivatives("xla"), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_forward_mode_needs_the_xla_implementation(implementation: Implementation) -> None:
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    pool = functools.partial(max_pool, window=(2, 2), strides=(2, 2))
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(functools.partial(pool, implementation=implementation), (x,), (x,))
    _, tangent = jax.jvp(functools.partial(pool, implementation="xla"), (x,), (x,))
    np.testing.assert_array_equal(tangent[0, :, :, 0], [[5, 7], [13, 15]])


@pytest.mark.parametrize(
    ("window", "padding"),
    [
        ((12, 12), ((0, 0), (0, 0))),  # 144 pixels
        ((12, 12), ((3, 3), (2, 5))),
        ((2, 2), ((-1, 0), (0, -2))),
        ((3, 3), ((-1, 1), (1, -2))),
    ],
)
def test_large_windows_and_negative_padding(
    implementation: Implementation, window: tuple[int, int], padding: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    # All values are distinct, because XLA's gradient for ties is undefined.
    x = np.random.default_rng(0).permutation(2 * 14 * 13 * 2).reshape(2, 14, 13, 2)
    x = x.astype(np.float32) - 300
    (top, bottom), (left, right) = padding
    cropped = x[:, max(-top, 0) : 14 + min(bottom, 0), max(-left, 0) : 13 + min(right, 0)]
    remaining = tuple(tuple(max(each, 0) for each in pad) for pad in padding)
    options = {"strides": (1, 2), "padding": remaining}
    y_shape = oracle.output_shape(cropped.shape, window, 2, **options)
    cotangent = np.random.default_rng(1).normal(size=y_shape).astype(np.float32)
    y, grad_x = oracle.max_pool(cropped, window, cotangent, **options)
    edges = ((0, 0), *((max(-one, 0), max(-other, 0)) for one, other in padding), (0, 0))
    for each in (implementation, "xla"):
        ours = _with_gradient(x, window, cotangent, each, strides=(1, 2), padding=padding)
        np.testing.assert_array_equal(ours[0], y)
        np.testing.assert_allclose(ours[1], np.pad(grad_x, edges), rtol=1e-5, atol=1e-5)


def test_windows_of_minus_infinity_have_a_gradient(kernels: tuple[Kernels, ...]) -> None:
    x = jnp.full((1, 3, 3, 1), -jnp.inf)
    pool = lambda x: max_pool(x, (3, 3), implementation=kernels[-1], **PADDED)  # noqa: E731
    y, pull = jax.vjp(pool, x)
    assert jnp.isneginf(y).all()
    assert pull(jnp.ones_like(y))[0].sum() == 4  # none in the padding


def test_gradient_goes_to_the_first_of_ties() -> None:
    x = jnp.zeros((1, 2, 2, 1))
    gradient = jax.grad(lambda x: max_pool(x, (2, 2), strides=(2, 2)).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0], [0, 0]])


def test_max_pool_propagates_nan() -> None:
    x = jnp.array([1.0, jnp.nan, 3.0, 2.0]).reshape(1, 2, 2, 1)
    assert jnp.isnan(max_pool(x, (2, 2), strides=(2, 2))).all()


def test_padding_is_never_the_maximum() -> None:
    x = -jnp.ones((1, 3, 3, 1))
    pooled = max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    np.testing.assert_array_equal(pooled, -jnp.ones((1, 2, 2, 1)))


def test_global_average_pool() -> None:
    np.testing.assert_allclose(global_average_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)), [[3.0, 4.0]])


@pytest.mark.parametrize(("count_include_pad", "corner"), [(True, (1 + 2 + 4 + 5) / 9), (False, 3.0)])
def test_average_pool_count_include_pad(count_include_pad: bool, corner: float) -> None:
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    pooled = average_pool(
        x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)), count_include_pad=count_include_pad
    )
    assert pooled.shape == (1, 2, 2, 1)
    np.testing.assert_allclose(pooled[0, 0, 0, 0], corner, rtol=1e-6)


def test_ties_share_the_gradient_of_global_max_pool() -> None:
    x = jnp.array([1.0, 3.0, 3.0, 2.0]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(global_max_pool(x), [[3.0]])
    gradient = jax.grad(lambda x: global_max_pool(x).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 0.5], [0.5, 0]])
