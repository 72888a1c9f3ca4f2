"""Max pooling for CPUs, in C++ or in JAX alone: the forward pass notes which tap was largest.

XLA's own gradient, select-and-scatter, is up to 30 times slower than reading that note.
"""

import functools

import jax
import jax.numpy as jnp

from jaxnets.ops.cpu_kernels.load import Kernels, call
from jaxnets.ops.windows import Windows

MAX_WINDOW_SIZE = 127
"""Pixels of a window, at most: their numbers are signed bytes."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(x: jax.Array, windows: Windows, kernels: Kernels | None) -> jax.Array:
    """The largest under each window: [B, H, W, C] -> [B, H', W', C]; in JAX where `kernels` is None."""
    return _forward(x, windows, kernels)[0]


def _forward(x: jax.Array, windows: Windows, kernels: Kernels | None) -> tuple[jax.Array, jax.Array]:
    shape = (x.shape[0], *windows.output_size, x.shape[3])
    results = (jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.int8))
    in_jax = functools.partial(_largest_and_its_tap, windows=windows)
    return call(kernels, "max_pool", results, x, in_jax=in_jax, geometry=_geometry(windows))


def _backward(
    windows: Windows, kernels: Kernels | None, chosen: jax.Array, gradient: jax.Array
) -> tuple[jax.Array]:
    result = jax.ShapeDtypeStruct((gradient.shape[0], *windows.size, gradient.shape[3]), jnp.float32)
    options = {
        "in_jax": functools.partial(_input_gradient, windows=windows),
        "geometry": _geometry(windows),
    }
    return (call(kernels, "max_pool_gradient", result, chosen, gradient, **options),)


max_pool.defvjp(_forward, _backward)


def _largest_and_its_tap(x: jax.Array, windows: Windows) -> tuple[jax.Array, jax.Array]:
    first, *others = windows.slices(x, fill=-jnp.inf)
    largest, chosen = first, jnp.zeros(first.shape, jnp.int8)
    for number, tap in enumerate(others, 1):
        # `>` keeps the first of equals; a NaN wins over what came before it, as in PyTorch.
        larger = (tap > largest) | jnp.isnan(tap)
        largest = jnp.where(larger, tap, largest)
        chosen = jnp.where(larger, jnp.int8(number), chosen)
    return largest, chosen


def _input_gradient(chosen: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    zero = jnp.zeros((), gradient.dtype)
    total = jnp.zeros((gradient.shape[0], *windows.size, gradient.shape[3]), gradient.dtype)
    shares = (jnp.where(chosen == number, gradient, zero) for number in range(len(windows.taps)))
    return windows.add_slices(total, shares)


def _geometry(windows: Windows) -> tuple[int, ...]:
    return (*windows.window, *windows.strides, windows.padding[0][0], windows.padding[1][0])
