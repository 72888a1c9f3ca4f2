"""A convolution for CPUs in JAX alone: each pass picks its form by shape.

A matrix product for 1x1 kernels, XLA's own convolution where the output is large, and im2col (or its
transpose, col2im) where it is small, and for gradients where it is strided: with AVX-512 XLA's gradients
run at 2 to 60 GFLOP/s there, products at 150 to 300. A kernel's gradient goes by im2col at any size, unless
its channels are few.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.ops.windows import Padding, Pair, interior_pad, output_size, places, window_slices

# The smallest outputs, in pixels a side, for which XLA's own convolution won on a 2-core AVX-512 CPU.
MIN_SIZE_FOR_LAX_FORWARD = 8
MIN_SIZE_FOR_LAX_INPUT_GRADIENT = 8
# Output channels from which im2col mostly won, on maps of any size, on a 2-core AVX2 CPU.
MIN_SIZE_FOR_COLUMNS_KERNEL_GRADIENT = 48


def reference(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding) -> jax.Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    """The forward pass, [B, H', W', C_out]; its gradients pick their forms apart."""
    return forward(x, kernel, strides, padding)


def _forward_and_saved(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # Not through `convolution`, whose custom gradient would refuse forward mode over this one.
    return forward(x, kernel, strides, padding), (x, kernel)


def _backward(
    strides: Pair, padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return (
        input_gradient(kernel, gradient, x.shape[1:3], strides, padding),
        kernel_gradient(x, gradient, kernel.shape[:2], strides, padding),
    )


convolution.defvjp(_forward_and_saved, _backward)


def is_pointwise(window: tuple[int, ...], padding: Padding) -> bool:
    """Whether a kernel of this height and width is a matrix product."""
    return window == (1, 1) and padding == ((0, 0), (0, 0))


def forward(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    """The output, [B, H', W', C_out]."""
    window = kernel.shape[:2]
    if is_pointwise(window, padding):
        return jnp.einsum("bhwi,io->bhwo", _subsample(x, strides), kernel[0, 0])
    if min(output_size(x.shape[1:3], window, strides, padding)) >= MIN_SIZE_FOR_LAX_FORWARD:
        return reference(x, kernel, strides=strides, padding=padding)
    return forward_by_columns(x, kernel, strides, padding)


def forward_by_columns(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    """The output as a product of the patches under its pixels (im2col)."""
    columns = _columns(x, kernel.shape[:2], strides, padding)
    return jnp.einsum("bhwk,ko->bhwo", columns, kernel.reshape(-1, kernel.shape[-1]))


def input_gradient(
    kernel: jax.Array, gradient: jax.Array, size: tuple[int, ...], strides: Pair, padding: Padding
) -> jax.Array:
    """The gradient with respect to an input of height and width `size`, [B, H, W, C_in]."""
    window = kernel.shape[:2]
    if is_pointwise(window, padding):
        product = jnp.einsum("bhwo,io->bhwi", gradient, kernel[0, 0])
        return interior_pad(product, (0, 0), size, strides)
    if strides == (1, 1) and min(gradient.shape[1:3]) >= MIN_SIZE_FOR_LAX_INPUT_GRADIENT:
        return input_gradient_by_lax(kernel, gradient, size, strides, padding)
    return input_gradient_by_columns(kernel, gradient, size, strides, padding)


def input_gradient_by_lax(
    kernel: jax.Array, gradient: jax.Array, size: tuple[int, ...], strides: Pair, padding: Padding
) -> jax.Array:
    """XLA's own input gradient."""
    shape = (gradient.shape[0], *size, kernel.shape[2])
    transposed = jax.linear_transpose(
        lambda x: reference(x, kernel, strides=strides, padding=padding),
        jax.ShapeDtypeStruct(shape, gradient.dtype),
    )
    return transposed(gradient)[0]


def input_gradient_by_columns(
    kernel: jax.Array, gradient: jax.Array, size: tuple[int, ...], strides: Pair, padding: Padding
) -> jax.Array:
    """The input gradient as a product whose columns are summed where they lie (col2im)."""
    window, channels = kernel.shape[:2], kernel.shape[2]
    shape = (gradient.shape[0], *size, channels)
    columns = jnp.einsum("bhwo,ko->bhwk", gradient, kernel.reshape(-1, kernel.shape[-1]))
    columns = columns.reshape(*gradient.shape[:3], -1, channels)
    total = jnp.zeros(shape, gradient.dtype)
    for number, (row, column) in enumerate(places(window)):
        corner = (row - padding[0][0], column - padding[1][0])
        total = total + interior_pad(columns[:, :, :, number], corner, size, strides)
    return total


def kernel_gradient(
    x: jax.Array, gradient: jax.Array, window: tuple[int, ...], strides: Pair, padding: Padding
) -> jax.Array:
    """The gradient with respect to a kernel of height and width `window`, [kh, kw, C_in, C_out]."""
    if is_pointwise(window, padding):
        return _products(_subsample(x, strides), gradient)[None, None]
    if gradient.shape[-1] >= MIN_SIZE_FOR_COLUMNS_KERNEL_GRADIENT:
        return kernel_gradient_by_columns(x, gradient, window, strides, padding)
    return kernel_gradient_by_lax(x, gradient, window, strides, padding)


def kernel_gradient_by_lax(
    x: jax.Array, gradient: jax.Array, window: tuple[int, ...], strides: Pair, padding: Padding
) -> jax.Array:
    """XLA's own kernel gradient."""
    shape = (*window, x.shape[-1], gradient.shape[-1])
    transposed = jax.linear_transpose(
        lambda kernel: reference(x, kernel, strides=strides, padding=padding),
        jax.ShapeDtypeStruct(shape, gradient.dtype),
    )
    return transposed(gradient)[0]


def kernel_gradient_by_columns(
    x: jax.Array, gradient: jax.Array, window: tuple[int, ...], strides: Pair, padding: Padding
) -> jax.Array:
    """The kernel gradient as a product with the patches under the output's pixels (im2col)."""
    shape = (*window, x.shape[-1], gradient.shape[-1])
    columns = _columns(x, window, strides, padding)
    return _products(columns, gradient).reshape(shape)


def _products(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """[B, H, W, K] and [B, H, W, O] -> [K, O], summed over the pixels.

    XLA transposes the left factor and may recompute it for that: the narrower of both is on the left.
    """
    if x.shape[-1] > gradient.shape[-1]:
        return jnp.einsum("bhwo,bhwk->ok", gradient, x).T
    return jnp.einsum("bhwk,bhwo->ko", x, gradient)


def _subsample(x: jax.Array, strides: Pair) -> jax.Array:
    return x if strides == (1, 1) else x[:, :: strides[0], :: strides[1]]


def _columns(x: jax.Array, window: tuple[int, ...], strides: Pair, padding: Padding) -> jax.Array:
    """im2col: the patch under each output pixel, [B, H', W', kh * kw * C_in]."""
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    return jnp.concatenate(window_slices(padded, window, strides), axis=-1)
