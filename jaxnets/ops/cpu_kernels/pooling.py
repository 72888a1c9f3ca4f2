"""The C++ max pooling and its gradient as JAX functions."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxnets.ops.cpu import argmax_pool
from jaxnets.ops.cpu_kernels.load import Kernels
from jaxnets.ops.windows import Padding, Pair, output_size


def can_pool(x: jax.Array) -> bool:
    """Whether the kernels are made for this array: single precision."""
    return x.dtype == jnp.float32


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def max_pool(
    x: jax.Array,
    size: tuple[int, ...],
    window: Pair,
    strides: Pair,
    padding: Padding,
    kernels: Kernels,
) -> jax.Array:
    """The largest under each window: [B, H, W, C] -> [B, H', W', C]; `size` is (H, W)."""
    return _forward(x, size, window, strides, padding, kernels)[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3, 4, 5))
def _forward(
    x: jax.Array,
    size: tuple[int, ...],
    window: Pair,
    strides: Pair,
    padding: Padding,
    kernels: Kernels,
) -> tuple[jax.Array, jax.Array]:
    shape = (x.shape[0], *output_size(size, window, strides, padding), x.shape[3])
    results = (jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.int8))
    geometry = _geometry(window, strides, padding)
    largest, chosen = kernels.call("max_pool", results, x, geometry=geometry)
    return largest, chosen


def _backward(
    size: tuple[int, ...],
    window: Pair,
    strides: Pair,
    padding: Padding,
    kernels: Kernels,
    chosen: jax.Array,
    y_gradient: jax.Array,
) -> tuple[jax.Array]:
    return (_gradient(chosen, y_gradient, size, window, strides, padding, kernels),)


max_pool.defvjp(_forward, _backward)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5, 6))
def _gradient(
    chosen: jax.Array,
    y_gradient: jax.Array,
    size: tuple[int, ...],
    window: Pair,
    strides: Pair,
    padding: Padding,
    kernels: Kernels,
) -> jax.Array:
    shape = (y_gradient.shape[0], *size, y_gradient.shape[3])
    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    geometry = _geometry(window, strides, padding)
    return kernels.call("max_pool_gradient", result, chosen, y_gradient, geometry=geometry)


# Each is differentiated in turn through its form in JAX.
@_forward.defjvp
def _(
    size: tuple[int, ...],
    window: Pair,
    strides: Pair,
    padding: Padding,
    kernels: Kernels,
    primals: tuple[jax.Array],
    tangents: tuple[jax.Array],
) -> tuple[Any, Any]:
    in_jax = functools.partial(
        argmax_pool.forward, size=size, window=window, strides=strides, padding=padding
    )
    value = _forward(*primals, size, window, strides, padding, kernels)
    return value, jax.jvp(in_jax, primals, tangents)[1]


@_gradient.defjvp
def _(
    size: tuple[int, ...],
    window: Pair,
    strides: Pair,
    padding: Padding,
    kernels: Kernels,
    primals: tuple[jax.Array, jax.Array],
    tangents: tuple[Any, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    chosen, _ = primals
    value = _gradient(*primals, size, window, strides, padding, kernels)
    # Linear in the output's gradient; what was chosen has no derivative.
    return value, argmax_pool.gradient(chosen, tangents[1], size, window, strides, padding)


def _geometry(window: Pair, strides: Pair, padding: Padding) -> tuple[int, ...]:
    return (*window, *strides, padding[0][0], padding[1][0])
