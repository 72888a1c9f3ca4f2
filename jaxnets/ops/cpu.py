"""Convolution for CPUs, in C++ where the kernels are built, else in JAX alone (`cpu_passes`)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxnets.ops import cpu_passes
from jaxnets.ops.cpu_kernels import Kernels, call
from jaxnets.ops.normalization import channel_sums, relu_gradient, stored_once
from jaxnets.ops.windows import Windows

# plan.h's kTapsAcrossAtMost: the maximum columns of a kernel in C++, for some passes its pixels.
WIDEST = 320
# The pixels of all maps together from which a 1x1 kernel's gradient is faster in C++ than as a product.
MIN_PIXELS_FOR_POINTWISE_KERNEL_GRADIENT = 1000


def supports(dtype: Any, kernel: jax.Array, groups: int) -> bool:
    """Whether a convolution can be computed in C++: in float32 or bfloat16, with a kernel in float32."""
    rows, columns, channels, features = kernel.shape
    halves, depthwise = dtype == jnp.bfloat16, cpu_passes.is_depthwise(kernel.shape, groups)
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
        y = cpu_passes.forward(x, kernel, windows, groups)
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
        in_jax=functools.partial(cpu_passes.input_gradient, windows=windows, groups=groups),
        geometry=geometry,
    )
    of_the_kernel = call(
        of_kernel,
        "kernel_gradient",
        jax.ShapeDtypeStruct(kernel.shape, kernel.dtype),
        x,
        gradient,
        in_jax=functools.partial(
            cpu_passes.kernel_gradient, windows=windows, groups=groups, dtype=kernel.dtype
        ),
        geometry=geometry,
    )
    bias_gradient = None if bias is None else channel_sums(gradient).astype(bias.dtype)
    return x_gradient, of_the_kernel, bias_gradient, None if has_residual is None else gradient


convolution.defvjp(_convolve_and_save, _gradients)


def pack(kernel: jax.Array, groups: int, dtype: Any, kernels: Kernels) -> jax.Array:
    """Returns the kernel as `convolution_packed` reads it for images of this dtype, [n]."""
    if cpu_passes.is_depthwise(kernel.shape, groups):
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
