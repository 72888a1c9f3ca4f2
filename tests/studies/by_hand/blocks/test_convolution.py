"""Convolution compared with its formula, our operation and jax.grad."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import ops
from jaxnets.errors import ConfigError
from studies.by_hand.blocks.convolution import convolution, convolution_backward

NONE, SAME = ((0, 0), (0, 0)), ((1, 1), (1, 1))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("image", "kernel", "strides", "padding", "implementation"),
    [
        ((5, 5, 1), (3, 3, 1, 2), (1, 1), NONE, "auto"),  # the report's example: a 5x5 image and a 3x3 filter
        ((7, 6, 3), (3, 2, 3, 4), (2, 1), SAME, "auto"),
        ((4, 9, 2), (1, 4, 2, 1), (3, 2), ((0, 2), (1, 0)), "xla"),
        ((1, 1, 2), (1, 1, 2, 3), (1, 1), NONE, "xla"),
    ],
)
def test_matches_our_operation_and_jax_gradients(image, kernel, strides, padding, implementation) -> None:
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=size) for size in ((2, *image), kernel, kernel[3:])]
    sizes = {"strides": strides, "padding": padding}

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def compute(x, kernel, bias):
        def ours(x, kernel, bias):
            return ops.convolution(x, kernel, implementation=implementation, **sizes) + bias

        y, pull = jax.vjp(ours, x, kernel, bias)
        gradient = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        by_hand = convolution_backward(gradient, x, kernel, **sizes)
        return (convolution(x, kernel, bias, **sizes), *by_hand), (y, *pull(gradient))

    for ours, expected in zip(*compute(*arrays), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_matches_the_formula() -> None:
    generator = np.random.default_rng(0)
    x, kernel = generator.normal(size=(2, 5, 4, 2)), generator.normal(size=(3, 2, 2, 3))
    bias, (down, right), (top, left) = generator.normal(size=3), (2, 1), (1, 0)
    y = convolution(x, kernel, bias, strides=(down, right), padding=((top, 1), (left, 1)))
    expected = np.zeros((2, 3, 4, 3)) + bias
    for b, i, j, o in np.ndindex(expected.shape):
        for u, v, c in itertools.product(range(3), range(2), range(2)):
            row, column = i * down + u - top, j * right + v - left
            if 0 <= row < 5 and 0 <= column < 4:
                expected[b, i, j, o] += x[b, row, column, c] * kernel[u, v, c, o]
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_dtypes_are_preserved() -> None:
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        shapes = ((1, 3, 3, 1), (2, 2, 1, 2), (2,))
        x, kernel, bias = (jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
        y = jax.eval_shape(convolution, x, kernel, bias)
        for array in (y, *jax.eval_shape(convolution_backward, y, x, kernel)):
            assert array.dtype == dtype


@pytest.mark.parametrize(
    ("x", "kernel", "bias", "options", "message"),
    [
        ((5, 5, 1), (3, 3, 1, 2), (2,), {}, r"x \[5, 5, 1\] and kernel \[3, 3, 1, 2\]"),
        ((1, 5, 5, 2), (3, 3, 1, 2), (2,), {}, r"\[1, 5, 5, 2\].*the same C_in"),
        ((1, 5, 5, 1), (3, 3, 1, 2), (2, 1), {}, r"bias \[2, 1\] for a kernel \[3, 3, 1, 2\]"),
        ((1, 2, 5, 1), (3, 3, 1, 2), (2,), {}, r"\[3, 3\] does not fit on an image \[2, 5\]"),
        ((1, 5, 5, 1), (3, 3, 1, 2), (2,), {"strides": (0, 1)}, r"strides \[0, 1\]"),
        ((1, 5, 5, 1), (3, 3, 1, 2), (2,), {"padding": ((-1, 0), (0, 0))}, r"padding at least 0"),
    ],
)
def test_mismatched_shapes_raise(x, kernel, bias, options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        convolution(jnp.ones(x), jnp.ones(kernel), jnp.ones(bias), **options)


def test_mismatched_gradient_raises() -> None:
    x, kernel = jnp.ones((1, 5, 5, 1)), jnp.ones((3, 3, 1, 2))
    with pytest.raises(
        ConfigError, match=r"\[1, 1, 1, 2\], but the convolution's output has shape \[1, 3, 3, 2\]"
    ):
        convolution_backward(jnp.ones((1, 1, 1, 2)), x, kernel)
