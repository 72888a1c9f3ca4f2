"""Convolution and pooling by numpy in double precision, tap by tap: what every form must equal."""

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
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The output [B, H', W', C_out] and, from its cotangent, the gradients of x and of the kernel."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    y, by_padded, by_kernel = (
        np.zeros(cotangent.shape),
        np.zeros_like(padded),
        np.zeros_like(kernel),
    )
    for (row, column), under in _taps(kernel.shape[:2], cotangent.shape[1:3], strides):
        y += padded[under] @ kernel[row, column]
        by_padded[under] += cotangent @ kernel[row, column].T
        by_kernel[row, column] = np.einsum("bhwi,bhwo->io", padded[under], cotangent)
    return y, _inside(by_padded, x.shape, padding), by_kernel


def max_pool(
    x: np.ndarray, window: Pair, cotangent: np.ndarray, *, strides: Pair, padding: Padding
) -> tuple[np.ndarray, np.ndarray]:
    """The output and the gradient of x: the first of equals takes it all, a NaN beats what came before."""
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)), constant_values=-np.inf)
    taps = list(_taps(window, cotangent.shape[1:3], strides))
    largest, chosen = np.full(cotangent.shape, -np.inf), np.zeros(cotangent.shape, int)
    for number, (_, under) in enumerate(taps):
        wins = (padded[under] > largest) | np.isnan(padded[under])
        largest, chosen = (
            np.where(wins, padded[under], largest),
            np.where(wins, number, chosen),
        )
    by_padded = np.zeros_like(padded)
    for number, (_, under) in enumerate(taps):
        by_padded[under] += np.where(chosen == number, cotangent, 0)
    return largest, _inside(by_padded, x.shape, padding)


def average_pool(
    x: np.ndarray,
    window: Pair,
    cotangent: np.ndarray,
    *,
    strides: Pair,
    padding: Padding,
    count_include_pad: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """The output and the gradient of x: padding is zeros, which count as pixels or do not."""
    edges = ((0, 0), *padding, (0, 0))
    padded = np.pad(np.asarray(x, np.float64), edges)
    weights = np.pad(np.ones(x.shape), edges, constant_values=float(count_include_pad))
    taps = [under for _, under in _taps(window, cotangent.shape[1:3], strides)]
    count = sum(weights[under] for under in taps)
    by_padded = np.zeros_like(padded)
    for under in taps:
        by_padded[under] += cotangent / count
    return sum(padded[under] for under in taps) / count, _inside(by_padded, x.shape, padding)


def output_shape(
    x: tuple[int, ...], window: Pair, channels: int, *, strides: Pair, padding: Padding
) -> tuple[int, ...]:
    """[B, H', W', channels]."""
    sides = zip(x[1:3], padding, window, strides, strict=True)
    down, across = ((size + sum(pad) - extent) // stride + 1 for size, pad, extent, stride in sides)
    return x[0], down, across, channels


def _taps(
    window: tuple[int, ...], size: tuple[int, ...], strides: Pair
) -> Iterator[tuple[Pair, tuple[slice, ...]]]:
    for tap in itertools.product(*map(range, window)):
        sides = zip(tap, size, strides, strict=True)
        yield tap, (slice(None), *(slice(t, t + (n - 1) * s + 1, s) for t, n, s in sides))


def _inside(padded: np.ndarray, shape: tuple[int, ...], padding: Padding) -> np.ndarray:
    (top, _), (left, _) = padding
    return padded[:, top : top + shape[1], left : left + shape[2]]
