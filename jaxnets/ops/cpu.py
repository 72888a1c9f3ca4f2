"""Convolution and max pooling for CPUs: in C++, or in JAX alone.

In JAX the implementation of each pass of a convolution depends on the shape: a matrix product for 1x1
kernels, XLA's own convolution for large outputs, im2col (or its transpose, col2im) for small ones and for
gradients of strided convolutions, where XLA reaches 2 to 60 GFLOP/s with AVX-512 and products reach 150 to
300. The kernel's gradient uses im2col at any size unless there are few channels. Max pooling stores the index
of the largest pixel of each window: XLA's own gradient, select-and-scatter, is up to 30 times slower.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.ops.cpu_kernels import Kernels, call
from jaxnets.ops.windows import Windows

# The smallest outputs, in pixels a side, for which XLA's own convolution won on a 2-core AVX-512 CPU.
MIN_SIZE_FOR_LAX_FORWARD = 8
MIN_SIZE_FOR_LAX_INPUT_GRADIENT = 8
# Output channels from which im2col mostly won, on maps of any size, on a 2-core AVX2 CPU.
MIN_SIZE_FOR_COLUMNS_KERNEL_GRADIENT = 48
# The columns of a kernel in C++ at most: plan.h's kTapsAcrossAtMost.
WIDEST = 320
# The pixels of all maps together from which a 1x1 kernel's gradient is faster in C++ than as a product.
MIN_PIXELS_FOR_POINTWISE_KERNEL_GRADIENT = 1000
# The pixels of a pooling's window at most: their numbers are signed bytes.
MAX_WINDOW_SIZE = 127


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x: jax.Array, kernel: jax.Array, windows: Windows, kernels: Kernels | None) -> jax.Array:
    """[B, H, W, C_in] and [kh, kw, C_in, C_out] -> [B, H', W', C_out]; in JAX where `kernels` is None."""
    return _save_inputs(x, kernel, windows, kernels)[0]


def _save_inputs(
    x: jax.Array, kernel: jax.Array, windows: Windows, kernels: Kernels | None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    shape = (x.shape[0], *windows.output_size, kernel.shape[3])
    return _pass("convolution", forward, shape, x, kernel, windows, kernels), (x, kernel)


def _gradients(
    windows: Windows, kernels: Kernels | None, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    # XLA is as fast at the products of 1x1 kernels, but computes what a product reads twice: for it and for
    # its neighbours. So these products are in C++ too, unless they are strided or have few pixels.
    is_strided_product = windows.is_pointwise and windows.strides != (1, 1)
    few = gradient.size // gradient.shape[-1] < MIN_PIXELS_FOR_POINTWISE_KERNEL_GRADIENT
    of_input = None if is_strided_product else kernels
    of_kernel = None if windows.is_pointwise and few else kernels
    return (
        _pass("input_gradient", input_gradient, x.shape, kernel, gradient, windows, of_input),
        _pass("kernel_gradient", kernel_gradient, kernel.shape, x, gradient, windows, of_kernel),
    )


convolution.defvjp(_save_inputs, _gradients)


def _pass(
    function: str,
    in_jax: Callable[..., jax.Array],
    shape: tuple[int, ...],
    first: jax.Array,
    second: jax.Array,
    windows: Windows,
    kernels: Kernels | None,
) -> jax.Array:
    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    by_shape = functools.partial(in_jax, windows=windows)
    geometry = windows.steps_and_corner
    return call(kernels, function, result, first, second, in_jax=by_shape, geometry=geometry)


def reference(x: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x, kernel, windows.strides, windows.padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def forward(x: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """The output, [B, H', W', C_out]."""
    if windows.is_pointwise:
        return jnp.einsum("bhwi,io->bhwo", _subsample(x, windows), kernel[0, 0])
    if min(windows.output_size) >= MIN_SIZE_FOR_LAX_FORWARD:
        return reference(x, kernel, windows)
    return forward_by_columns(x, kernel, windows)


def forward_by_columns(x: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """The output as a product of the patches under its pixels (im2col)."""
    return jnp.einsum("bhwk,ko->bhwo", _columns(x, windows), kernel.reshape(-1, kernel.shape[-1]))


def input_gradient(kernel: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """The gradient with respect to x, [B, H, W, C_in]."""
    if windows.is_pointwise:
        return windows.spread(jnp.einsum("bhwo,io->bhwi", gradient, kernel[0, 0]))
    if windows.strides == (1, 1) and min(gradient.shape[1:3]) >= MIN_SIZE_FOR_LAX_INPUT_GRADIENT:
        return input_gradient_by_lax(kernel, gradient, windows)
    return input_gradient_by_columns(kernel, gradient, windows)


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


def kernel_gradient(x: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """The gradient with respect to the kernel, [kh, kw, C_in, C_out]."""
    if windows.is_pointwise:
        return _products(_subsample(x, windows), gradient)[None, None]
    if gradient.shape[-1] >= MIN_SIZE_FOR_COLUMNS_KERNEL_GRADIENT:
        return kernel_gradient_by_columns(x, gradient, windows)
    return kernel_gradient_by_lax(x, gradient, windows)


def kernel_gradient_by_lax(x: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """XLA's own kernel gradient."""
    kernel = jax.ShapeDtypeStruct((*windows.window, x.shape[-1], gradient.shape[-1]), gradient.dtype)
    return jax.linear_transpose(lambda kernel: reference(x, kernel, windows), kernel)(gradient)[0]


