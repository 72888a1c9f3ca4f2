"""Every implementation of the convolution compared with numpy, over shapes, strides and paddings."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks.oracles import load
from jaxnets.ops import convolution
from jaxnets.ops.cpu import WIDEST
from jaxnets.ops.cpu_kernels import Implementation, Kernels
from jaxnets.ops.functional import ChannelsOf, fold, folded_convolution

PADS = st.tuples(st.integers(0, 2), st.integers(0, 2))
STRIDES = st.tuples(st.integers(1, 3), st.integers(1, 3))
FIXTURES = [HealthCheck.function_scoped_fixture]  # the fixtures do not change between examples
oracle = load("windows")


@st.composite
def shapes(draw: st.DrawFn) -> tuple[tuple, tuple, tuple, tuple]:
    """Draws the shapes of x and the kernel, strides and padding."""
    window = draw(st.sampled_from([1, 2, 3, 5, 7])), draw(st.sampled_from([1, 3, 7]))
    padding = (draw(PADS), draw(PADS))
    # Sizes below and above the thresholds where the implementation changes.
    height = draw(st.integers(max(1, window[0] - sum(padding[0])), 20))
    width = draw(st.integers(max(1, window[1] - sum(padding[1])), 20))
    channels = (draw(st.sampled_from([1, 3, 6, 17, 40, 64])), draw(st.sampled_from([1, 6, 16, 33, 48, 65])))
    return (2, height, width, channels[0]), (*window, *channels), draw(STRIDES), padding


@st.composite
def wide_shapes(draw: st.DrawFn) -> tuple[tuple, tuple, tuple, tuple]:
    """Like `shapes`, with about 1,000 pixels, windows of the Inception networks and 17 to 63 channels."""
    window = draw(st.sampled_from([(1, 7), (7, 1), (1, 1), (3, 3)]))
    padding = draw(st.sampled_from([((0, 0), (0, 0)), tuple((n // 2, n // 2) for n in window)]))
    batch, height, width = draw(
        st.one_of(
            st.tuples(st.just(2), st.integers(30, 34), st.integers(30, 34)),
            st.sampled_from([(3, 9, 37), (4, 10, 25), (7, 11, 13)]),  # 999, 1,000 and 1,001 pixels
        )
    )
    channels = draw(st.integers(17, 63)), draw(st.integers(17, 63))
    strides = draw(st.sampled_from([(1, 1), (1, 1), (2, 2)]))
    return (batch, height, width, channels[0]), (*window, *channels), strides, padding


def _draw(*shapes: tuple[int, ...], dtype: Any = np.float32) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape).astype(dtype) for shape in shapes]


def _with_gradients(
    x: jax.Array, kernel: jax.Array, cotangent: jax.Array, implementation: Implementation, **options: Any
) -> tuple[jax.Array, ...]:
    function = functools.partial(convolution, implementation=implementation, **options)
    y, pull = jax.vjp(function, x, kernel)
    return y, *pull(cotangent)


@pytest.mark.usefixtures("x64")
@settings(max_examples=6, deadline=None)
@given(shapes())
@example(((2, 9, 9, 16), (1, 1, 16, 33), (2, 2), ((0, 0), (0, 0))))  # matrix products
@example(((5, 17, 17, 1), (5, 5, 1, 6), (1, 1), ((0, 0), (0, 0))))  # LeNet-5's first layer
@example(((8, 12, 12, 64), (1, 1, 64, 64), (1, 1), ((0, 0), (0, 0))))  # a matrix product with many pixels
@example(((2, 17, 19, 6), (3, 5, 6, 65), (2, 1), ((1, 0), (2, 1))))  # many channels
@example(((4, 10, 25, 24), (1, 1, 24, 40), (1, 1), ((0, 0), (0, 0))))  # 1,000 pixels
@example(((2, 6, 9, 20), (7, 1, 20, 48), (1, 1), ((3, 3), (0, 0))))  # windows of the Inception networks
def test_every_implementation_matches_numpy(
    kernels: tuple[Kernels, ...], case: tuple[tuple, tuple, tuple, tuple]
) -> None:
    x_shape, kernel_shape, strides, padding = case
    options = {"strides": strides, "padding": padding}
    y_shape = oracle.output_shape(x_shape, kernel_shape[:2], kernel_shape[3], **options)
    x, kernel, cotangent = _draw(x_shape, kernel_shape, y_shape)
    exact = oracle.convolution(x, kernel, cotangent, **options)

    implementations = ("xla", "by_shape", *kernels)

    @jax.jit
    def compute(x, kernel, cotangent):
        singles = [
            _with_gradients(x, kernel, cotangent, implementation, **options)
            for implementation in implementations
        ]
        double = (a.astype(jnp.float64) for a in (x, kernel, cotangent))
        return singles, _with_gradients(*double, "by_shape", **options)

    singles, double = compute(x, kernel, cotangent)
    for implementation, results in zip(implementations, singles, strict=True):
        for name, ours, expected in zip(("y", "grad x", "grad kernel"), results, exact, strict=True):
            error = np.abs(np.asarray(ours) - expected).max()
            assert error <= 1e-5 * np.abs(expected).max(), (implementation, name)
    for ours, expected in zip(double, exact, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@settings(max_examples=50, deadline=None, suppress_health_check=FIXTURES)
@given(case=st.one_of(shapes(), wide_shapes()))
def test_every_implementation_matches_numpy_in_every_precision(
    kernels: tuple[Kernels, ...],
    precision: tuple[Any, float],
    optimized: dict[str, int],
    case: tuple[tuple, tuple, tuple, tuple],
) -> None:
    x_shape, kernel_shape, strides, padding = case
    dtype, bound = precision
    options = {"strides": strides, "padding": padding}
    y_shape = oracle.output_shape(x_shape, kernel_shape[:2], kernel_shape[3], **options)
    arrays = _draw(x_shape, kernel_shape, y_shape, dtype=dtype)
    exact = oracle.convolution(*(each.astype(np.float64) for each in arrays), **options)
    implementations = ("xla", "by_shape", *kernels)

    @functools.partial(jax.jit, compiler_options=optimized)
    def compute(x, kernel, cotangent):
        return [
            _with_gradients(x, kernel, cotangent, implementation, **options)
            for implementation in implementations
        ]

    for implementation, results in zip(implementations, compute(*arrays), strict=True):
        for name, ours, expected in zip(("y", "grad x", "grad kernel"), results, exact, strict=True):
            assert ours.dtype == dtype
            error = np.abs(np.asarray(ours, np.float64) - expected).max()
            assert error <= bound * np.abs(expected).max(), (implementation, name)


@st.composite
def grouped_shapes(draw: st.DrawFn) -> tuple[tuple, tuple, tuple, tuple, int]:
    """Draws the shapes of x and the kernel, strides, padding and groups, often as many as channels."""
    (batch, height, width, _), (rows, columns, *_), strides, padding = draw(shapes())
    groups = draw(st.sampled_from([2, 3, 16, 33]))
    inputs, outputs = draw(st.sampled_from([(1, 1), (1, 1), (1, 2), (2, 4), (6, 2), (3, 5)]))
    kernel = (rows, columns, inputs, outputs * groups)
    return (batch, height, width, inputs * groups), kernel, strides, padding, groups


@pytest.mark.usefixtures("x64")
@settings(max_examples=8, deadline=None)
@given(grouped_shapes())
@example(((2, 9, 11, 48), (3, 3, 1, 48), (1, 1), ((1, 1), (1, 1)), 48))  # MobileNet's depthwise blocks
@example(((2, 9, 11, 48), (3, 3, 1, 48), (2, 2), ((1, 1), (1, 1)), 48))
@example(((1, 13, 26, 20), (5, 5, 1, 20), (1, 1), ((2, 2), (2, 2)), 20))
@example(((1, 14, 37, 36), (7, 7, 1, 36), (2, 3), ((3, 2), (0, 3)), 36))
@example(((3, 8, 8, 32), (3, 3, 4, 32), (1, 1), ((1, 1), (1, 1)), 8))  # ResNeXt's blocks
def test_grouped_convolutions_match_numpy(
    kernels: tuple[Kernels, ...], case: tuple[tuple, tuple, tuple, tuple, int]
) -> None:
    x_shape, kernel_shape, strides, padding, groups = case
    options = {"strides": strides, "padding": padding}
    y_shape = oracle.output_shape(x_shape, kernel_shape[:2], kernel_shape[3], **options)
    arrays = _draw(x_shape, kernel_shape, y_shape)
    exact = oracle.convolution(*arrays, groups=groups, **options)
    implementations = ("xla", "by_shape", *kernels)

    @jax.jit
    def compute(x, kernel, cotangent):
        return [
            _with_gradients(x, kernel, cotangent, implementation, groups=groups, **options)
            for implementation in implementations
        ]

    for implementation, results in zip(implementations, compute(*arrays), strict=True):
        for name, ours, expected in zip(("y", "grad x", "grad kernel"), results, exact, strict=True):
            error = np.abs(np.asarray(ours) - expected).max()
            assert error <= 1e-5 * np.abs(expected).max(), (implementation, name)


ROUNDING = 2**-8
"""The largest relative rounding error of bfloat16."""


@settings(max_examples=12, deadline=None)
@given(st.one_of(shapes().map(lambda case: (*case, 1)), grouped_shapes()))
@example(((2, 17, 19, 3), (7, 7, 3, 64), (2, 2), ((3, 3), (3, 3)), 1))  # ResNet's first layer
@example(((2, 9, 10, 64), (3, 3, 64, 48), (1, 1), ((1, 1), (1, 1)), 1))
@example(((3, 9, 7, 33), (1, 1, 33, 130), (2, 2), ((0, 0), (0, 0)), 1))
def test_bfloat16_kernels_sum_in_float32(
    kernels: tuple[Kernels, ...], case: tuple[tuple, tuple, tuple, tuple, int]
) -> None:
    """The error is that of rounding the results: the kernel's gradient, which is float32, has none."""
    x_shape, kernel_shape, strides, padding, groups = case
    options = {"strides": strides, "padding": padding}
    y_shape = oracle.output_shape(x_shape, kernel_shape[:2], kernel_shape[3], **options)
    arrays = [jnp.asarray(each, jnp.bfloat16) for each in _draw(x_shape, kernel_shape, y_shape)]
    x, kernel, cotangent = arrays
    kernel = kernel.astype(jnp.float32)
    exact = oracle.convolution(*(np.asarray(each, np.float64) for each in arrays), groups=groups, **options)
    for implementation in kernels:
        apply = functools.partial(_with_gradients, implementation=implementation, groups=groups, **options)
        results = jax.jit(apply)(x, kernel, cotangent)
        in_cpp = (
            groups == 1
            or groups == kernel_shape[3] == x_shape[3]
            or not (kernel_shape[2] % 2 or kernel_shape[3] // groups % 2)
        )
        assert [each.dtype for each in results] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
        if not in_cpp:  # XLA rounds its sums
            continue
        for name, ours, expected in zip(("y", "grad x", "grad kernel"), results, exact, strict=True):
            errors = np.abs(np.asarray(ours, np.float64) - expected)
            allowed = 2e-6 * np.abs(expected).max() + (
                ROUNDING * np.abs(expected) if "kernel" not in name else 0
            )
            assert (errors <= allowed).all(), (implementation, name)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_folded_convolutions_match_their_parts(
    kernels: tuple[Kernels, ...], dtype: str, *, residual: bool
) -> None:
    with jax.enable_x64(dtype == "float64"):
        drawn = _draw((2, 7, 8, 12), (3, 3, 6, 20), (20,), (20,), (2, 4, 4, 20))
        x, kernel, factor, offset, added = map(jnp.asarray, drawn)
        param_dtype = jnp.float64 if dtype == "float64" else jnp.float32
        x, added = x.astype(dtype), added.astype(dtype) if residual else None
        kernel, factor, offset = (each.astype(param_dtype) for each in (kernel, factor, offset))
        options = {"strides": (2, 2), "padding": PADDING, "groups": 2}
        wide = (x.astype(param_dtype), kernel)
        y = convolution(*wide, implementation="xla", **options) * factor[None, None, None]
        y = y + offset[None, None, None] + (0 if added is None else added.astype(param_dtype))
        expected = np.maximum(np.asarray(y, np.float64), 0)
        bound = {"float32": 1e-5, "bfloat16": 2e-2, "float64": 1e-13}[dtype]
        for implementation in ("xla", "by_shape", *kernels):
            folded = fold(kernel, factor, offset, groups=2, dtype=dtype, implementation=implementation)
            ours = folded_convolution(
                x, folded, (3, 3), residual=added, relu=True, implementation=implementation, **options
            )
            assert ours.dtype == dtype
            error = np.abs(np.asarray(ours, np.float64) - expected).max()
            assert error <= bound * expected.max(), implementation


@pytest.mark.parametrize(
    ("kernel_shape", "groups", "stride"),
    [((1, 1, 6, 20), 1, 1), ((3, 3, 6, 20), 1, 2), ((3, 3, 1, 6), 6, 1), ((19, 17, 6, 5), 1, 1)],
    ids=["1x1", "strided", "depthwise", "more taps than WIDEST"],
)
@pytest.mark.parametrize("relu", [False, True])
def test_bias_residual_and_relu_match_separate_operations(
    kernels: tuple[Kernels, ...], kernel_shape: tuple[int, ...], groups: int, stride: int, *, relu: bool
) -> None:
    rows, columns, _, features = kernel_shape
    padding = ((rows // 2, rows // 2), (columns // 2, columns // 2))
    options = {"strides": (stride, stride), "padding": padding, "groups": groups}
    side = 10 // stride
    arrays = _draw((2, 10, 10, 6), kernel_shape, (features,), (2, side, side, features))
    weights = _draw((2, side, side, features))[0]

    def separate(x: jax.Array, kernel: jax.Array, bias: jax.Array, residual: jax.Array) -> jax.Array:
        y = residual + convolution(x, kernel, implementation="xla", **options) + bias[None, None, None]
        return jnp.maximum(y, 0) if relu else y

    def fused(implementation: Implementation, *arrays: jax.Array) -> jax.Array:
        x, kernel, bias, residual = arrays
        added = {"bias": bias, "residual": residual, "relu": relu, **options}
        return convolution(x, kernel, implementation=implementation, **added)

    def results(apply: Callable[..., jax.Array]) -> list[jax.Array]:
        def energy(*arrays: jax.Array) -> jax.Array:
            return jnp.vdot(weights, jnp.sin(apply(*arrays)))

        gradients = jax.grad(energy, argnums=(0, 1, 2, 3))
        norm = lambda *arrays: sum(jnp.sum(each**2) for each in gradients(*arrays))  # noqa: E731
        return [apply(*arrays), *gradients(*arrays), *jax.grad(norm, argnums=(1, 2))(*arrays)]

    with jax.default_matmul_precision("highest"):
        expected = jax.jit(lambda: results(separate))()
        for implementation in ("xla", "by_shape", *kernels):
            ours = jax.jit(lambda form=implementation: results(functools.partial(fused, form)))()
            for number, (mine, other) in enumerate(zip(ours, expected, strict=True)):
                error = np.abs(mine - other).max() / np.abs(other).max()
                assert error <= (2e-5 if number < 5 else 1e-4), (implementation, number)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("channels", [9, 10])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_folded_convolutions_of_some_channels(
    kernels: tuple[Kernels, ...], dtype: str, channels: int, window: int
) -> None:
    drawn = _draw((2, 7, 8, 12), (window, window, channels, 20), (20,), (3, channels), (2, 7, 8, 30))
    x, kernel, bias, normalization, array = (each.astype(np.float32) for each in map(jnp.asarray, drawn))
    x, array = x.astype(dtype), array.astype(dtype)
    edge = window // 2
    results = {}
    for implementation in ("xla", *kernels):
        folded = fold(kernel, jnp.ones(20), bias, dtype=dtype, implementation=implementation)
        ours = folded_convolution(
            x,
            folded._replace(normalization=normalization),
            (window, window),
            padding=((edge, edge), (edge, edge)),
            channels=channels,
            into=ChannelsOf(array, 7),
            implementation=implementation,
        )
        results[implementation] = np.asarray(ours, np.float64)
    for found in results.values():
        outside = [*range(7), *range(27, 30)]
        np.testing.assert_array_equal(found[..., outside], np.asarray(array, np.float64)[..., outside])
        error = np.abs(found - results["xla"]).max()
        assert error <= {"float32": 1e-5, "bfloat16": 2e-2}[dtype] * np.abs(results["xla"]).max()


def test_channels_of_an_array_that_is_not_there_yet() -> None:
    x, kernel, bias = (jnp.asarray(each, jnp.float32) for each in _draw((2, 7, 8, 9), (1, 1, 9, 20), (20,)))
    folded = fold(kernel, jnp.ones(20), bias, implementation="xla")
    ours = folded_convolution(x, folded, (1, 1), into=ChannelsOf(30, 7), implementation="xla")
    assert ours.shape == (2, 7, 8, 30)
    alone = folded_convolution(x, folded, (1, 1), implementation="xla")
    np.testing.assert_array_equal(ours[..., 7:27], alone)


@pytest.mark.parametrize(
    ("columns", "stride", "in_cpp"),
    [(WIDEST - 1, 1, True), (WIDEST, 1, True), (WIDEST, 2, True), (WIDEST + 1, 1, False)],
)
def test_windows_wider_than_the_kernels_limit_use_jax(
    kernels: tuple[Kernels, ...], columns: int, stride: int, in_cpp: bool
) -> None:
    options = {"strides": (1, stride), "padding": ((0, 0), (3, 7))}
    x_shape, kernel_shape = (2, 8, WIDEST + 10, 3), (1, columns, 3, 5)
    y_shape = oracle.output_shape(x_shape, (1, columns), 5, **options)
    arrays = _draw(x_shape, kernel_shape, y_shape)
    exact = oracle.convolution(*arrays, **options)
    for implementation in kernels:
        apply = jax.jit(functools.partial(_with_gradients, implementation=implementation, **options))
        program = apply.lower(*arrays)
        assert (implementation.library in program.as_text()) == in_cpp
        for name, ours, expected in zip(
            ("y", "grad x", "grad kernel"), program.compile()(*arrays), exact, strict=True
        ):
            error = np.abs(np.asarray(ours) - expected).max()
            assert error <= 1e-5 * np.abs(expected).max(), (implementation, name)


@pytest.mark.parametrize("size", [1, 3])
def test_mismatched_channels_raise(size: int) -> None:
    with pytest.raises(ValueError, match="1 channels do not fit a kernel for 3"):
        convolution(jnp.ones((1, 4, 4, 1)), jnp.ones((size, size, 3, 2)))


def test_values_by_hand() -> None:
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    kernel = np.array([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)
    np.testing.assert_array_equal(convolution(x, kernel)[0, :, :, 0], [[-4, -4], [-4, -4]])


@pytest.fixture(params=["by_shape", "kernels"])
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """Returns the two implementations for CPUs."""
    return request.getfixturevalue("kernels")[-1] if request.param == "kernels" else "by_shape"


def _energy(kernel: jax.Array, implementation: Implementation) -> Callable[[jax.Array], jax.Array]:
    return lambda x: jnp.sum(jnp.sin(convolution(x, kernel, padding=PADDING, implementation=implementation)))


PADDING = ((1, 1), (1, 1))


def test_second_derivatives(implementation: Implementation) -> None:
    x, kernel, direction = _draw((2, 5, 5, 2), (3, 3, 2, 2), (2, 5, 5, 2))

    @functools.partial(jax.jit, static_argnums=0)
    def curvatures(implementation):
        slope = jax.grad(_energy(kernel, implementation))
        reverse_over_reverse = jax.grad(lambda x: jnp.vdot(slope(x), direction))(x)
        forward_over_reverse = jax.jvp(slope, (x,), (direction,))[1]
        grad_kernel = jax.grad(lambda k: jnp.vdot(jax.grad(_energy(k, implementation))(x), direction))
        return reverse_over_reverse, forward_over_reverse, grad_kernel(kernel)

    for ours, expected in zip(curvatures(implementation), curvatures("xla"), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_vmap_and_remat(implementation: Implementation) -> None:
    xs, kernels = map(jnp.asarray, _draw((3, 2, 5, 5, 2), (3, 3, 3, 2, 2)))

    @functools.partial(jax.jit, static_argnums=0)
    def mapped(implementation):
        slopes = jax.vmap(lambda x, k: jax.grad(jax.checkpoint(_energy(k, implementation)))(x))
        same_kernel = jax.vmap(lambda x: jax.grad(_energy(kernels[0], implementation))(x))
        return slopes(xs, kernels), same_kernel(xs)

    expected = [jax.grad(_energy(k, "xla"))(x) for x, k in zip(xs, kernels, strict=True)]
    both, same_kernel = mapped(implementation)
    np.testing.assert_allclose(both, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(same_kernel[0], expected[0], rtol=1e-4, atol=1e-5)


def test_scan_and_donation(implementation: Implementation) -> None:
    x, kernel = _draw((2, 6, 6, 4), (3, 3, 4, 4))

    def steps(x, implementation):
        def step(x, _):
            return (convolution(x, kernel / 4, padding=PADDING, implementation=implementation), None)

        return jax.lax.scan(step, x, length=3)[0]

    donated = jax.jit(steps, static_argnums=1, donate_argnums=0)
    given = jnp.asarray(x)
    np.testing.assert_allclose(donated(given, implementation), steps(x, "xla"), rtol=1e-4, atol=1e-5)
    assert given.is_deleted()


def test_forward_mode_needs_the_xla_implementation(implementation: Implementation) -> None:
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(functools.partial(convolution, kernel=kernel, implementation=implementation), (x,), (x,))
    function = functools.partial(convolution, kernel=kernel, implementation="xla")
    np.testing.assert_allclose(jax.jvp(function, (x,), (x,))[1], 9.0)


def test_gpu_programs_use_the_plain_convolution(
    implementation: Implementation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    traced = jax.jit(functools.partial(convolution, implementation=implementation)).trace(x, kernel)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in text
    assert "custom_call" not in text


@pytest.mark.parametrize("padding", [((-1, 0), (0, -2)), ((-1, 1), (2, -2)), ((-3, -3), (0, 0))])
def test_negative_padding_crops(
    implementation: Implementation, padding: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    x, kernel = _draw((2, 9, 8, 2), (3, 3, 2, 3))
    (top, bottom), (left, right) = padding
    cropped = x[:, max(-top, 0) : 9 + min(bottom, 0), max(-left, 0) : 8 + min(right, 0)]
    remaining = tuple(tuple(max(each, 0) for each in pad) for pad in padding)
    oracle_options = {"strides": (1, 1), "padding": remaining}
    y_shape = oracle.output_shape(cropped.shape, (3, 3), 3, **oracle_options)
    (cotangent,) = _draw(y_shape)
    y, grad_x, grad_kernel = oracle.convolution(cropped, kernel, cotangent, **oracle_options)
    edges = ((0, 0), *((max(-one, 0), max(-other, 0)) for one, other in padding), (0, 0))
    for each in (implementation, "xla"):
        ours = _with_gradients(x, kernel, cotangent, each, padding=padding)
        for actual, exact in zip(ours, (y, np.pad(grad_x, edges), grad_kernel), strict=True):
            np.testing.assert_allclose(actual, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 4, 4, 2), (2, 4, 4, 0), (2, 2, 2, 2)])
def test_empty_inputs_and_outputs(implementation: Implementation, shape: tuple[int, ...]) -> None:
    kernel = jnp.ones((3, 3, shape[-1], 5))
    expected = convolution(jnp.ones(shape), kernel, implementation="xla")
    ours = convolution(jnp.ones(shape), kernel, implementation=implementation)
    np.testing.assert_array_equal(ours, expected)


def test_bias_and_residual_of_another_dtype_are_converted(kernels: tuple[Kernels, ...]) -> None:
    x, kernel, bias, residual = _draw((2, 5, 5, 4), (1, 1, 4, 6), (6,), (2, 5, 5, 6))
    half = [each.astype(jnp.bfloat16) for each in (bias, residual)]
    for implementation in ("xla", "by_shape", *kernels):
        convolve = functools.partial(convolution, x, kernel, implementation=implementation)
        expected = convolve(bias=half[0].astype(jnp.float32), residual=half[1].astype(jnp.float32))
        found = convolve(bias=half[0], residual=half[1])
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("wrong", "shape", "message"),
    [
        ("bias", (1,), r"the bias has shape \(1,\), and the output 6 channels"),
        ("residual", (2, 5, 5, 4), r"the residual has shape \(2, 5, 5, 4\), and the output \(2, 5, 5, 6\)"),
    ],
)
def test_bias_and_residual_of_another_shape_raise(wrong: str, shape: tuple[int, ...], message: str) -> None:
    x, kernel, array = _draw((2, 5, 5, 4), (1, 1, 4, 6), shape)
    with pytest.raises(ValueError, match=message):
        convolution(x, kernel, **{wrong: array})
