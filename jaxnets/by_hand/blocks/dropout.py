"""Dropout (Srivastava et al. 2014), inverted: what is kept is scaled in training, nothing at inference."""

import jax
import jax.numpy as jnp

from jaxnets.by_hand.blocks.shapes import require


def draw_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> jax.Array:
    """True for what is kept, each value by itself with probability 1 - rate, as flax.linen.Dropout draws."""
    _check_rate(rate)
    return jax.random.bernoulli(key, 1 - rate, shape)


def dropout(x: jax.Array, mask: jax.Array | None, rate: float) -> jax.Array:
    """Zero where `mask` is False, x / (1 - rate) where it is True: the mean over masks is x.

    `mask` has the shape of x; None is inference, which changes nothing. Raises ConfigError for another
    shape, and for a rate outside [0, 1).
    """
    _check_rate(rate)
    if mask is None:
        return x
    require(mask.shape == x.shape, f"mask {list(mask.shape)} for values {list(x.shape)}")
    return jnp.where(mask, x / (1 - rate), 0)


def dropout_backward(gradient: jax.Array, mask: jax.Array | None, rate: float) -> jax.Array:
    """The gradient by x: what was dropped gets none, the rest that of its scale."""
    return dropout(gradient, mask, rate)


def _check_rate(rate: float) -> None:
    require(0 <= rate < 1, f"a dropout rate of {rate} is not in [0, 1)")
