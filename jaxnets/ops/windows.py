"""The pixels that lie under a window at each of its places, and the way back."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def output_size(size: Sequence[int], window: Sequence[int], strides: Pair, padding: Padding) -> Pair:
    """How often a window fits down and across an image of `size` (height, width)."""
    height, width = (
        (extent + sum(pad) - side) // stride + 1
        for extent, pad, side, stride in zip(size, padding, window, strides, strict=True)
    )
    return height, width


def apply_negative_padding(x: jax.Array, padding: Padding, value: float) -> tuple[jax.Array, Padding]:
    """Lays padding out in [B, H, W, C] where one of it is negative, which cuts; x and the padding left to do.

    XLA's convolution reads beside the image where one side of it is cut and the other padded, and its max
    pooling has no gradient there.
    """
    if min(map(min, padding)) >= 0:
        return x, padding
    edges = [(0, 0, 0), *((*pad, 0) for pad in padding), (0, 0, 0)]
    return lax.pad(x, jnp.asarray(value, x.dtype), edges), ((0, 0), (0, 0))


def places(window: Sequence[int]) -> list[Pair]:
    """The (row, column) of each tap of a window, row by row."""
    return list(itertools.product(range(window[0]), range(window[1])))


def window_slices(padded: jax.Array, window: Sequence[int], strides: Pair) -> list[jax.Array]:
    """For each tap of the window what lies under it: [B, H, W, C] -> window-many [B, H', W', C]."""
    height, width = output_size(padded.shape[1:3], window, strides, ((0, 0), (0, 0)))
    return [
        padded[
            :,
            row : row + (height - 1) * strides[0] + 1 : strides[0],
            column : column + (width - 1) * strides[1] + 1 : strides[1],
        ]
        for row, column in places(window)
    ]


def interior_pad(values: jax.Array, corner: Pair, size: Sequence[int], strides: Pair) -> jax.Array:
    """Lays `values` on a grid of zeros of `size`, from `corner` on, `strides` apart; cuts what sticks out."""
    edges = [(0, 0, 0)]
    for first, extent, target, stride in zip(corner, values.shape[1:3], size, strides, strict=True):
        edges.append((first, target - (first + (extent - 1) * stride + 1), stride - 1))
    return lax.pad(values, jnp.zeros((), values.dtype), [*edges, (0, 0, 0)])
