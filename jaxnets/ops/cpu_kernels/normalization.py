"""Batch normalisation with its sums in C++: each reads the images once, where XLA needs a pass for every sum.

What is done to each value stays XLA's, which fuses it with its neighbours.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.ops.cpu_kernels.load import Kernels

PIXELS = (0, 1, 2)
Three = tuple[jax.Array, jax.Array, jax.Array]
Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def can_normalize(x: jax.Array, scale: jax.Array) -> bool:
    """Whether the kernels are made for these arrays: images in single precision, not empty."""
    return x.dtype == scale.dtype == jnp.float32 and x.ndim == 4 and x.size > 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, kernels: Kernels) -> Three:
    """As `ops.normalization.batch_norm`: normalised [B, H, W, C], mean and biased variance [C]."""
    return _forward(x, scale, bias, epsilon, kernels)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, kernels: Kernels
) -> tuple[Three, Saved]:
    mean, var = _moments(x, kernels)
    deviation = lax.rsqrt(var + epsilon)
    return ((x - mean) * (scale * deviation) + bias, mean, var), (x, scale, mean, deviation)


def _backward(epsilon: float, kernels: Kernels, saved: Saved, gradients: Three) -> Three:
    del epsilon
    x, scale, mean, deviation = saved
    gradient, *_ = gradients
    sums, products = _products(x, gradient, mean, kernels)
    count = x.size // x.shape[-1]
    shift, tilt = sums / count, products * jnp.square(deviation) / count
    x_gradient = (scale * deviation) * (gradient - shift - (x - mean) * tilt)
    return x_gradient, products * deviation, sums


batch_norm.defvjp(_forward, _backward)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _moments(x: jax.Array, kernels: Kernels) -> tuple[jax.Array, jax.Array]:
    channels = jax.ShapeDtypeStruct(x.shape[-1:], jnp.float32)
    mean, var = kernels.call("moments", (channels, channels), x)
    return mean, var


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _products(
    x: jax.Array, gradient: jax.Array, mean: jax.Array, kernels: Kernels
) -> tuple[jax.Array, jax.Array]:
    channels = jax.ShapeDtypeStruct(mean.shape, jnp.float32)
    sums, products = kernels.call("moment_products", (channels, channels), x, gradient, mean)
    return sums, products


def _moments_in_jax(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean = x.mean(PIXELS)
    return mean, jnp.square(x - mean).mean(PIXELS)


def _products_in_jax(x: jax.Array, gradient: jax.Array, mean: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gradient.sum(PIXELS), (gradient * (x - mean)).sum(PIXELS)


# Each is differentiated in turn through its form in JAX.
@_moments.defjvp
def _(kernels: Kernels, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    return _moments(*primals, kernels), jax.jvp(_moments_in_jax, primals, tangents)[1]


@_products.defjvp
def _(kernels: Kernels, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    return _products(*primals, kernels), jax.jvp(_products_in_jax, primals, tangents)[1]
