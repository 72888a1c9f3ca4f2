"""Activations and poolings that several networks use."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxnets import ops
from jaxnets.ops.cpu_kernels.load import Implementation
from jaxnets.ops.windows import Pair


def _leaky_relu(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 0.01 * x)  # jax.nn's has slope 1 at 0, PyTorch's 0.01


ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = MappingProxyType(
    {
        "tanh": jnp.tanh,
        "relu": nn.relu,
        "leaky_relu": _leaky_relu,
        "sigmoid": nn.sigmoid,
        "identity": lambda x: x,
    }
)
"""By name; values and slopes are PyTorch's, at 0 too."""


def pool(
    x: jax.Array, kind: str, window: Pair, *, strides: Pair, implementation: Implementation = "auto"
) -> jax.Array:
    """[B, H, W, C] -> [B, H', W', C], by a name of config.model.pooling; an average has one form alone."""
    kinds = {
        "max": functools.partial(ops.max_pool, implementation=implementation),
        "average": ops.average_pool,
    }
    return kinds[kind](x, window, strides=strides)


def max_pool_ceil(
    x: jax.Array, window: Pair, *, strides: Pair, implementation: Implementation = "auto"
) -> jax.Array:
    """`ops.max_pool` whose last window may stick out, as torch.nn.MaxPool2d(..., ceil_mode=True).

    [B, H, W, C] -> [B, ceil((H - window) / stride) + 1, ..., C]; a window begins inside the image.
    """
    (rows, columns) = (
        (0, _overhang(extent, side, stride))
        for extent, side, stride in zip(x.shape[1:3], window, strides, strict=True)
    )
    return ops.max_pool(x, window, strides=strides, padding=(rows, columns), implementation=implementation)


def _overhang(extent: int, side: int, stride: int) -> int:
    """How many pixels beyond the far edge the last window covers."""
    count = -((side - extent) // stride) + 1  # -(-a // b) is a / b rounded up
    if (count - 1) * stride >= extent:
        count -= 1
    return max((count - 1) * stride + side - extent, 0)


def adaptive_average_pool(x: jax.Array, size: Pair) -> jax.Array:
    """The mean of each of `size` bins: [B, H, W, C] -> [B, *size, C], as torch.nn.AdaptiveAvgPool2d.

    Bin i of n pixels begins at floor(i * n / size) and ends before ceil((i + 1) * n / size): bins overlap
    where `size` does not divide n, and repeat pixels where n is the smaller.
    """
    for axis, count in zip((1, 2), size, strict=True):
        extent = x.shape[axis]
        bins = [
            lax.slice_in_dim(x, i * extent // count, -(-(i + 1) * extent // count), axis=axis).mean(axis)
            for i in range(count)
        ]
        x = jnp.stack(bins, axis)
    return x
