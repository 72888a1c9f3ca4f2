"""Convolution, pooling and batch normalisation of [B, H, W, C], as in torch.nn.functional."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.ops import cpu
from jaxnets.ops.cpu_kernels import Implementation, Kernels, call, kernels_of
from jaxnets.ops.windows import Padding, Pair, Windows, apply_negative_padding

PIXELS = (0, 1, 2)
"""The axes of [B, H, W, C] that a channel's statistics are taken over."""


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    implementation: Implementation = "auto",
) -> jax.Array:
    """Convolves images with a kernel, as torch.nn.functional.conv2d.

    Args:
        x: images [B, H, W, C_in].
        kernel: [kh, kw, C_in, C_out].
        strides: (vertical, horizontal), in pixels.
        padding: ((top, bottom), (left, right)), in pixels; negative padding crops.
        implementation: "auto" has gradients of any order, but no forward mode (`jax.jvp`); "xla" has both.

    Returns:
        [B, H', W', C_out] with H' = (H + top + bottom - kh) // stride + 1. bfloat16 is always XLA's.

    Raises:
        ValueError: the channels of `x` and `kernel` differ.
    """
    if x.shape[3] != kernel.shape[2]:
        raise ValueError(f"{x.shape[3]} channels do not fit a kernel for {kernel.shape[2]}")
    x, padding = apply_negative_padding(x, padding, 0)
    windows = Windows(x.shape[1:3], kernel.shape[:2], strides, padding)
    reference = functools.partial(cpu.reference, windows=windows)
    empty = 0 in x.shape or 0 in kernel.shape or min(windows.output_size) < 1
    if implementation == "xla" or x.dtype == jnp.bfloat16 or empty:
        return reference(x, kernel)
    is_single = x.dtype == kernel.dtype == jnp.float32
    kernels = kernels_of(implementation) if is_single and kernel.shape[1] <= cpu.WIDEST else None
    # The choice of a platform is outside the custom gradient: so forward mode reaches gradients.
    for_cpu = functools.partial(cpu.convolution, windows=windows, kernels=kernels)
    return lax.platform_dependent(x, kernel, cpu=for_cpu, default=reference)


def max_pool(
    x: jax.Array,
    window: Pair,
    *,
    strides: Pair,
    padding: Padding = ((0, 0), (0, 0)),
    implementation: Implementation = "auto",
) -> jax.Array:
    """Takes the maximum of each window, as torch.nn.functional.max_pool2d.

    The gradient goes to the first of equal values. NaN is the maximum, as in PyTorch; its gradient goes to
    another pixel of the window in XLA's form, which is that of GPUs and of windows above 127 pixels.

    Args:
        x: images [B, H, W, C].
        window: (height, width), in pixels.
        strides: (vertical, horizontal), in pixels.
        padding: ((top, bottom), (left, right)), in pixels of minus infinity; negative padding crops.
        implementation: as for `convolution`.

    Returns:
        [B, H', W', C].
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
    """Takes the mean of each window, as torch.nn.functional.avg_pool2d.

    Args:
        x: images [B, H, W, C].
        window: (height, width), in pixels.
        strides: (vertical, horizontal), in pixels.
        padding: ((top, bottom), (left, right)), in pixels of zeros.
        count_include_pad: the zeros count as pixels of the mean.

    Returns:
        [B, H', W', C].
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


Normalized = tuple[jax.Array, jax.Array, jax.Array]
"""The output [B, H, W, C], and the batch's mean and biased variance [C]."""
Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    axis_name: str | None = None,
    implementation: Implementation = "auto",
) -> Normalized:
    """Normalises each channel over the batch and the pixels.

    Args:
        x: images [B, H, W, C].
        scale: [C]; its dtype is that of the statistics.
        bias: [C].
        epsilon: added to the variance.
        axis_name: the batch is that of all devices of this axis.
        implementation: as for `convolution`.

    Returns:
        The output [B, H, W, C], the mean [C] and the biased variance [C]; the last two have no gradient.
    """
    if implementation == "xla":
        (y, mean, var), _ = _normalize(x, scale, bias, epsilon, axis_name, None)
        return y, lax.stop_gradient(mean), lax.stop_gradient(var)
    in_jax = functools.partial(_batch_norm, epsilon=epsilon, axis_name=axis_name)
    kernels = kernels_of(implementation)
    is_single = x.dtype == scale.dtype == jnp.float32 and x.ndim == 4 and x.size > 0
    if kernels is None or not is_single:
        return in_jax(x, scale, bias)
    for_cpu = functools.partial(in_jax, kernels=kernels)
    return lax.platform_dependent(x, scale, bias, cpu=for_cpu, default=in_jax)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    axis_name: str | None,
    kernels: Kernels | None = None,
) -> Normalized:
    """With the gradient written out: JAX's own reads the images once more, for a sum that is zero.

    With `kernels` the sums are in C++: each reads the images once, where XLA needs a pass for every sum.
    What is done to each value stays XLA's, which fuses it with its neighbours.
    """
    return _normalize(x, scale, bias, epsilon, axis_name, kernels)[0]


