"""The dense (fully connected) layer and the flattening before it."""

import math
from typing import NamedTuple

import jax

from studies.by_hand.blocks.shapes import check_same_shape, require


class Layer(NamedTuple):
    """The parameters of a dense layer or a convolution, or the loss's gradient by them."""

    kernel: jax.Array  # [n_in, n_out], or [kh, kw, C_in, C_out]
    bias: jax.Array  # [n_out], or [C_out]


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Each output sees all inputs, x kernel + bias: [B, n_in], [n_in, n_out], [n_out] -> [B, n_out].

    The kernel is the transpose of the W in W x + b, since here an example is a row. Raises ConfigError
    for shapes that do not fit; a bias [n_out, 1] would broadcast along the batch.
    """
    _check_fit(x, kernel)
    require(
        bias.shape == kernel.shape[1:],
        f"bias {list(bias.shape)} for a kernel {list(kernel.shape)}: one value a neuron, "
        f"{list(kernel.shape[1:])}",
    )
    return x @ kernel + bias


def dense_backward(
    gradient: jax.Array, x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The loss's gradient by x, by the kernel and by the bias, from that by y, [B, n_out]."""
    _check_fit(x, kernel)
    check_same_shape(gradient, (x.shape[0], kernel.shape[1]), "the layer's output")
    return gradient @ kernel.T, x.T @ gradient, gradient.sum(axis=0)


def flatten(x: jax.Array) -> jax.Array:
    """The values of each example in one row: [B, ...] -> [B, n]."""
    require(x.ndim >= 2, f"x {list(x.shape)} must be [B, ...]")
    return x.reshape(x.shape[0], -1)


def flatten_backward(gradient: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The gradient [B, n] back in the shape [B, ...] of what was flattened."""
    require(
        gradient.shape[0] == shape[0] and gradient.size == math.prod(shape),
        f"the gradient {list(gradient.shape)} has not the values of {list(shape)}",
    )
    return gradient.reshape(shape)


def _check_fit(x: jax.Array, kernel: jax.Array) -> None:
    require(
        x.ndim == 2 and kernel.ndim == 2 and x.shape[1] == kernel.shape[0],
        f"x {list(x.shape)} and kernel {list(kernel.shape)}: they must be [B, n_in] and [n_in, n_out]",
    )
