"""The dense (fully connected) layer, and flattening."""

import math
from typing import NamedTuple

import jax

from studies.by_hand.blocks.shapes import check_same_shape, require


class Layer(NamedTuple):
    """The parameters of a dense layer or a convolution, or their gradients."""

    kernel: jax.Array  # [n_in, n_out], or [kh, kw, C_in, C_out]
    bias: jax.Array  # [n_out], or [C_out]


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns x kernel + bias: [B, n_in], [n_in, n_out], [n_out] -> [B, n_out].

    The kernel is the transpose of W in W x + b, because examples are rows. Raises ConfigError for mismatched
    shapes; a bias [n_out, 1] would broadcast along the batch.
    """
    _check_shapes(x, kernel)
    require(
        bias.shape == kernel.shape[1:],
        f"bias {list(bias.shape)} for a kernel {list(kernel.shape)}: it must have one value per neuron, "
        f"{list(kernel.shape[1:])}",
    )
    return x @ kernel + bias


def dense_backward(
    gradient: jax.Array, x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the gradients with respect to x, kernel and bias, given that with respect to the output."""
    _check_shapes(x, kernel)
    check_same_shape(gradient, (x.shape[0], kernel.shape[1]), "the layer's output")
    return gradient @ kernel.T, x.T @ gradient, gradient.sum(axis=0)


def flatten(x: jax.Array) -> jax.Array:
    """Flattens each example: [B, ...] -> [B, n]."""
    require(x.ndim >= 2, f"x {list(x.shape)} must be [B, ...]")
    return x.reshape(x.shape[0], -1)


def flatten_backward(gradient: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the gradient [B, n] in the shape [B, ...] before flattening."""
    require(
        gradient.shape[0] == shape[0] and gradient.size == math.prod(shape),
        f"the gradient {list(gradient.shape)} does not match the shape {list(shape)} before flattening",
    )
    return gradient.reshape(shape)


def _check_shapes(x: jax.Array, kernel: jax.Array) -> None:
    require(
        x.ndim == 2 and kernel.ndim == 2 and x.shape[1] == kernel.shape[0],
        f"x {list(x.shape)} and kernel {list(kernel.shape)}: they must be [B, n_in] and [n_in, n_out]",
    )
