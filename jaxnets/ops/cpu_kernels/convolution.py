"""The C++ convolution and its gradients as JAX functions.

1x1 kernels are matrix products, at which XLA is as fast; but it computes what a product reads once for the
product and once for everybody else, where a call takes the array that everybody reads.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnets.ops.cpu import im2col
from jaxnets.ops.cpu_kernels.load import Kernels
from jaxnets.ops.windows import Padding, Pair, output_size

# A kernel's columns at most: plan.h's kTapsAcrossAtMost.
WIDEST = 320
# The pixels of all maps together from which a 1x1 kernel's gradient is faster here than as a dot.
MIN_PIXELS_FOR_POINTWISE_KERNEL_GRADIENT = 1000


def can_convolve(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether the kernels are made for these arrays: single precision, a kernel that is not too wide."""
    return x.dtype == kernel.dtype == jnp.float32 and kernel.shape[1] <= WIDEST


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolution(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, kernels: Kernels
) -> jax.Array:
    """[B, H, W, C_in] and [kh, kw, C_in, C_out] -> [B, H', W', C_out]."""
    return _forward(x, kernel, strides, padding, kernels)


def _forward_and_saved(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, kernels: Kernels
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _forward(x, kernel, strides, padding, kernels), (x, kernel)


def _backward(
    strides: Pair,
    padding: Padding,
    kernels: Kernels,
    saved: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    size, window = x.shape[1:3], kernel.shape[:2]
    return (
        _input_gradient(kernel, gradient, size, strides, padding, kernels),
        _kernel_gradient(x, gradient, window, strides, padding, kernels),
    )


convolution.defvjp(_forward_and_saved, _backward)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _forward(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, kernels: Kernels) -> jax.Array:
    size = output_size(x.shape[1:3], kernel.shape[:2], strides, padding)
    shape = (x.shape[0], *size, kernel.shape[3])
    return _call(kernels, "convolution", shape, x, kernel, strides, padding)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5))
def _input_gradient(
    kernel: jax.Array,
    gradient: jax.Array,
    size: tuple[int, ...],
    strides: Pair,
    padding: Padding,
    kernels: Kernels,
) -> jax.Array:
    if strides != (1, 1) and im2col.is_pointwise(kernel.shape[:2], padding):
        return im2col.input_gradient(kernel, gradient, size, strides, padding)
    shape = (gradient.shape[0], *size, kernel.shape[2])
    return _call(kernels, "input_gradient", shape, kernel, gradient, strides, padding)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5))
def _kernel_gradient(
    x: jax.Array,
    gradient: jax.Array,
    window: tuple[int, ...],
    strides: Pair,
    padding: Padding,
    kernels: Kernels,
) -> jax.Array:
    pixels = gradient.size // gradient.shape[-1]
    few = pixels < MIN_PIXELS_FOR_POINTWISE_KERNEL_GRADIENT
    if few and im2col.is_pointwise(window, padding):
        return im2col.kernel_gradient(x, gradient, window, strides, padding)
    shape = (*window, x.shape[-1], gradient.shape[-1])
    return _call(kernels, "kernel_gradient", shape, x, gradient, strides, padding)


def _derivative(in_cpp: Callable[..., jax.Array], in_jax: Callable[..., jax.Array]) -> Any:
    """The rule by which a pass is differentiated in turn: its value in C++, its tangent in JAX."""

    def rule(*arguments: Any) -> tuple[jax.Array, jax.Array]:
        *options, kernels, primals, tangents = arguments
        value = in_cpp(*primals, *options, kernels)
        return value, jax.jvp(lambda *arrays: in_jax(*arrays, *options), primals, tangents)[1]

    return rule


_forward.defjvp(_derivative(_forward, im2col.forward))
_input_gradient.defjvp(_derivative(_input_gradient, im2col.input_gradient))
_kernel_gradient.defjvp(_derivative(_kernel_gradient, im2col.kernel_gradient))


def _call(
    kernels: Kernels,
    function: str,
    shape: tuple[int, ...],
    first: jax.Array,
    second: jax.Array,
    strides: Pair,
    padding: Padding,
) -> jax.Array:
    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    geometry = (*strides, padding[0][0], padding[1][0])
    return kernels.call(function, result, first, second, geometry=geometry)