def kernel_gradient_by_columns(x: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """The kernel gradient as a product with the patches under the output's pixels (im2col)."""
    shape = (*windows.window, x.shape[-1], gradient.shape[-1])
    return _products(_columns(x, windows), gradient).reshape(shape)


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(x: jax.Array, windows: Windows, kernels: Kernels | None) -> jax.Array:
    """The largest under each window: [B, H, W, C] -> [B, H', W', C]; in JAX where `kernels` is None."""
    return _largest_and_its_tap(x, windows, kernels)[0]


def _largest_and_its_tap(
    x: jax.Array, windows: Windows, kernels: Kernels | None
) -> tuple[jax.Array, jax.Array]:
    def in_jax(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, *others = windows.slices(x, fill=-jnp.inf)
        largest, chosen = first, jnp.zeros(first.shape, jnp.int8)
        for number, tap in enumerate(others, 1):
            # `>` keeps the first of equals; a NaN wins over what came before it, as in PyTorch.
            larger = (tap > largest) | jnp.isnan(tap)
            largest = jnp.where(larger, tap, largest)
            chosen = jnp.where(larger, jnp.int8(number), chosen)
        return largest, chosen

    shape = (x.shape[0], *windows.output_size, x.shape[3])
    results = (jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.int8))
    geometry = (*windows.window, *windows.steps_and_corner)
    return call(kernels, "max_pool", results, x, in_jax=in_jax, geometry=geometry)


def _pool_gradient(
    windows: Windows, kernels: Kernels | None, chosen: jax.Array, gradient: jax.Array
) -> tuple[jax.Array]:
    shape = (gradient.shape[0], *windows.size, gradient.shape[3])

    def in_jax(chosen: jax.Array, gradient: jax.Array) -> jax.Array:
        zero, total = jnp.zeros((), gradient.dtype), jnp.zeros(shape, gradient.dtype)
        shares = (jnp.where(chosen == number, gradient, zero) for number in range(len(windows.taps)))
        return windows.add_slices(total, shares)

    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    geometry = (*windows.window, *windows.steps_and_corner)
    return (call(kernels, "max_pool_gradient", result, chosen, gradient, in_jax=in_jax, geometry=geometry),)


max_pool.defvjp(_largest_and_its_tap, _pool_gradient)
