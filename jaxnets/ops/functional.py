"""Convolution and pooling of [B, H, W, C], as in torch.nn.functional."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.ops import cpu, cpu_passes, cpu_pooling
from jaxnets.ops.cpu_kernels import Implementation, kernels_of, on_cpu
from jaxnets.ops.windows import Padding, Pair, Windows, apply_negative_padding


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    groups: int = 1,
    bias: jax.Array | None = None,
    residual: jax.Array | None = None,
    relu: bool = False,
    implementation: Implementation = "auto",
) -> jax.Array:
    """Convolves images with a kernel, as torch.nn.functional.conv2d, then adds a residual and applies ReLU.

    In C++ all of it is one pass over the output.

    Args:
        x: images [B, H, W, C_in].
        kernel: [kh, kw, C_in / groups, C_out]; used in the dtype of `x`. Its gradient is in its own dtype.
        strides: (vertical, horizontal), in pixels.
        padding: ((top, bottom), (left, right)), in pixels; negative padding crops.
        groups: parts of the channels that are convolved separately; C_in for a depthwise convolution.
        bias: [C_out], or None.
        residual: added to the convolution, [B, H', W', C_out]; None for none.
        relu: whether ReLU is applied last.
        implementation: "auto" has gradients of any order, but no forward mode (`jax.jvp`); "xla" has both.

    Returns:
        [B, H', W', C_out] in the dtype of `x`, with H' = (H + top + bottom - kh) // stride + 1.

    Raises:
        ValueError: the channels of `x` and `kernel` differ, `groups` does not divide them, or `bias` or
            `residual` has another shape.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    x, windows = _windows(x, kernel, strides, padding, groups)
    output = (x.shape[0], *windows.output_size, kernel.shape[3])
    if bias is not None and bias.shape != output[3:]:
        raise ValueError(f"the bias has shape {bias.shape}, and the output {output[3]} channels")
    if residual is not None and residual.shape != output:
        raise ValueError(f"the residual has shape {residual.shape}, and the output {output}")
    residual = None if residual is None else residual.astype(x.dtype)
    empty = 0 in x.shape or 0 in kernel.shape or min(windows.output_size) < 1
    kernels = kernels_of(implementation) if cpu.supports(x.dtype, kernel, groups) else None
    if implementation == "xla" or empty or not on_cpu() or (x.dtype == jnp.bfloat16 and kernels is None):
        return cpu.finish(cpu_passes.reference(x, kernel, windows, groups), bias, residual, relu=relu)
    if kernels is not None and kernel.shape[0] * kernel.shape[1] > cpu.WIDEST:
        y = cpu.convolution(x, kernel, None, None, cpu.Settings(windows, groups, kernels))
        return cpu.finish(y, bias, residual, relu=relu)
    bias = None if bias is None else bias.astype(kernel.dtype)
    return cpu.convolution(x, kernel, bias, residual, cpu.Settings(windows, groups, kernels, relu))


def dense(x: jax.Array, kernel: jax.Array, *, implementation: Implementation = "auto") -> jax.Array:
    """Returns the product of x [..., fan_in] and a kernel [fan_in, features], in the dtype of x."""
    if on_cpu() and kernels_of(implementation) is not None and (x.ndim == 4 or x.dtype == jnp.bfloat16):
        # XLA multiplies bfloat16 on CPUs in float32, and computes twice what the product of images reads.
        images = x if x.ndim == 4 else x.reshape(-1, 1, 1, x.shape[-1])
        y = convolution(images, kernel[None, None], implementation=implementation)
        return y.reshape(*x.shape[:-1], kernel.shape[1])
    return x @ kernel.astype(x.dtype)


def _windows(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, groups: int
) -> tuple[jax.Array, Windows]:
    channels, features = kernel.shape[2] * groups, kernel.shape[3]
    if x.shape[3] != channels or features % groups:
        raise ValueError(f"{x.shape[3]} channels do not fit a kernel for {channels} in {groups} groups")
    x, padding = apply_negative_padding(x, padding, 0)
    return x, Windows(x.shape[1:3], kernel.shape[:2], strides, padding)


class FoldedKernel(NamedTuple):
    """A convolution's kernel and bias that include the batch normalisation after it.

    Attributes:
        kernel: [kh, kw, C_in / groups, C_out], or packed [n] for the C++ kernels.
        bias: [C_out].
        normalization: mean, factor and bias [3, C_in] of the batch normalisation before it, or None.
    """

    kernel: jax.Array
    bias: jax.Array
    normalization: jax.Array | None = None


class ChannelsOf(NamedTuple):
    """The channels of `array` [B, H, W, C] from `first` on, which a convolution's output replaces.

    `array` may be the number C: then there is none yet, and its other channels are undefined.
    """

    array: jax.Array | int
    first: int


def fold(
    kernel: jax.Array,
    factor: jax.Array,
    offset: jax.Array,
    *,
    groups: int = 1,
    dtype: Any = None,
    implementation: Implementation = "auto",
) -> FoldedKernel:
    """Multiplies a kernel by what follows it in inference, for `folded_convolution`.

    Args:
        kernel: [kh, kw, C_in / groups, C_out].
        factor: [C_out], of the convolution's output.
        offset: [C_out], added after that.
        groups: as for `convolution`.
        dtype: of the images; None: that of the kernel.
        implementation: as for `convolution`.
    """
    kernel, dtype = kernel * lax.broadcast_to_rank(factor, 4), jnp.dtype(dtype or kernel.dtype)
    kernels = kernels_of(implementation) if on_cpu() and kernel.size else None
    window_size = kernel.shape[0] * kernel.shape[1]
    if kernels is None or not cpu.supports(dtype, kernel, groups) or window_size > cpu.WIDEST:
        return FoldedKernel(kernel, offset)
    return FoldedKernel(cpu.pack(kernel, groups, dtype, kernels), offset)


