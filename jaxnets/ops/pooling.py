"""Pooling, with PyTorch's padding (never counted, never chosen), ties and NaN."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.ops.convolution import Lowering, Padding, Pair


def max_pool(
    x: jax.Array,
    window: Pair,
    *,
    strides: Pair,
    padding: Padding = ((0, 0), (0, 0)),
    lowering: Lowering = "auto",
) -> jax.Array:
    """The largest value under each window: [B, H, W, C] -> [B, H', W', C], as torch.nn.functional.max_pool2d.

    Padding counts as minus infinity. The gradient goes to the first of equal values. On CPUs the forward
    pass notes which tap was largest, since XLA's select-and-scatter is 30 times slower than that note.
    """
    reference = functools.partial(_reference, window=window, strides=strides, padding=padding)
    if lowering == "reference":
        return reference(x)

    def for_cpu(x: jax.Array) -> jax.Array:
        return _by_taps(x, x.shape[1:3], window, strides, padding)

    return lax.platform_dependent(x, cpu=for_cpu, default=reference)


def global_average_pool(x: jax.Array) -> jax.Array:
    """The mean over all pixels: [B, H, W, C] -> [B, C]."""
    return x.mean(axis=(1, 2))


def _reference(x: jax.Array, *, window: Pair, strides: Pair, padding: Padding) -> jax.Array:
    return lax.reduce_window(
        x,
        np.array(-np.inf, x.dtype),  # concrete, so that JAX knows the reduction to be a maximum
        lax.max,
        (1, *window, 1),
        (1, *strides, 1),
        ((0, 0), *padding, (0, 0)),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _by_taps(
    x: jax.Array, size: tuple[int, ...], window: Pair, strides: Pair, padding: Padding
) -> jax.Array:
    return _forward(x, size, window, strides, padding)[0]


def _forward(
    x: jax.Array, size: tuple[int, ...], window: Pair, strides: Pair, padding: Padding
) -> tuple[jax.Array, jax.Array]:
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-jnp.inf)
    height, width = (
        (size - extent) // stride + 1
        for size, extent, stride in zip(padded.shape[1:3], window, strides, strict=True)
    )
    taps = [
        padded[
            :,
            row : row + (height - 1) * strides[0] + 1 : strides[0],
            column : column + (width - 1) * strides[1] + 1 : strides[1],
        ]
        for row, column in itertools.product(range(window[0]), range(window[1]))
    ]
    largest, chosen = taps[0], jnp.zeros(taps[0].shape, jnp.int8)
    for number, tap in enumerate(taps[1:], 1):
        # `>` keeps the first of equals; a NaN wins over what came before it, as in PyTorch.
        larger = (tap > largest) | jnp.isnan(tap)
        largest = jnp.where(larger, tap, largest)
        chosen = jnp.where(larger, jnp.int8(number), chosen)
    return largest, chosen


def _backward(
    size: tuple[int, ...],
    window: Pair,
    strides: Pair,
    padding: Padding,
    chosen: jax.Array,
    gradient: jax.Array,
) -> tuple[jax.Array]:
    zero = jnp.zeros((), gradient.dtype)
    total = jnp.zeros((gradient.shape[0], *size, gradient.shape[-1]), gradient.dtype)
    for number, corner in enumerate(itertools.product(range(window[0]), range(window[1]))):
        edges = [(0, 0, 0)]
        for place, pad, extent, target, stride in zip(
            corner, padding, gradient.shape[1:3], size, strides, strict=True
        ):
            first = place - pad[0]
            edges.append((first, target - (first + (extent - 1) * stride + 1), stride - 1))
        share = jnp.where(chosen == number, gradient, zero)
        total = total + lax.pad(share, zero, [*edges, (0, 0, 0)])
    return (total,)


_by_taps.defvjp(_forward, _backward)
