"""The passes of a convolution in JAX alone, for CPUs.

The implementation of each pass depends on the shape: a matrix product for 1x1 kernels, XLA's own convolution
for large outputs, im2col (or its transpose, col2im) for small ones and for gradients of strided convolutions,
where XLA reaches 2 to 60 GFLOP/s with AVX-512 and products reach 150 to 300. The kernel's gradient is one
product for each tap unless there are few channels. Grouped convolutions are sums over taps.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.ops.windows import Windows

# The smallest outputs, in pixels a side, for which XLA's own convolution won on a 2-core AVX-512 CPU.
MIN_SIZE_FOR_LAX_FORWARD = 8
MIN_SIZE_FOR_LAX_INPUT_GRADIENT = 8
# The fewest channels, of inputs and outputs, for which one product for each tap won on a 2-core AVX-512 CPU.
MIN_CHANNELS_FOR_TAPS_KERNEL_GRADIENT = 32


def is_depthwise(shape: tuple[int, ...], groups: int) -> bool:
    """Whether a kernel [kh, kw, C_in / groups, C_out] has one filter for each channel."""
    return groups > 1 and shape[2:] == (1, groups)


def reference(x: jax.Array, kernel: jax.Array, windows: Windows, groups: int = 1) -> jax.Array:
    """XLA's own convolution, in the dtype of x."""
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        windows.strides,
        windows.padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def forward(x: jax.Array, kernel: jax.Array, windows: Windows, groups: int = 1) -> jax.Array:
    """The output, [B, H', W', C_out]."""
    kernel = kernel.astype(x.dtype)
    if groups > 1:
        return forward_by_groups(x, kernel, windows, groups)
    if windows.is_pointwise:
        return jnp.einsum("bhwi,io->bhwo", _subsample(x, windows), kernel[0, 0])
    if min(windows.output_size) >= MIN_SIZE_FOR_LAX_FORWARD:
        return reference(x, kernel, windows)
    return forward_by_columns(x, kernel, windows)


