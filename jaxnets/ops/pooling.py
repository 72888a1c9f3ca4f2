"""Pooling with PyTorch's padding (never counted, never chosen) and ties, and NaN as `max_pool` says."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.ops.cpu import pooling as cpu
from jaxnets.ops.cpu_kernels.load import Implementation, kernels_of
from jaxnets.ops.windows import Padding, Pair, Windows, apply_negative_padding


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
    windows = Windows(x.shape[1:3], window, strides, padding)
    reference = functools.partial(_reduce, windows=windows, operation=lax.max, initial=-np.inf)
    empty = 0 in x.shape or min(windows.output_size) < 1
    if implementation == "xla" or empty or window[0] * window[1] > cpu.MAX_WINDOW_SIZE:
        return reference(x)
    kernels = kernels_of(implementation) if x.dtype == jnp.float32 else None
    for_cpu = functools.partial(cpu.max_pool, windows=windows, kernels=kernels)
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
    windows = Windows(x.shape[1:3], window, strides, padding)
    sums = functools.partial(_reduce, windows=windows, operation=lax.add, initial=0)
    total = sums(x)
    if count_include_pad:
        return total / (window[0] * window[1])
    return total / sums(jnp.ones((1, *x.shape[1:3], 1), x.dtype))


def global_average_pool(x: jax.Array) -> jax.Array:
    """The mean over all pixels: [B, H, W, C] -> [B, C]."""
    return x.mean(axis=(1, 2))


def global_max_pool(x: jax.Array) -> jax.Array:
    """The largest of all pixels, [B, H, W, C] -> [B, C], as torch.amax: equals share the gradient."""
    return x.max(axis=(1, 2))


def _reduce(
    x: jax.Array, *, windows: Windows, operation: Callable[[Any, Any], Any], initial: float
) -> jax.Array:
    start = np.array(initial, x.dtype)  # concrete, so that JAX knows the reduction to be a sum or a maximum
    edges = ((0, 0), *windows.padding, (0, 0))
    return lax.reduce_window(x, start, operation, (1, *windows.window, 1), (1, *windows.strides, 1), edges)
