"""Pooling: of each window the largest value or the mean, by channel; global pooling: of the whole image."""

import jax
import jax.numpy as jnp

from jaxnets.by_hand.blocks.shapes import check_same_shape, require
from jaxnets.by_hand.blocks.windows import NO_PADDING, Padding, Pair, Windows


def max_pool(
    x: jax.Array, window: Pair, *, strides: Pair, padding: Padding = NO_PADDING
) -> jax.Array:
    """The largest value under each window: [B, H, W, C] -> [B, H', W', C].

    Padding never wins, as torch.nn.functional.max_pool2d. Raises ConfigError for shapes that do not fit.
    """
    windows = _windows(x, window, strides, padding)
    return _under_windows(windows.pad(x, -jnp.inf), windows).max(axis=0)


def max_pool_backward(
    gradient: jax.Array,
    x: jax.Array,
    window: Pair,
    *,
    strides: Pair,
    padding: Padding = NO_PADDING,
) -> jax.Array:
    """The gradient by x: each window hands its own to its largest value, the first of equal ones."""
    windows = _windows(x, window, strides, padding)
    check_same_shape(gradient, (x.shape[0], *windows.count, x.shape[3]), "the pooling's output")
    winner = _under_windows(windows.pad(x, -jnp.inf), windows).argmax(axis=0)
    by_padded = jnp.zeros_like(windows.pad(x))
    for number, (_, pixels) in enumerate(windows.taps()):
        by_padded = by_padded.at[pixels].add(jnp.where(winner == number, gradient, 0))
    return windows.crop(by_padded)


def average_pool(
    x: jax.Array,
    window: Pair,
    *,
    strides: Pair,
    padding: Padding = NO_PADDING,
    count_include_pad: bool = True,
) -> jax.Array:
    """The mean under each window: [B, H, W, C] -> [B, H', W', C].

    Padding counts as zeros, or with `count_include_pad=False` not at all, as
    torch.nn.functional.avg_pool2d. Raises ConfigError for shapes that do not fit.
    """
    windows = _windows(x, window, strides, padding)
    total = _under_windows(windows.pad(x), windows).sum(axis=0)
    return total / _counted(x, windows, count_include_pad)


def average_pool_backward(
    gradient: jax.Array,
    x: jax.Array,
    window: Pair,
    *,
    strides: Pair,
    padding: Padding = NO_PADDING,
    count_include_pad: bool = True,
) -> jax.Array:
    """The gradient by x: each window hands an equal share of its own to every pixel under it."""
    windows = _windows(x, window, strides, padding)
    check_same_shape(gradient, (x.shape[0], *windows.count, x.shape[3]), "the pooling's output")
    share = gradient / _counted(x, windows, count_include_pad)
    by_padded = jnp.zeros_like(windows.pad(x))
    for _, pixels in windows.taps():
        by_padded = by_padded.at[pixels].add(share)
    return windows.crop(by_padded)


def global_max_pool(x: jax.Array) -> jax.Array:
    """The largest value of each channel: [B, H, W, C] -> [B, C]."""
    return _pixels(x).max(axis=1)


def global_max_pool_backward(gradient: jax.Array, x: jax.Array) -> jax.Array:
    """The gradient by x, [B, H, W, C]: at the largest pixel; equal ones share it, as torch.amax."""
    pixels = _pixels(x)
    check_same_shape(gradient, (x.shape[0], x.shape[3]), "the pooling's output")
    largest = pixels == pixels.max(axis=1, keepdims=True)
    share = gradient / largest.sum(axis=1)
    return jnp.where(largest, share[:, None], 0).reshape(x.shape)


def global_average_pool(x: jax.Array) -> jax.Array:
    """The mean of each channel: [B, H, W, C] -> [B, C]."""
    return _pixels(x).mean(axis=1)


def global_average_pool_backward(gradient: jax.Array, x: jax.Array) -> jax.Array:
    """The gradient by x, [B, H, W, C]: the same share at every pixel."""
    check_same_shape(gradient, (x.shape[0], x.shape[3]), "the pooling's output")
    share = gradient / _pixels(x).shape[1]
    return jnp.broadcast_to(share[:, None, None], x.shape)


def _under_windows(padded_eval_batches: jax.Array, windows: Windows) -> jax.Array:
    """The values at each place of all windows: [kh * kw, B, H', W', C]."""
    return jnp.stack([padded_eval_batches[pixels] for _, pixels in windows.taps()])


def _counted(x: jax.Array, windows: Windows, count_include_pad: bool) -> jax.Array | int:
    """What each window's sum is divided by: one number, or [1, H', W', 1] where edges have fewer."""
    if count_include_pad:
        return windows.extent[0] * windows.extent[1]
    inside = windows.pad(jnp.ones_like(x[:1, :, :, :1]))
    return _under_windows(inside, windows).sum(axis=0)


def _pixels(x: jax.Array) -> jax.Array:
    """The pixels of each image in one row: [B, H * W, C]."""
    require(
        x.ndim == 4 and x.shape[1] * x.shape[2] > 0,
        f"x {list(x.shape)} must be [B, H, W, C] with a pixel or more",
    )
    return x.reshape(x.shape[0], -1, x.shape[3])


def _windows(x: jax.Array, window: Pair, strides: Pair, padding: Padding) -> Windows:
    require(x.ndim == 4, f"x {list(x.shape)} must be [B, H, W, C]")
    require(
        all(max(pad) < extent for pad, extent in zip(padding, window, strict=True)),
        f"padding {padding} for a window {list(window)}: a window would lie in padding alone",
    )
    return Windows(x.shape[1:3], window, strides, padding)
