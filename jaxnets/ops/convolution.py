"""Two-dimensional convolution (cross-correlation, as PyTorch's), forward and gradients.

On CPUs each of the three passes picks its form by shape: a matrix product for 1x1 kernels, XLA's own
convolution where the output is large, and im2col (or its transpose, col2im) where it is small or strided.
XLA's gradients of small and of strided convolutions run at 2 to 60 GFLOP/s where products run at 150 to 300.
"""

import functools
import itertools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
Lowering = Literal["auto", "reference"]

# The smallest outputs, in pixels a side, for which XLA's own convolution won on a 2-core AVX-512 CPU.
SMALLEST_FOR_LAX_FORWARD = 8
SMALLEST_FOR_LAX_INPUT_GRADIENT = 8
SMALLEST_FOR_LAX_KERNEL_GRADIENT = 14


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    lowering: Lowering = "auto",
) -> jax.Array:
    """Correlates `x` [B, H, W, C_in] with `kernel` [kh, kw, C_in, C_out], giving [B, H', W', C_out].

    H' = (H + top + bottom - kh) // stride + 1, as torch.nn.functional.conv2d. The form for CPUs has a
    reverse-mode gradient only (any order); forward mode (`jvp`) needs `lowering="reference"`.
    """
    reference = functools.partial(_reference, strides=strides, padding=padding)
    if lowering == "reference" or x.dtype == jnp.bfloat16 or 0 in x.shape:
        return reference(x, kernel)

    def for_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _by_shape(x, kernel, strides, padding)

    return lax.platform_dependent(x, kernel, cpu=for_cpu, default=reference)


def _reference(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_shape(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    if _is_pointwise(kernel, padding):
        return jnp.einsum("bhwi,io->bhwo", _subsample(x, strides), kernel[0, 0])
    height, width = _output_size(x, kernel, strides, padding)
    if min(height, width) >= SMALLEST_FOR_LAX_FORWARD:
        return _reference(x, kernel, strides=strides, padding=padding)
    columns = _columns(x, kernel.shape[:2], strides, padding)
    return jnp.einsum("bhwk,ko->bhwo", columns, kernel.reshape(-1, kernel.shape[-1]))


def _forward(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _by_shape(x, kernel, strides, padding), (x, kernel)


def _backward(
    strides: Pair, padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return (
        _input_gradient(x, kernel, gradient, strides, padding),
        _kernel_gradient(x, kernel, gradient, strides, padding),
    )


_by_shape.defvjp(_forward, _backward)


def _input_gradient(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, strides: Pair, padding: Padding
) -> jax.Array:
    """The gradient with respect to x, [B, H, W, C_in]."""
    if _is_pointwise(kernel, padding):
        product = jnp.einsum("bhwo,io->bhwi", gradient, kernel[0, 0])
        return _spread(product, (0, 0), x.shape[1:3], strides)
    if strides == (1, 1) and min(gradient.shape[1:3]) >= SMALLEST_FOR_LAX_INPUT_GRADIENT:
        reference = functools.partial(_reference, kernel=kernel, strides=strides, padding=padding)
        return jax.vjp(lambda x: reference(x), x)[1](gradient)[0]
    kernel_height, kernel_width, channels, _ = kernel.shape
    columns = jnp.einsum("bhwo,ko->bhwk", gradient, kernel.reshape(-1, kernel.shape[-1]))
    columns = columns.reshape(*gradient.shape[:3], kernel_height * kernel_width, channels)
    total = jnp.zeros_like(x)
    for place, (row, column) in enumerate(
        itertools.product(range(kernel_height), range(kernel_width))
    ):
        corner = (row - padding[0][0], column - padding[1][0])
        total = total + _spread(columns[:, :, :, place], corner, x.shape[1:3], strides)
    return total


def _kernel_gradient(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, strides: Pair, padding: Padding
) -> jax.Array:
    """The gradient with respect to the kernel, [kh, kw, C_in, C_out]."""
    if _is_pointwise(kernel, padding):
        return jnp.einsum("bhwi,bhwo->io", _subsample(x, strides), gradient)[None, None]
    if min(gradient.shape[1:3]) >= SMALLEST_FOR_LAX_KERNEL_GRADIENT:
        reference = functools.partial(_reference, x, strides=strides, padding=padding)
        return jax.vjp(lambda kernel: reference(kernel), kernel)[1](gradient)[0]
    columns = _columns(x, kernel.shape[:2], strides, padding)
    return jnp.einsum("bhwk,bhwo->ko", columns, gradient).reshape(kernel.shape)


def _is_pointwise(kernel: jax.Array, padding: Padding) -> bool:
    return kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0))


def _output_size(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> Pair:
    height, width = (
        (size + sum(pad) - extent) // stride + 1
        for size, pad, extent, stride in zip(
            x.shape[1:3], padding, kernel.shape[:2], strides, strict=True
        )
    )
    return height, width


def _subsample(x: jax.Array, strides: Pair) -> jax.Array:
    return x if strides == (1, 1) else x[:, :: strides[0], :: strides[1]]


def _columns(x: jax.Array, extent: tuple[int, ...], strides: Pair, padding: Padding) -> jax.Array:
    """im2col: the patch under each output pixel, [B, H', W', kh * kw * C_in]."""
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (
        (size - k) // stride + 1
        for size, k, stride in zip(padded.shape[1:3], extent, strides, strict=True)
    )
    taps = [
        padded[
            :,
            row : row + (height - 1) * strides[0] + 1 : strides[0],
            column : column + (width - 1) * strides[1] + 1 : strides[1],
        ]
        for row, column in itertools.product(range(extent[0]), range(extent[1]))
    ]
    return jnp.concatenate(taps, axis=-1)


def _spread(values: jax.Array, corner: Pair, size: tuple[int, ...], strides: Pair) -> jax.Array:
    """Lays `values` on a grid of zeros of `size`, from `corner` on, `strides` apart; cuts what sticks out."""
    edges = [(0, 0, 0)]
    for first, extent, target, stride in zip(corner, values.shape[1:3], size, strides, strict=True):
        edges.append((first, target - (first + (extent - 1) * stride + 1), stride - 1))
    return lax.pad(values, jnp.zeros((), values.dtype), [*edges, (0, 0, 0)])