def forward_by_groups(x: jax.Array, kernel: jax.Array, windows: Windows, groups: int) -> jax.Array:
    """The output of a grouped convolution, as a sum over the taps of the kernel.

    XLA's own, with `feature_group_count`, took 18 to 44 times as long for depthwise 3x3 kernels.
    """
    features = kernel.shape[3]
    taps = kernel.reshape(-1, kernel.shape[2], groups, features // groups)
    depthwise = is_depthwise(kernel.shape, groups)

    def product(pixels: jax.Array, tap: jax.Array) -> jax.Array:
        if depthwise:
            return pixels * lax.broadcast_to_rank(tap[0, :, 0], pixels.ndim)
        grouped = pixels.reshape(*pixels.shape[:3], groups, -1)
        return jnp.einsum("bhwgi,igo->bhwgo", grouped, tap).reshape(*pixels.shape[:3], features)

    return functools.reduce(jnp.add, map(product, windows.slices(x), taps))


def forward_by_columns(x: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """The output as a product of the patches under its pixels (im2col)."""
    return jnp.einsum("bhwk,ko->bhwo", _columns(x, windows), kernel.reshape(-1, kernel.shape[-1]))


def input_gradient(kernel: jax.Array, gradient: jax.Array, windows: Windows, groups: int = 1) -> jax.Array:
    """The gradient with respect to x, [B, H, W, C_in]."""
    kernel = kernel.astype(gradient.dtype)
    if groups > 1:
        return input_gradient_by_groups(kernel, gradient, windows, groups)
    if windows.is_pointwise:
        return windows.spread(jnp.einsum("bhwo,io->bhwi", gradient, kernel[0, 0]))
    if windows.strides == (1, 1) and min(gradient.shape[1:3]) >= MIN_SIZE_FOR_LAX_INPUT_GRADIENT:
        return input_gradient_by_lax(kernel, gradient, windows)
    return input_gradient_by_columns(kernel, gradient, windows)


def input_gradient_by_groups(
    kernel: jax.Array, gradient: jax.Array, windows: Windows, groups: int
) -> jax.Array:
    """The input gradient of a grouped convolution.

    Pixels of one phase of the strides meet the same taps: their gradient is a convolution of `gradient` with
    these taps in reversed order.
    """
    *window, channels, features = kernel.shape
    exchanged = kernel.reshape(*window, channels, groups, features // groups).swapaxes(2, 4)
    exchanged = exchanged.reshape(*window, features // groups, channels * groups)
    batch, (height, width), strides = len(gradient), windows.size, windows.strides
    places = -(-height // strides[0]), -(-width // strides[1])

    def of_phase(*phase: int) -> jax.Array:
        taps, edges = [], [(0, 0, 0)]
        for first, stride, side, pad, count, extent in zip(
            phase, strides, windows.window, windows.padding, places, gradient.shape[1:3], strict=True
        ):
            taps.append(slice((first + pad[0]) % stride, None, stride))
            others = len(range(side)[taps[-1]]) - 1
            before = others - (first + pad[0]) // stride
            edges.append((before, count + others - extent - before, 0))
        part = exchanged[tuple(taps)][::-1, ::-1]
        if part.size == 0:
            return jnp.zeros((batch, *places, channels * groups), gradient.dtype)
        source = lax.pad(gradient, jnp.zeros((), gradient.dtype), [*edges, (0, 0, 0)])
        by_ones = Windows(source.shape[1:3], part.shape[:2], (1, 1), ((0, 0), (0, 0)))
        return forward_by_groups(source, part, by_ones, groups)

    rows = [[of_phase(row, column) for column in range(strides[1])] for row in range(strides[0])]
    size = places[0] * strides[0], places[1] * strides[1]
    by_phase = jnp.stack([jnp.stack(row, 3) for row in rows], 2)
    return by_phase.reshape(batch, *size, channels * groups)[:, :height, :width]


def input_gradient_by_lax(kernel: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """XLA's own input gradient."""
    x = jax.ShapeDtypeStruct((gradient.shape[0], *windows.size, kernel.shape[2]), gradient.dtype)
    return jax.linear_transpose(lambda x: reference(x, kernel, windows), x)(gradient)[0]


def input_gradient_by_columns(kernel: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """The input gradient as a product whose columns are summed where they lie (col2im)."""
    columns = jnp.einsum("bhwo,ko->bhwk", gradient, kernel.reshape(-1, kernel.shape[-1]))
    columns = columns.reshape(*gradient.shape[:3], -1, kernel.shape[2])
    total = jnp.zeros((gradient.shape[0], *windows.size, kernel.shape[2]), gradient.dtype)
    return windows.add_slices(total, (columns[:, :, :, number] for number in range(columns.shape[3])))


def kernel_gradient(
    x: jax.Array, gradient: jax.Array, windows: Windows, groups: int = 1, dtype: Any = None
) -> jax.Array:
    """The gradient with respect to the kernel, [kh, kw, C_in / groups, C_out], in `dtype`."""
    x, gradient = (values.astype(dtype or x.dtype) for values in (x, gradient))
    if groups > 1:
        shape = (*windows.window, x.shape[-1] // groups, gradient.shape[-1])
        kernel = jax.ShapeDtypeStruct(shape, gradient.dtype)
        by_kernel = jax.linear_transpose(lambda kernel: forward_by_groups(x, kernel, windows, groups), kernel)
        return by_kernel(gradient)[0]
    if windows.is_pointwise:
        return _products(_subsample(x, windows), gradient)[None, None]
    if min(x.shape[-1], gradient.shape[-1]) >= MIN_CHANNELS_FOR_TAPS_KERNEL_GRADIENT:
        return kernel_gradient_by_taps(x, gradient, windows)
    return kernel_gradient_by_lax(x, gradient, windows)


def kernel_gradient_by_lax(x: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """XLA's own kernel gradient."""
    kernel = jax.ShapeDtypeStruct((*windows.window, x.shape[-1], gradient.shape[-1]), gradient.dtype)
    return jax.linear_transpose(lambda kernel: reference(x, kernel, windows), kernel)(gradient)[0]


def kernel_gradient_by_taps(x: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """The kernel gradient as one product for each tap; XLA transposes `gradient` once for all of them."""
    products = [jnp.einsum("bhwo,bhwi->oi", gradient, pixels) for pixels in windows.slices(x)]
    return jnp.stack(products).mT.reshape(*windows.window, x.shape[-1], gradient.shape[-1])


def _products(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """[B, H, W, K] and [B, H, W, O] -> [K, O], summed over the pixels.

    XLA transposes the left factor and may recompute it for that: the narrower of both is on the left.
    """
    if x.shape[-1] > gradient.shape[-1]:
        return jnp.einsum("bhwo,bhwk->ok", gradient, x).T
    return jnp.einsum("bhwk,bhwo->ko", x, gradient)


def _subsample(x: jax.Array, windows: Windows) -> jax.Array:
    rows, columns = windows.strides
    return x if windows.strides == (1, 1) else x[:, ::rows, ::columns]


def _columns(x: jax.Array, windows: Windows) -> jax.Array:
    """im2col: the patch under each output pixel, [B, H', W', kh * kw * C_in]."""
    return jnp.concatenate(windows.slices(x), axis=-1)
