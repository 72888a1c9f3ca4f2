"""Sliding windows: their number, and the pixels at each position in them."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from studies.by_hand.blocks.shapes import require

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
"""((top, bottom), (left, right)), in pixels."""

NO_PADDING: Padding = ((0, 0), (0, 0))


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of `extent` pixels with `strides`, on images of `size` with `padding`.

    Raises ConfigError if no window fits.
    """

    size: tuple[int, ...]
    extent: tuple[int, ...]
    strides: Pair
    padding: Padding

    def __post_init__(self) -> None:
        require(
            min(self.strides) >= 1 and min(self.extent) >= 1 and min(map(min, self.padding)) >= 0,
            f"a window {list(self.extent)} with strides {list(self.strides)} and padding "
            f"{self.padding}: sizes and strides must be at least 1, padding at least 0",
        )
        require(
            min(self.count) >= 1,
            f"a window {list(self.extent)} does not fit on an image {list(self.size)} "
            f"with padding {self.padding}: make it smaller or pad more",
        )

    @property
    def count(self) -> Pair:
        """The number of windows (H', W'): (size + padding - extent) // stride + 1."""
        rows, columns = (
            (size + sum(pad) - extent) // stride + 1
            for size, pad, extent, stride in zip(
                self.size, self.padding, self.extent, self.strides, strict=True
            )
        )
        return rows, columns

    def positions(self) -> Iterator[tuple[Pair, tuple[slice, slice, slice]]]:
        """Yields each position (u, v) in a window and the index of its pixels in the padded image.

        Position (u, v) of window (i, j) is the pixel (i * stride + u, j * stride + v).
        """
        (rows, columns), (down, right) = self.count, self.strides
        for u in range(self.extent[0]):
            for v in range(self.extent[1]):
                yield (
                    (u, v),
                    (
                        slice(None),
                        slice(u, u + (rows - 1) * down + 1, down),
                        slice(v, v + (columns - 1) * right + 1, right),
                    ),
                )

    def pad(self, x: jax.Array, value: float = 0.0) -> jax.Array:
        """Returns [B, H, W, C] with padding."""
        return jnp.pad(x, ((0, 0), *self.padding, (0, 0)), constant_values=value)

    def crop(self, padded: jax.Array) -> jax.Array:
        """Removes the padding."""
        (top, _), (left, _) = self.padding
        return padded[:, top : top + self.size[0], left : left + self.size[1]]
