"""Gradient descent and what Adam is made of: momentum, AdaGrad and RMSProp, each for one array.

Momentum: Polyak 1964. AdaGrad: Duchi et al. 2011. RMSProp: Hinton 2012, lecture 6e of his course. All as
in torch.optim.
"""

import jax
import jax.numpy as jnp

from studies.by_hand.blocks.shapes import check_same_shape


def sgd(parameter: jax.Array, gradient: jax.Array, *, learning_rate: float) -> jax.Array:
    """One step down the gradient: parameter - learning_rate * gradient, one rate for all."""
    check_same_shape(gradient, parameter.shape, "its parameter")
    return parameter - learning_rate * gradient


def momentum(
    parameter: jax.Array,
    gradient: jax.Array,
    velocity: jax.Array,
    *,
    learning_rate: float,
    beta: float = 0.9,
) -> tuple[jax.Array, jax.Array]:
    """A step along `velocity`, the sum of all gradients with the old ones fading: what turns cancels."""
    check_same_shape(gradient, parameter.shape, "its parameter")
    velocity = beta * velocity + gradient
    return parameter - learning_rate * velocity, velocity


def adagrad(
    parameter: jax.Array,
    gradient: jax.Array,
    total: jax.Array,
    *,
    learning_rate: float,
    epsilon: float = 1e-10,
) -> tuple[jax.Array, jax.Array]:
    """The gradient over the root of the sum of all its squares, `total`: rare gradients take large steps."""
    check_same_shape(gradient, parameter.shape, "its parameter")
    total = total + gradient**2
    return parameter - learning_rate * gradient / (jnp.sqrt(total) + epsilon), total


def rmsprop(
    parameter: jax.Array,
    gradient: jax.Array,
    square: jax.Array,
    *,
    learning_rate: float,
    decay: float = 0.99,
    epsilon: float = 1e-8,
) -> tuple[jax.Array, jax.Array]:
    """The gradient over the root of the moving average of its squares, `square`: the old are forgotten."""
    check_same_shape(gradient, parameter.shape, "its parameter")
    square = decay * square + (1 - decay) * gradient**2
    return parameter - learning_rate * gradient / (jnp.sqrt(square) + epsilon), square
