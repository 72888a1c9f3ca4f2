"""Batch normalisation over the batch and the pixels, with its gradient written out."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.ops.cpu_kernels.load import Kernels, call

PIXELS = (0, 1, 2)
"""The axes of [B, H, W, C] that a channel's statistics are taken over."""

Three = tuple[jax.Array, jax.Array, jax.Array]
Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def plain_batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None
) -> Three:
    """As `batch_norm`, with the derivatives that JAX makes of the formula: in any mode and of any order."""
    (y, mean, var), _ = _forward(x, scale, bias, epsilon, axis_name, None)
    return y, lax.stop_gradient(mean), lax.stop_gradient(var)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    axis_name: str | None,
    kernels: Kernels | None = None,
) -> Three:
    """Normalised [B, H, W, C], and the batch's mean and biased variance [C], in the type of `scale`.

    The statistics carry no gradient of their own. The gradient of the rest is written out: JAX's own reads
    the images once more, for a sum that is zero. It has reverse mode only, of any order.
    With `kernels`, in single precision, the sums are in C++: each reads the images once, where XLA needs a
    pass for every sum. What is done to each value stays XLA's, which fuses it with its neighbours.
    """
    return _forward(x, scale, bias, epsilon, axis_name, kernels)[0]


def _forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    axis_name: str | None,
    kernels: Kernels | None,
) -> tuple[Three, Saved]:
    values = x.astype(scale.dtype)
    moments = functools.partial(_moments, axis_name=axis_name)
    mean, var = call(kernels, "moments", _two_of(scale), values, in_jax=moments)
    deviation = lax.rsqrt(var + epsilon)
    center, factor, offset = per_channel(x.ndim, mean, scale * deviation, bias)
    return ((values - center) * factor + offset, mean, var), (x, scale, mean, deviation)


def _backward(
    epsilon: float, axis_name: str | None, kernels: Kernels | None, saved: Saved, gradients: Three
) -> Three:
    del epsilon
    x, scale, mean, deviation = saved
    gradient, *_ = gradients
    count = values_per_channel(x, axis_name)
    if kernels is not None:
        sums, products = call(
            kernels, "moment_products", _two_of(scale), x, gradient, mean, in_jax=_sums_and_products
        )
        shift, tilt = sums / count, products * jnp.square(deviation) / count
        factor, shift, center, tilt = per_channel(x.ndim, scale * deviation, shift, mean, tilt)
        return factor * (gradient - shift - (x - center) * tilt), products * deviation, sums
    center, spread = per_channel(x.ndim, mean, deviation)
    normalized = (x.astype(scale.dtype) - center) * spread
    sums = gradient.sum(axis=PIXELS), (gradient * normalized).sum(axis=PIXELS)
    # A device's own sums are its share of the parameters' gradient; the images' takes those of all.
    of_all = sums if axis_name is None else lax.psum(sums, axis_name)
    shift, tilt = (each / count for each in of_all)
    factor, shift, tilt = per_channel(x.ndim, scale * deviation, shift, tilt)
    x_gradient = factor * (gradient - shift - normalized * tilt)
    return x_gradient.astype(x.dtype), sums[1], sums[0]


batch_norm.defvjp(_forward, _backward)


def _moments(values: jax.Array, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    def mean(values: jax.Array) -> jax.Array:
        of_device = values.mean(axis=PIXELS)
        return of_device if axis_name is None else lax.pmean(of_device, axis_name)

    center = mean(values)
    # Two passes: the one-pass form (mean of squares less square of mean) cancels.
    return center, mean(jnp.square(values - lax.broadcast_to_rank(center, values.ndim)))


def _sums_and_products(x: jax.Array, gradient: jax.Array, mean: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gradient.sum(PIXELS), (gradient * (x - lax.broadcast_to_rank(mean, x.ndim))).sum(PIXELS)


def _two_of(channels: jax.Array) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    found = jax.ShapeDtypeStruct(channels.shape, jnp.float32)
    return found, found


def per_channel(rank: int, *values: jax.Array) -> list[jax.Array]:
    """Values [C] as [1, ..., 1, C] of this rank."""
    return [lax.broadcast_to_rank(value, rank) for value in values]


def values_per_channel(x: jax.Array, axis_name: str | None) -> int:
    """The number of values of a channel on all devices of the axis."""
    count = x.size // x.shape[-1]
    return count if axis_name is None else count * lax.axis_size(axis_name)
