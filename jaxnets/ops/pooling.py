"""Pooling with PyTorch's padding (never counted, never chosen) and ties, and NaN as `max_pool` says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.ops.cpu import argmax_pool
from jaxnets.ops.cpu_kernels import pooling as in_cpp
from jaxnets.ops.implementation import Implementation, kernels_of
from jaxnets.ops.windows import Padding, Pair, apply_negative_padding, output_size


def max_pool(
    x: jax.Array,
    window: Pair,
    *,
    strides: Pair,
    padding: Padding = ((0, 0), (0, 0)),
    implementation: Implementation = "auto",
) -> jax.Array:
    """The largest value under each window: [B, H, W, C] -> [B, H', W', C], as torch.nn.functional.max_pool2d.

    Padding counts as minus infinity. The gradient goes to the first of equal values. A NaN is the largest, as
    in PyTorch, and has the gradient in the forms for CPUs; in the reference form, which is that of all GPUs,
    the gradient goes past it to another pixel of the window. Forms for CPUs have gradients of any order;
    forward mode (`jvp`) is refused by JAX and needs `implementation="xla"`. Windows of more than 127 pixels
    take the reference everywhere. Negative padding cuts.
    """
    x, padding = apply_negative_padding(x, padding, -np.inf)
    reference = functools.partial(_reference, window=window, strides=strides, padding=padding)
    size = x.shape[1:3]
    empty = 0 in x.shape or min(output_size(size, window, strides, padding)) < 1
    if implementation == "xla" or empty or window[0] * window[1] > argmax_pool.MAX_WINDOW_SIZE:
        return reference(x)
    kernels = kernels_of(implementation)

    def for_cpu(x: jax.Array) -> jax.Array:
        if kernels is not None and in_cpp.can_pool(x):
            return in_cpp.max_pool(x, size, window, strides, padding, kernels)
        return argmax_pool.max_pool(x, size, window, strides, padding)

    return lax.platform_dependent(x, cpu=for_cpu, default=reference)


def average_pool(
    x: jax.Array,
    window: Pair,
    *,
    strides: Pair,
    padding: Padding = ((0, 0), (0, 0)),
    count_include_pad: bool = True,
) -> jax.Array:
    """The mean under each window: [B, H, W, C] -> [B, H', W', C], as torch.nn.functional.avg_pool2d.

    Padding is zeros, which count as pixels, or are left out of the mean where not `count_include_pad`.
    """
    total = _sums(x, window, strides, padding)
    if count_include_pad:
        return total / (window[0] * window[1])
    return total / _sums(jnp.ones((1, *x.shape[1:3], 1), x.dtype), window, strides, padding)


def global_average_pool(x: jax.Array) -> jax.Array:
    """The mean over all pixels: [B, H, W, C] -> [B, C]."""
    return x.mean(axis=(1, 2))


def global_max_pool(x: jax.Array) -> jax.Array:
    """The largest of all pixels, [B, H, W, C] -> [B, C], as torch.amax: equals share the gradient."""
    return x.max(axis=(1, 2))


def _sums(x: jax.Array, window: Pair, strides: Pair, padding: Padding) -> jax.Array:
    zero = np.array(0, x.dtype)  # concrete, so that JAX knows the reduction to be a sum
    edges = ((0, 0), *padding, (0, 0))
    return lax.reduce_window(x, zero, lax.add, (1, *window, 1), (1, *strides, 1), edges)


def _reference(x: jax.Array, *, window: Pair, strides: Pair, padding: Padding) -> jax.Array:
    return lax.reduce_window(
        x,
        np.array(-np.inf, x.dtype),  # concrete, so that JAX knows the reduction to be a maximum
        lax.max,
        (1, *window, 1),
        (1, *strides, 1),
        ((0, 0), *padding, (0, 0)),
    )
