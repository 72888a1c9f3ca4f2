"""Batch normalisation of [B, H, W, C], and the sums over pixels that it and other layers need."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from jaxnets.ops.cpu_kernels import Implementation, Kernels, call, kernels_of, on_cpu

Normalized = tuple[jax.Array, jax.Array, jax.Array]
"""The output [B, H, W, C], and the batch's mean and biased variance [C]."""
Saved = tuple[jax.Array, jax.Array | None, jax.Array, jax.Array, jax.Array, jax.Array, tuple[()] | None]
"""x, the output if ReLU needs it, scale, bias, mean, variance, and () if there was a residual."""


def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    *,
    residual: jax.Array | None = None,
    relu: bool = False,
    axis_name: str | None = None,
    implementation: Implementation = "auto",
) -> Normalized:
    """Normalises each channel over the batch and the pixels.

    Args:
        x: images [B, H, W, C].
        scale: [C]; its dtype is that of the statistics.
        bias: [C].
        epsilon: added to the variance.
        residual: added to the normalised images, [B, H, W, C]; None for none.
        relu: whether ReLU is applied last. Its gradient then needs no array but the output.
        axis_name: the batch is that of all devices of this axis.
        implementation: as for `convolution`.

    Returns:
        The output [B, H, W, C] in the dtype of x, the mean [C] and the biased variance [C]; the last two have
        no gradient.
    """
    if implementation == "xla":
        y, mean, var = _normalize(x, scale, bias, residual, epsilon, axis_name, relu=relu)
        return y, lax.stop_gradient(mean), lax.stop_gradient(var)
    kernels = kernels_of(implementation) if on_cpu() and axis_name is None else None
    if x.ndim != 4 or x.size == 0 or x.dtype not in (jnp.float32, jnp.bfloat16) or scale.dtype != jnp.float32:
        kernels = None
    return _batch_norm(x, scale, bias, residual, epsilon, relu, axis_name, kernels)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6, 7))
def _batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
    epsilon: float,
    relu: bool,
    axis_name: str | None,
    kernels: Kernels | None,
) -> Normalized:
    """With the gradient written out: JAX's own reads the images once more, for a sum that is zero."""
    return _normalize_and_save(x, scale, bias, residual, epsilon, relu, axis_name, kernels)[0]


def _normalize_and_save(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
    epsilon: float,
    relu: bool,
    axis_name: str | None,
    kernels: Kernels | None,
) -> tuple[Normalized, Saved]:
    def in_jax(x: jax.Array, scale: jax.Array, bias: jax.Array, residual: jax.Array) -> Normalized:
        added = residual if has_residual else None
        return _normalize(x, scale, bias, added, epsilon, axis_name, relu=relu)

    has_residual = residual is not None
    statistics = jax.ShapeDtypeStruct(scale.shape, jnp.float32)
    results = (jax.ShapeDtypeStruct(x.shape, x.dtype), statistics, statistics)
    arrays = (x, scale, bias, residual if has_residual else jnp.zeros((0,), x.dtype))
    options = {"epsilon": np.float32(epsilon), "relu": relu}
    y, mean, var = call(kernels, "batch_norm", results, *arrays, in_jax=in_jax, **options)
    # Without a residual, the gradient in C++ computes the output's sign from x: it reads one array less.
    saved_y = y if relu and (has_residual or kernels is None) else None
    return (y, mean, var), (x, saved_y, scale, bias, mean, var, () if has_residual else None)


def _normalize(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
    epsilon: float,
    axis_name: str | None,
    *,
    relu: bool,
) -> Normalized:
    mean, var = _moments(x.astype(scale.dtype), axis_name)
    y = stored_once(_apply)(x, residual, mean, scale * lax.rsqrt(var + epsilon), bias, relu=relu)
    return y, mean, var


@functools.partial(jax.jit, static_argnames="relu")
def _apply(
    x: jax.Array,
    residual: jax.Array | None,
    mean: jax.Array,
    factor: jax.Array,
    bias: jax.Array,
    *,
    relu: bool,
) -> jax.Array:
    center, spread, offset = per_channel(x.ndim, mean, factor, bias)
    y = (x.astype(mean.dtype) - center) * spread + offset
    y = y if residual is None else y + residual.astype(y.dtype)
    return (jax.nn.relu(y) if relu else y).astype(x.dtype)


