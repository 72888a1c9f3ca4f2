"""Max pooling for CPUs in JAX alone: the forward pass notes which tap was largest.

XLA's own gradient, select-and-scatter, is up to 30 times slower than reading that note.
"""

import functools

import jax
import jax.numpy as jnp

from jaxnets.ops.windows import Padding, Pair, interior_pad, places, window_slices

MAX_WINDOW_SIZE = 127
"""Pixels of a window, at most: their numbers are signed bytes."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def max_pool(x: jax.Array, size: tuple[int, ...], window: Pair, strides: Pair, padding: Padding) -> jax.Array:
    """The largest under each window: [B, H, W, C] -> [B, H', W', C]; `size` is (H, W)."""
    return forward(x, size, window, strides, padding)[0]


def forward(
    x: jax.Array, size: tuple[int, ...], window: Pair, strides: Pair, padding: Padding
) -> tuple[jax.Array, jax.Array]:
    """The largest under each window, and the number of the tap that holds it, int8."""
    del size
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-jnp.inf)
    first, *others = window_slices(padded, window, strides)
    largest, chosen = first, jnp.zeros(first.shape, jnp.int8)
    for number, tap in enumerate(others, 1):
        # `>` keeps the first of equals; a NaN wins over what came before it, as in PyTorch.
        larger = (tap > largest) | jnp.isnan(tap)
        largest = jnp.where(larger, tap, largest)
        chosen = jnp.where(larger, jnp.int8(number), chosen)
    return largest, chosen


def gradient(
    chosen: jax.Array,
    gradient: jax.Array,
    size: tuple[int, ...],
    window: Pair,
    strides: Pair,
    padding: Padding,
) -> jax.Array:
    """The gradient with respect to x, [B, H, W, C], from that of the output and the chosen taps."""
    zero = jnp.zeros((), gradient.dtype)
    total = jnp.zeros((gradient.shape[0], *size, gradient.shape[-1]), gradient.dtype)
    for number, (row, column) in enumerate(places(window)):
        corner = (row - padding[0][0], column - padding[1][0])
        share = jnp.where(chosen == number, gradient, zero)
        total = total + interior_pad(share, corner, size, strides)
    return total


def _backward(
    size: tuple[int, ...],
    window: Pair,
    strides: Pair,
    padding: Padding,
    chosen: jax.Array,
    y_gradient: jax.Array,
) -> tuple[jax.Array]:
    return (gradient(chosen, y_gradient, size, window, strides, padding),)


max_pool.defvjp(forward, _backward)
