"""2D convolution (cross-correlation: the kernel is not flipped)."""

import jax
import jax.numpy as jnp

from studies.by_hand.blocks.shapes import check_same_shape, require
from studies.by_hand.blocks.windows import NO_PADDING, Padding, Pair, Windows


def convolution(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, *, strides: Pair = (1, 1), padding: Padding = NO_PADDING
) -> jax.Array:
    """Returns y[b, i, j, o] = bias[o] + sum over u, v, c of x[b, i s + u, j s + v, c] kernel[u, v, c, o].

    x [B, H, W, C_in], kernel [kh, kw, C_in, C_out], bias [C_out] -> [B, H', W', C_out], like
    torch.nn.functional.conv2d. Raises ConfigError for mismatched shapes.
    """
    windows = _windows(x, kernel, strides, padding)
    require(
        bias.shape == kernel.shape[3:],
        f"bias {list(bias.shape)} for a kernel {list(kernel.shape)}: it must have one value per filter, "
        f"{list(kernel.shape[3:])}",
    )
    padded = windows.pad(x)
    y = bias
    for (u, v), pixels in windows.positions():
        y = y + padded[pixels] @ kernel[u, v]
    return y


def convolution_backward(
    gradient: jax.Array,
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair = (1, 1),
    padding: Padding = NO_PADDING,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the gradients with respect to x, kernel and bias, given that with respect to the output.

    Each factor of a product x * kernel receives the other factor times the gradient.
    """
    windows = _windows(x, kernel, strides, padding)
    check_same_shape(gradient, (x.shape[0], *windows.count, kernel.shape[3]), "the convolution's output")
    padded = windows.pad(x)
    grad_padded, grad_kernel = jnp.zeros_like(padded), jnp.zeros_like(kernel)
    for (u, v), pixels in windows.positions():
        grad_padded = grad_padded.at[pixels].add(gradient @ kernel[u, v].T)
        grad_kernel = grad_kernel.at[u, v].set(jnp.einsum("bijc,bijo->co", padded[pixels], gradient))
    return windows.crop(grad_padded), grad_kernel, gradient.sum(axis=(0, 1, 2))


def _windows(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> Windows:
    require(
        x.ndim == 4 and kernel.ndim == 4 and x.shape[3] == kernel.shape[2],
        f"x {list(x.shape)} and kernel {list(kernel.shape)}: they must be [B, H, W, C_in] and "
        "[kh, kw, C_in, C_out] with the same C_in",
    )
    return Windows(x.shape[1:3], kernel.shape[:2], strides, padding)
