"""Reference convolution and pooling by numpy in double precision."""

import itertools
from collections.abc import Iterator

import numpy as np

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def convolution(
    x: np.ndarray,
    kernel: np.ndarray,
    cotangent: np.ndarray,
    *,
    strides: Pair,
    padding: Padding,
    groups: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the output [B, H', W', C_out] and the gradients of x and the kernel."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    if groups > 1:
        parts = zip(
            np.split(x, groups, -1),
            np.split(kernel, groups, -1),
            np.split(cotangent, groups, -1),
            strict=True,
        )
        results = [convolution(*part, strides=strides, padding=padding) for part in parts]
        y, grad_x, grad_kernel = (np.concatenate(each, -1) for each in zip(*results, strict=True))
        return y, grad_x, grad_kernel
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    y, grad_padded, grad_kernel = (np.zeros(cotangent.shape), np.zeros_like(padded), np.zeros_like(kernel))
    for (row, column), pixels in _positions(kernel.shape[:2], cotangent.shape[1:3], strides):
        y += padded[pixels] @ kernel[row, column]
        grad_padded[pixels] += cotangent @ kernel[row, column].T
        grad_kernel[row, column] = np.einsum("bhwi,bhwo->io", padded[pixels], cotangent)
    return y, _crop(grad_padded, x.shape, padding), grad_kernel


def max_pool(
    x: np.ndarray, window: Pair, cotangent: np.ndarray, *, strides: Pair, padding: Padding
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the output and the gradient of x; the first of ties gets the gradient, and NaN propagates."""
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)), constant_values=-np.inf)
    positions = list(_positions(window, cotangent.shape[1:3], strides))
    largest, chosen = np.full(cotangent.shape, -np.inf), np.zeros(cotangent.shape, int)
    for number, (_, pixels) in enumerate(positions):
        wins = (padded[pixels] > largest) | np.isnan(padded[pixels])
        largest, chosen = (np.where(wins, padded[pixels], largest), np.where(wins, number, chosen))
    grad_padded = np.zeros_like(padded)
    for number, (_, pixels) in enumerate(positions):
        grad_padded[pixels] += np.where(chosen == number, cotangent, 0)
    return largest, _crop(grad_padded, x.shape, padding)


def average_pool(
    x: np.ndarray,
    window: Pair,
    cotangent: np.ndarray,
    *,
    strides: Pair,
    padding: Padding,
    count_include_pad: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the output and the gradient of x; padding is 0 and counted if `count_include_pad`."""
    edges = ((0, 0), *padding, (0, 0))
    padded = np.pad(np.asarray(x, np.float64), edges)
    weights = np.pad(np.ones(x.shape), edges, constant_values=float(count_include_pad))
    positions = [pixels for _, pixels in _positions(window, cotangent.shape[1:3], strides)]
    count = sum(weights[pixels] for pixels in positions)
    grad_padded = np.zeros_like(padded)
    for pixels in positions:
        grad_padded[pixels] += cotangent / count
    return sum(padded[pixels] for pixels in positions) / count, _crop(grad_padded, x.shape, padding)


def output_shape(
    x: tuple[int, ...], window: Pair, channels: int, *, strides: Pair, padding: Padding
) -> tuple[int, ...]:
    """Returns [B, H', W', channels]."""
    sides = zip(x[1:3], padding, window, strides, strict=True)
    down, across = ((size + sum(pad) - extent) // stride + 1 for size, pad, extent, stride in sides)
    return x[0], down, across, channels


def _positions(
    window: tuple[int, ...], size: tuple[int, ...], strides: Pair
) -> Iterator[tuple[Pair, tuple[slice, ...]]]:
    for tap in itertools.product(*map(range, window)):
        sides = zip(tap, size, strides, strict=True)
        yield tap, (slice(None), *(slice(t, t + (n - 1) * s + 1, s) for t, n, s in sides))


def _crop(padded: np.ndarray, shape: tuple[int, ...], padding: Padding) -> np.ndarray:
    (top, _), (left, _) = padding
    return padded[:, top : top + shape[1], left : left + shape[2]]
