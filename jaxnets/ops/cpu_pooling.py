"""Max pooling for CPUs: in C++, or in JAX alone.

It stores the index of the largest pixel of each window: XLA's own gradient, select-and-scatter, is up to 30
times slower.
"""

import functools

import jax
import jax.numpy as jnp

from jaxnets.ops.cpu_kernels import Kernels, call
from jaxnets.ops.windows import Windows

MAX_WINDOW_SIZE = 127
"""The pixels of a window at most: their numbers are signed bytes."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(x: jax.Array, windows: Windows, kernels: Kernels | None) -> jax.Array:
    """The largest under each window: [B, H, W, C] -> [B, H', W', C]; in JAX where `kernels` is None."""
    return _pool(x, windows, kernels, chooses=False)[0]


def _pool(
    x: jax.Array, windows: Windows, kernels: Kernels | None, *, chooses: bool
) -> tuple[jax.Array, jax.Array]:
    """The largest under each window, and the number of its tap (or an empty array) for the gradient."""

    def in_jax(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, *others = windows.slices(x, fill=-jnp.inf)
        largest, chosen = first, jnp.zeros(first.shape, jnp.int8)
        for number, tap in enumerate(others, 1):
            # `>` keeps the first of equals; a NaN wins over what came before it, as in PyTorch.
            larger = (tap > largest) | jnp.isnan(tap)
            largest = jnp.where(larger, tap, largest)
            chosen = jnp.where(larger, jnp.int8(number), chosen)
        return largest, chosen if chooses else jnp.zeros((0,), jnp.int8)

    shape = (x.shape[0], *windows.output_size, x.shape[3])
    of_taps = jax.ShapeDtypeStruct(shape if chooses else (0,), jnp.int8)
    results = (jax.ShapeDtypeStruct(shape, x.dtype), of_taps)
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

    result = jax.ShapeDtypeStruct(shape, gradient.dtype)
    geometry = (*windows.window, *windows.steps_and_corner)
    return (call(kernels, "max_pool_gradient", result, chosen, gradient, in_jax=in_jax, geometry=geometry),)


max_pool.defvjp(functools.partial(_pool, chooses=True), _pool_gradient)
