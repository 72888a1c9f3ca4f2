"""Extracts the pixels of each position in a window, and adds values back to them."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def pair(size: int | Pair) -> Pair:
    """One number stands for both directions."""
    return (size, size) if isinstance(size, int) else size


def same_padding(size: tuple[int, ...], window: Pair, strides: Pair) -> Padding:
    """TensorFlow's "same": size / stride places, rounded up; an odd pixel is below or on the right."""
    totals = (
        max((-(-extent // stride) - 1) * stride + side - extent, 0)
        for extent, side, stride in zip(size, window, strides, strict=True)
    )
    rows, columns = ((total // 2, total - total // 2) for total in totals)
    return rows, columns


class Windows(NamedTuple):
    """The places of a `window` on images of `size`: heights and widths; a tap is one pixel of the window."""

    size: tuple[int, ...]
    window: tuple[int, ...]
    strides: Pair
    padding: Padding

    @property
    def output_size(self) -> Pair:
        """The number of places down and across."""
        height, width = (
            (extent + sum(pad) - side) // stride + 1 for extent, side, stride, pad in zip(*self, strict=True)
        )
        return height, width

    @property
    def is_pointwise(self) -> bool:
        """Whether a convolution is a matrix product: one tap and no padding."""
        return self.window == (1, 1) and self.padding == ((0, 0), (0, 0))

    @property
    def steps_and_corner(self) -> tuple[int, ...]:
        """The strides and the padding above and on the left, as the C++ kernels take them."""
        return (*self.strides, self.padding[0][0], self.padding[1][0])

    @property
    def taps(self) -> list[Pair]:
        """The (row, column) of each tap, row by row."""
        return list(itertools.product(range(self.window[0]), range(self.window[1])))

    def slices(self, x: jax.Array, fill: float = 0) -> list[jax.Array]:
        """The pixels under each tap: [B, H, W, C] -> one [B, H', W', C] per tap; padding is `fill`."""
        padded = jnp.pad(x, ((0, 0), *self.padding, (0, 0)), constant_values=fill)
        height, width = self.output_size
        return [
            padded[
                :,
                row : row + (height - 1) * self.strides[0] + 1 : self.strides[0],
                column : column + (width - 1) * self.strides[1] + 1 : self.strides[1],
            ]
            for row, column in self.taps
        ]

    def add_slices(self, total: jax.Array, slices: Iterable[jax.Array]) -> jax.Array:
        """The transpose of `slices`: adds each to `total` [B, H, W, C] where it lies; drops the padding."""
        for (row, column), values in zip(self.taps, slices, strict=True):
            total = total + self.spread(values, (row - self.padding[0][0], column - self.padding[1][0]))
        return total

    def spread(self, values: jax.Array, corner: Pair = (0, 0)) -> jax.Array:
        """Places [B, H', W', C] on zeros [B, H, W, C] from `corner`, `strides` apart; drops the rest."""
        edges = [(0, 0, 0)]
        for first, extent, target, stride in zip(
            corner, values.shape[1:3], self.size, self.strides, strict=True
        ):
            edges.append((first, target - (first + (extent - 1) * stride + 1), stride - 1))
        return lax.pad(values, jnp.zeros((), values.dtype), [*edges, (0, 0, 0)])


def apply_negative_padding(x: jax.Array, padding: Padding, value: float) -> tuple[jax.Array, Padding]:
    """Pads [B, H, W, C] if some padding is negative, which cuts; returns x and the padding left to do.

    XLA's convolution reads beside the image where one side of it is cut and the other padded, and its max
    pooling has no gradient there.
    """
    if min(map(min, padding)) >= 0:
        return x, padding
    edges = [(0, 0, 0), *((*pad, 0) for pad in padding), (0, 0, 0)]
    return lax.pad(x, jnp.asarray(value, x.dtype), edges), ((0, 0), (0, 0))
