"""Max and average pooling, over windows or over the full image."""

import jax
import jax.numpy as jnp

from studies.by_hand.blocks.shapes import check_same_shape, require
from studies.by_hand.blocks.windows import NO_PADDING, Padding, Pair, Windows


def max_pool(x: jax.Array, window: Pair, *, strides: Pair, padding: Padding = NO_PADDING) -> jax.Array:
    """Returns the maxima, [B, H, W, C] -> [B, H', W', C], like torch.nn.functional.max_pool2d.

    Padding is -inf. Raises ConfigError for invalid shapes.
    """
    windows = _windows(x, window, strides, padding)
    return _in_windows(windows.pad(x, -jnp.inf), windows).max(axis=0)


def max_pool_backward(
    gradient: jax.Array, x: jax.Array, window: Pair, *, strides: Pair, padding: Padding = NO_PADDING
) -> jax.Array:
    """Returns the gradient with respect to x; on ties the first maximum of a window gets it."""
    windows = _windows(x, window, strides, padding)
    check_same_shape(gradient, (x.shape[0], *windows.count, x.shape[3]), "the pooling's output")
    argmax = _in_windows(windows.pad(x, -jnp.inf), windows).argmax(axis=0)
    grad_padded = jnp.zeros_like(windows.pad(x))
    for number, (_, pixels) in enumerate(windows.positions()):
        grad_padded = grad_padded.at[pixels].add(jnp.where(argmax == number, gradient, 0))
    return windows.crop(grad_padded)


def average_pool(
    x: jax.Array,
    window: Pair,
    *,
    strides: Pair,
    padding: Padding = NO_PADDING,
    count_include_pad: bool = True,
) -> jax.Array:
    """Returns the averages, [B, H, W, C] -> [B, H', W', C], like torch.nn.functional.avg_pool2d.

    Padding counts as zeros, or is excluded with `count_include_pad=False`. Raises ConfigError for invalid
    shapes.
    """
    windows = _windows(x, window, strides, padding)
    total = _in_windows(windows.pad(x), windows).sum(axis=0)
    return total / _window_sizes(x, windows, count_include_pad)


def average_pool_backward(
    gradient: jax.Array,
    x: jax.Array,
    window: Pair,
    *,
    strides: Pair,
    padding: Padding = NO_PADDING,
    count_include_pad: bool = True,
) -> jax.Array:
    """Returns the gradient with respect to x."""
    windows = _windows(x, window, strides, padding)
    check_same_shape(gradient, (x.shape[0], *windows.count, x.shape[3]), "the pooling's output")
    per_pixel = gradient / _window_sizes(x, windows, count_include_pad)
    grad_padded = jnp.zeros_like(windows.pad(x))
    for _, pixels in windows.positions():
        grad_padded = grad_padded.at[pixels].add(per_pixel)
    return windows.crop(grad_padded)


def global_max_pool(x: jax.Array) -> jax.Array:
    """Returns the maximum of each channel: [B, H, W, C] -> [B, C]."""
    return _pixels(x).max(axis=1)


def global_max_pool_backward(gradient: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the gradient with respect to x, [B, H, W, C]; it is divided among ties, as in torch.amax."""
    pixels = _pixels(x)
    check_same_shape(gradient, (x.shape[0], x.shape[3]), "the pooling's output")
    largest = pixels == pixels.max(axis=1, keepdims=True)
    per_pixel = gradient / largest.sum(axis=1)
    return jnp.where(largest, per_pixel[:, None], 0).reshape(x.shape)


def global_average_pool(x: jax.Array) -> jax.Array:
    """Returns the mean of each channel: [B, H, W, C] -> [B, C]."""
    return _pixels(x).mean(axis=1)


def global_average_pool_backward(gradient: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the gradient with respect to x, [B, H, W, C]."""
    check_same_shape(gradient, (x.shape[0], x.shape[3]), "the pooling's output")
    per_pixel = gradient / _pixels(x).shape[1]
    return jnp.broadcast_to(per_pixel[:, None, None], x.shape)


def _in_windows(padded: jax.Array, windows: Windows) -> jax.Array:
    """Returns the values at each position of all windows: [kh * kw, B, H', W', C]."""
    return jnp.stack([padded[pixels] for _, pixels in windows.positions()])


def _window_sizes(x: jax.Array, windows: Windows, count_include_pad: bool) -> jax.Array | int:
    """Returns the number of values per window: an integer, or [1, H', W', 1] without padding."""
    if count_include_pad:
        return windows.extent[0] * windows.extent[1]
    inside = windows.pad(jnp.ones_like(x[:1, :, :, :1]))
    return _in_windows(inside, windows).sum(axis=0)


def _pixels(x: jax.Array) -> jax.Array:
    """Flattens the pixels: [B, H * W, C]."""
    require(
        x.ndim == 4 and x.shape[1] * x.shape[2] > 0,
        f"x {list(x.shape)} must be [B, H, W, C] with at least one pixel",
    )
    return x.reshape(x.shape[0], -1, x.shape[3])


def _windows(x: jax.Array, window: Pair, strides: Pair, padding: Padding) -> Windows:
    require(x.ndim == 4, f"x {list(x.shape)} must be [B, H, W, C]")
    require(
        all(max(pad) < extent for pad, extent in zip(padding, window, strict=True)),
        f"padding {padding} for a window {list(window)}: a window would contain only padding",
    )
    return Windows(x.shape[1:3], window, strides, padding)
