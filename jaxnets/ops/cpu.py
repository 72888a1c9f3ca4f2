"""Convolution for CPUs: in C++, or in JAX alone.

In JAX the implementation of each pass of a convolution depends on the shape: a matrix product for 1x1
kernels, XLA's own convolution for large outputs, im2col (or its transpose, col2im) for small ones and for
gradients of strided convolutions, where XLA reaches 2 to 60 GFLOP/s with AVX-512 and products reach 150 to
300. The kernel's gradient is one product for each tap unless there are few channels. Grouped convolutions are
sums over taps.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxnets.ops.cpu_kernels import Kernels, call
from jaxnets.ops.normalization import channel_sums, relu_gradient, stored_once
from jaxnets.ops.windows import Windows

# The smallest outputs, in pixels a side, for which XLA's own convolution won on a 2-core AVX-512 CPU.
MIN_SIZE_FOR_LAX_FORWARD = 8
MIN_SIZE_FOR_LAX_INPUT_GRADIENT = 8
# The fewest channels, of inputs and outputs, for which one product for each tap won on a 2-core AVX-512 CPU.
MIN_CHANNELS_FOR_TAPS_KERNEL_GRADIENT = 32
# plan.h's kTapsAcrossAtMost: the maximum columns of a kernel in C++, for some passes its pixels.
WIDEST = 320
# The pixels of all maps together from which a 1x1 kernel's gradient is faster in C++ than as a product.
MIN_PIXELS_FOR_POINTWISE_KERNEL_GRADIENT = 1000


def is_depthwise(shape: tuple[int, ...], groups: int) -> bool:
    """Whether a kernel [kh, kw, C_in / groups, C_out] has one filter for each channel."""
    return groups > 1 and shape[2:] == (1, groups)


def supports(dtype: Any, kernel: jax.Array, groups: int) -> bool:
    """Whether a convolution can be computed in C++: in float32 or bfloat16, with a kernel in float32."""
    rows, columns, channels, features = kernel.shape
    halves, depthwise = dtype == jnp.bfloat16, is_depthwise(kernel.shape, groups)
    if kernel.dtype != jnp.float32 or dtype not in (jnp.float32, jnp.bfloat16) or columns > WIDEST:
        return False
    if halves and groups > 1 and not depthwise and (channels % 2 or features // groups % 2):
        return False  # bfloat16 is multiplied in pairs
    return rows * columns <= WIDEST or not (halves or depthwise)


SAVED = "convolution"
"""The name of the activations that `train.remat` stores; the others are computed again."""
Saved = tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None, tuple[()] | None]
"""x, kernel, the output if ReLU needs it, the bias, and () if there was a residual."""


class Settings(NamedTuple):
    """What a convolution has beside its arrays; in JAX where `kernels` is None, else in C++."""

    windows: Windows
    groups: int
    kernels: Kernels | None
    relu: bool = False


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def convolution(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, residual: jax.Array | None, settings: Settings
) -> jax.Array:
    """[B, H, W, C_in] and [kh, kw, C_in / groups, C_out] -> [B, H', W', C_out].

    In C++ x may be bfloat16 beside a float32 kernel, and a kernel of more than WIDEST pixels has no bias,
    residual or ReLU.
    """
    return _convolve_and_save(x, kernel, bias, residual, settings)[0]


def _convolve_and_save(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, residual: jax.Array | None, settings: Settings
) -> tuple[jax.Array, Saved]:
    windows, groups, kernels, relu = settings

    def in_jax(x: jax.Array, kernel: jax.Array, *others: jax.Array) -> jax.Array:
        y = forward(x, kernel, windows, groups)
        return finish(y, *(each if each.size else None for each in others), relu=relu)

    none, like = jnp.zeros((0,), x.dtype), jax.ShapeDtypeStruct
    result = like((x.shape[0], *windows.output_size, kernel.shape[3]), x.dtype)
    others = (none if bias is None else bias, none if residual is None else residual)
    options = {"geometry": _geometry(windows, groups), "relu": relu}
    y = call(kernels, "convolution", result, x, kernel, *others, in_jax=in_jax, **options)
    y = checkpoint_name(y, SAVED)  # which the gradient of ReLU reads
    return y, (x, kernel, y if relu else None, bias, None if residual is None else ())


def finish(y: jax.Array, bias: jax.Array | None, residual: jax.Array | None, *, relu: bool) -> jax.Array:
    """Adds a bias [C] and a residual to y [B, H, W, C], then applies ReLU."""
    y = y if bias is None else y + lax.broadcast_to_rank(bias.astype(y.dtype), y.ndim)
    y = y if residual is None else residual + y
    return jax.nn.relu(y) if relu else y


def _gradients(
    settings: Settings, saved: Saved, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    windows, groups, kernels, _ = settings
    x, kernel, y, bias, has_residual = saved
    of_input = of_kernel = kernels
    if windows.is_pointwise and x.dtype == jnp.float32 and groups == 1:
        # XLA is as fast at the products of 1x1 kernels, but computes what a product reads twice: for it and
        # for its neighbours. So these products are in C++ too, unless they are strided or have few pixels.
        few = gradient.size // gradient.shape[-1] < MIN_PIXELS_FOR_POINTWISE_KERNEL_GRADIENT
        of_input = None if windows.strides != (1, 1) else kernels
        of_kernel = None if few else kernels
    gradient = gradient if y is None else stored_once(relu_gradient)(y, gradient)
    geometry = _geometry(windows, groups)
    x_gradient = call(
        of_input,
        "input_gradient",
        jax.ShapeDtypeStruct(x.shape, x.dtype),
        kernel,
        gradient,
        in_jax=functools.partial(input_gradient, windows=windows, groups=groups),
        geometry=geometry,
    )
    of_the_kernel = call(
        of_kernel,
        "kernel_gradient",
        jax.ShapeDtypeStruct(kernel.shape, kernel.dtype),
        x,
        gradient,
        in_jax=functools.partial(kernel_gradient, windows=windows, groups=groups, dtype=kernel.dtype),
        geometry=geometry,
    )
    bias_gradient = None if bias is None else channel_sums(gradient).astype(bias.dtype)
    return x_gradient, of_the_kernel, bias_gradient, None if has_residual is None else gradient


convolution.defvjp(_convolve_and_save, _gradients)


def pack(kernel: jax.Array, groups: int, dtype: Any, kernels: Kernels) -> jax.Array:
    """Returns the kernel as `convolution_packed` reads it for images of this dtype, [n]."""
    if is_depthwise(kernel.shape, groups):
        return kernel.ravel()
    result = jax.ShapeDtypeStruct((kernels.packed_size(kernel.shape, groups, dtype),), dtype)
    return call(kernels, "pack_kernel", result, kernel, in_jax=_has_no_derivative, geometry=(groups,))


def convolution_packed(
    x: jax.Array,
    packed: jax.Array,
    bias: jax.Array,
    windows: Windows,
    groups: int,
    kernels: Kernels,
    *,
    channels: int,
    normalization: jax.Array | None,
    residual: jax.Array | None,
    into: tuple[jax.Array | int, int] | None,
    relu: bool,
) -> jax.Array:
    """Convolution, bias and ReLU without derivatives: -> [B, H', W', C_out], in the memory of the residual.

    The convolution reads the first `channels` of `x`, normalised and after ReLU if there is a `normalization`
    [3, channels] of mean, factor and bias. It is added to `residual` [B, H', W', C_out]. `into` is a
    `ChannelsOf`, whose array [B, H', W', C] is returned; then there is no residual.
    """
    assert residual is None or into is None, "channels of another array have no residual"
    whole, first = (bias.size, 0) if into is None else into
    previous = residual if isinstance(whole, int) else whole
    width = whole if isinstance(whole, int) else whole.shape[-1]
    shape = (x.shape[0], *windows.output_size, width)
    options: dict[str, Any] = {"geometry": _geometry(windows, groups), "relu": relu}
    options |= {"channels": np.int64(channels), "first": np.int64(first), "adds": residual is not None}
    if previous is not None:
        options["in_place"] = {4: 0}  # which reads and writes less memory
    none = jnp.zeros((0,), x.dtype)
    arrays = (
        x,
        packed,
        bias,
        none.astype(bias.dtype) if normalization is None else normalization,
        none if previous is None else previous,
    )
    result = jax.ShapeDtypeStruct(shape, x.dtype)
    return call(kernels, "convolution_packed", result, *arrays, in_jax=_has_no_derivative, **options)


def _has_no_derivative(*_: jax.Array) -> jax.Array:
    raise NotImplementedError("folded convolutions have no derivatives: use the variables they were made of")


def _geometry(windows: Windows, groups: int) -> tuple[int, ...]:
    return (*windows.steps_and_corner, groups, *windows.window)


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