def folded_convolution(
    x: jax.Array,
    folded: FoldedKernel,
    window: Pair,
    *,
    strides: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    groups: int = 1,
    channels: int | None = None,
    residual: jax.Array | None = None,
    relu: bool = False,
    into: ChannelsOf | None = None,
    implementation: Implementation = "auto",
) -> jax.Array:
    """Convolution, bias, residual sum and ReLU: one pass over the output in C++, two in JAX.

    Args:
        x: images [B, H, W, C_in or more].
        folded: what `fold` returns.
        window: (kh, kw).
        strides: as for `convolution`.
        padding: as for `convolution`.
        groups: as for `convolution`.
        channels: C_in, if these are the first of more channels of x.
        residual: [B, H', W', C_out], or None.
        relu: whether ReLU is applied last.
        into: returns this array with the output in its place, not the output; without residual and groups.
        implementation: as for `fold`, in the same process.

    Returns:
        [B, H', W', C_out], or `into` [B, H', W', C]. There are no derivatives if the kernel is packed.
    """
    channels = channels or x.shape[3]
    pointwise = Windows(x.shape[1:3], window, strides, padding).is_pointwise
    pairs = x.dtype != jnp.bfloat16 or channels % 2 == 0
    if folded.kernel.ndim == 1:
        kernels = kernels_of(implementation)
        assert kernels is not None
        if (folded.normalization is not None and not (pointwise and pairs)) or groups > 1:
            x, folded = _normalized(x, folded, channels), folded._replace(normalization=None)
        x, padding = apply_negative_padding(x, padding, 0)
        return cpu.convolution_packed(
            x,
            folded.kernel,
            folded.bias,
            Windows(x.shape[1:3], window, strides, padding),
            groups,
            kernels,
            channels=channels,
            normalization=folded.normalization,
            residual=residual,
            into=into,
            relu=relu,
        )
    options = {"strides": strides, "padding": padding, "groups": groups, "implementation": implementation}
    y = convolution(_normalized(x, folded, channels), folded.kernel, **options)
    y = y + lax.broadcast_to_rank(folded.bias, y.ndim).astype(y.dtype)
    y = y if residual is None else y + residual
    y = jax.nn.relu(y) if relu else y
    if into is None:
        return y
    if isinstance(into.array, int):
        return lax.pad(
            y, y.dtype.type(0), [(0, 0, 0)] * 3 + [(into.first, into.array - into.first - y.shape[3], 0)]
        )
    return lax.dynamic_update_slice(into.array, y, (0, 0, 0, into.first))


def _normalized(x: jax.Array, folded: FoldedKernel, channels: int) -> jax.Array:
    """The first channels of x, after the normalisation that a convolution begins with."""
    x = lax.slice_in_dim(x, 0, channels, axis=3)
    if folded.normalization is None:
        return x
    mean, factor, bias = (lax.broadcast_to_rank(each, x.ndim) for each in folded.normalization)
    return jax.nn.relu((x.astype(mean.dtype) - mean) * factor + bias).astype(x.dtype)


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
    x, padding = apply_negative_padding(jnp.asarray(x), padding, -np.inf)
    windows = Windows(x.shape[1:3], window, strides, padding)
    reference = functools.partial(_reduce, windows=windows, operation=lax.max, initial=-np.inf)
    empty = 0 in x.shape or min(windows.output_size) < 1
    large = window[0] * window[1] > cpu_pooling.MAX_WINDOW_SIZE
    if implementation == "xla" or empty or large or not on_cpu():
        return reference(x)
    kernels = kernels_of(implementation) if x.dtype in (jnp.float32, jnp.bfloat16) else None
    return cpu_pooling.max_pool(x, windows, kernels)


def average_pool(
    x: jax.Array,
    window: Pair,
    *,
    strides: Pair,
    padding: Padding = ((0, 0), (0, 0)),
    count_include_pad: bool = True,
    implementation: Implementation = "auto",
) -> jax.Array:
    """Takes the mean of each window, as torch.nn.functional.avg_pool2d.

    Args:
        x: images [B, H, W, C].
        window: (height, width), in pixels.
        strides: (vertical, horizontal), in pixels.
        padding: ((top, bottom), (left, right)), in pixels of zeros.
        count_include_pad: the zeros count as pixels of the mean.
        implementation: as for `convolution`.

    Returns:
        [B, H', W', C].
    """
    windows, area = Windows(x.shape[1:3], window, strides, padding), window[0] * window[1]
    sums = functools.partial(_reduce, windows=windows, operation=lax.add, initial=0)
    counts = area if count_include_pad else sums(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
    kernel = jnp.ones((*window, 1, x.shape[3]))
    kernels = kernels_of(implementation) if cpu.supports(x.dtype, kernel, x.shape[3]) else None
    if kernels is None or not on_cpu() or 0 in x.shape or min(windows.output_size) < 1:
        return sums(x) / counts
    settings = cpu.Settings(windows, x.shape[3], kernels)
    if count_include_pad:
        return cpu.convolution(x, kernel / area, None, None, settings)
    return cpu.convolution(x, kernel, None, None, settings) / counts


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