def _batch_norm_gradients(
    epsilon: float,
    relu: bool,
    axis_name: str | None,
    kernels: Kernels | None,
    saved: Saved,
    gradients: Normalized,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    x, y, scale, bias, mean, var, marker = saved
    empty, has_residual = jnp.zeros((0,), x.dtype), marker is not None
    in_jax = functools.partial(
        _gradients, epsilon=epsilon, relu=relu, axis_name=axis_name, has_residual=has_residual
    )
    like_x, like_scale = (jax.ShapeDtypeStruct(each.shape, each.dtype) for each in (x, scale))
    like_residual = like_x if has_residual else jax.ShapeDtypeStruct((0,), x.dtype)
    results = (like_x, like_scale, like_scale, like_residual)
    arrays = (x, empty if y is None else y, gradients[0], scale, bias, mean, var)
    options = {"epsilon": np.float32(epsilon), "relu": relu, "in_place": {2: 3 if has_residual else 0}}
    *found, residual = call(kernels, "batch_norm_gradient", results, *arrays, in_jax=in_jax, **options)
    return (*found, residual if has_residual else None)


def _gradients(
    x: jax.Array,
    y: jax.Array,
    gradient: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    *,
    epsilon: float,
    relu: bool,
    axis_name: str | None,
    has_residual: bool,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The gradients of x, scale, bias and the residual. If y is empty, ReLU's mask is computed from x."""
    deviation = lax.rsqrt(var + epsilon)
    center, spread, slope, offset = per_channel(x.ndim, mean, deviation, scale, bias)
    normalized = (x.astype(scale.dtype) - center) * spread
    if relu:
        if y.size:
            gradient = stored_once(relu_gradient)(y, gradient)
        else:
            gradient = relu_gradient(normalized * slope + offset, gradient)
    values, residual = gradient.astype(scale.dtype), gradient if has_residual else jnp.zeros((0,), x.dtype)
    sums = channel_sums(values), channel_sums(values * normalized)
    # A device's own sums are its share of the parameters' gradient; the images' takes those of all.
    of_all = sums if axis_name is None else lax.psum(jnp.stack(sums), axis_name)
    count = values_per_channel(x, axis_name)
    shift, tilt = (each / count for each in of_all)
    x_gradient = stored_once(_input_gradient)(x, gradient, mean, deviation, scale * deviation, shift, tilt)
    return x_gradient, sums[1], sums[0], residual


@jax.jit
def relu_gradient(y: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient of ReLU's input, from its output y."""
    return jnp.where(y > 0, gradient, jnp.zeros((), gradient.dtype))


@jax.jit
def _input_gradient(x: jax.Array, gradient: jax.Array, mean: jax.Array, *others: jax.Array) -> jax.Array:
    center, spread, factor, shift, tilt = per_channel(x.ndim, mean, *others)
    normalized = (x.astype(mean.dtype) - center) * spread
    return (factor * (gradient.astype(mean.dtype) - shift - normalized * tilt)).astype(x.dtype)


_batch_norm.defvjp(_normalize_and_save, _batch_norm_gradients)


def _moments(values: jax.Array, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    # Two passes: the one-pass form (mean of squares less square of mean) cancels.
    count = values_per_channel(values, None)
    mean = channel_sums(values) / count
    var = channel_sums(jnp.square(values - lax.broadcast_to_rank(mean, values.ndim))) / count
    if axis_name is None:
        return mean, var
    # As exact as two passes over the values of all devices (Chan, Golub and LeVeque, 1983).
    means, variances = lax.all_gather(jnp.stack([mean, var]), axis_name, axis=1)
    return means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)


def norm(tree: Any, *, implementation: Implementation = "auto") -> jax.Array:
    """The Euclidean norm of all values of a pytree, as optax.tree.norm.

    XLA stores the squares of each array before it adds them; in C++ the arrays are read once.
    """
    arrays = jax.tree.leaves(tree)
    is_single = arrays and all(each.dtype == jnp.float32 for each in arrays)
    kernels = kernels_of(implementation) if is_single and on_cpu() else None
    result = jax.ShapeDtypeStruct((), jnp.float32)

    def in_jax(*arrays: jax.Array) -> Any:
        return sum(channel_sums(jnp.atleast_1d(jnp.square(each))).sum() for each in arrays)

    return jnp.sqrt(call(kernels, "sum_of_squares", result, *arrays, in_jax=in_jax))


def stored_once(jitted: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A jitted function whose result is stored on CPUs, as that of a custom call.

    XLA's fusion would compute it again for every operation that reads it, from all that it was made of: the
    output of a residual block from those of all blocks before it.
    """

    def call(*arrays: jax.Array | None, **options: Any) -> jax.Array:
        with set_xla_metadata(inlineable="false"):
            return jitted(*arrays, **options)

    return call if on_cpu() else jitted


def channel_sums(x: jax.Array) -> jax.Array:
    """The sum over all axes but the last, such as [B, H, W, C] -> [C].

    On CPUs they are matrix products, one for each image: XLA's own sums took 4 to 100 times as long.
    """
    if not on_cpu():
        return x.sum(axis=tuple(range(x.ndim - 1)))
    parts = x.reshape(len(x) if x.ndim > 2 else 1, -1, x.shape[-1])
    parts = parts.astype(jnp.float32) if x.dtype == jnp.bfloat16 else parts
    count, pixels, _ = parts.shape
    ones = functools.partial(jnp.ones, dtype=parts.dtype)
    sums = jnp.einsum("bp,bpc->bc", ones((count, pixels)), parts, precision="highest")
    return jnp.matmul(ones(count), sums, precision="highest").astype(x.dtype)


def per_channel(rank: int, *values: jax.Array) -> list[jax.Array]:
    """Values [C] as [1, ..., 1, C] of this rank."""
    return [lax.broadcast_to_rank(value, rank) for value in values]


def values_per_channel(x: jax.Array, axis_name: str | None) -> int:
    """The number of values of a channel on all devices of the axis."""
    count = x.size // x.shape[-1]
    return count if axis_name is None else count * lax.axis_size(axis_name)
