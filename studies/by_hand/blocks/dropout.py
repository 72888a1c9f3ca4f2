"""Inverted dropout (Srivastava et al. 2014): scaled in training, the identity at inference."""

import jax
import jax.numpy as jnp

from studies.by_hand.blocks.shapes import require


def draw_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> jax.Array:
    """Draws an independent mask, True with probability 1 - rate, like flax.linen.Dropout."""
    _check_rate(rate)
    return jax.random.bernoulli(key, 1 - rate, shape)


def dropout(x: jax.Array, mask: jax.Array | None, rate: float) -> jax.Array:
    """Returns x / (1 - rate) where `mask` (of the shape of x) is True, else 0; x if `mask` is None.

    Raises ConfigError for another shape and for a rate outside [0, 1).
    """
    _check_rate(rate)
    if mask is None:
        return x
    require(mask.shape == x.shape, f"mask {list(mask.shape)} for values {list(x.shape)}")
    return jnp.where(mask, x / (1 - rate), 0)


def dropout_backward(gradient: jax.Array, mask: jax.Array | None, rate: float) -> jax.Array:
    """Returns the gradient with respect to x."""
    return dropout(gradient, mask, rate)


def _check_rate(rate: float) -> None:
    require(0 <= rate < 1, f"a dropout rate of {rate} is not in [0, 1)")