def _normalize(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    axis_name: str | None,
    kernels: Kernels | None,
) -> tuple[Normalized, Saved]:
    values, results = x.astype(scale.dtype), (jax.ShapeDtypeStruct(scale.shape, jnp.float32),) * 2
    mean, var = call(kernels, "moments", results, values, in_jax=_moments)
    if axis_name is not None:
        mean, var = _merge_moments(mean, var, axis_name)
    deviation = lax.rsqrt(var + epsilon)
    center, factor, offset = per_channel(x.ndim, mean, scale * deviation, bias)
    return ((values - center) * factor + offset, mean, var), (x, scale, mean, deviation)


def _batch_norm_gradients(
    epsilon: float, axis_name: str | None, kernels: Kernels | None, saved: Saved, gradients: Normalized
) -> Normalized:
    del epsilon
    x, scale, mean, deviation = saved
    gradient, *_ = gradients
    count = values_per_channel(x, axis_name)
    if kernels is not None:
        results, arrays = (jax.ShapeDtypeStruct(scale.shape, jnp.float32),) * 2, (x, gradient, mean)
        sums, products = call(kernels, "moment_products", results, *arrays, in_jax=_sums_and_products)
        all_sums, all_products = _sum_over_devices((sums, products), axis_name)
        shift, tilt = all_sums / count, all_products * jnp.square(deviation) / count
        factor, shift, center, tilt = per_channel(x.ndim, scale * deviation, shift, mean, tilt)
        return factor * (gradient - shift - (x - center) * tilt), products * deviation, sums
    center, spread = per_channel(x.ndim, mean, deviation)
    normalized = (x.astype(scale.dtype) - center) * spread
    sums = gradient.sum(axis=PIXELS), (gradient * normalized).sum(axis=PIXELS)
    # A device's own sums are its share of the parameters' gradient; the images' takes those of all.
    shift, tilt = (each / count for each in _sum_over_devices(sums, axis_name))
    factor, shift, tilt = per_channel(x.ndim, scale * deviation, shift, tilt)
    x_gradient = factor * (gradient - shift - normalized * tilt)
    return x_gradient.astype(x.dtype), sums[1], sums[0]


_batch_norm.defvjp(_normalize, _batch_norm_gradients)


def _moments(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Two passes: the one-pass form (mean of squares less square of mean) cancels.
    center = values.mean(axis=PIXELS)
    return center, jnp.square(values - lax.broadcast_to_rank(center, values.ndim)).mean(axis=PIXELS)


def _merge_moments(mean: jax.Array, var: jax.Array, axis_name: str) -> tuple[jax.Array, jax.Array]:
    """The moments of all devices' values, which are equally many, by one all-gather.

    As exact as two passes over all values (Chan, Golub and LeVeque, 1983); one all-reduce would cancel.
    """
    means, variances = lax.all_gather(jnp.stack([mean, var]), axis_name, axis=1)
    return means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)


def _sum_over_devices(
    sums: tuple[jax.Array, jax.Array], axis_name: str | None
) -> tuple[jax.Array, jax.Array] | jax.Array:
    return sums if axis_name is None else lax.psum(jnp.stack(sums), axis_name)


def _sums_and_products(x: jax.Array, gradient: jax.Array, mean: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gradient.sum(PIXELS), (gradient * (x - lax.broadcast_to_rank(mean, x.ndim))).sum(PIXELS)


def per_channel(rank: int, *values: jax.Array) -> list[jax.Array]:
    """Values [C] as [1, ..., 1, C] of this rank."""
    return [lax.broadcast_to_rank(value, rank) for value in values]


def values_per_channel(x: jax.Array, axis_name: str | None) -> int:
    """The number of values of a channel on all devices of the axis."""
    count = x.size // x.shape[-1]
    return count if axis_name is None else count * lax.axis_size(axis_name)
