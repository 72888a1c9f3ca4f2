"""Gradient descent, momentum, AdaGrad and RMSProp for one array, as in torch.optim.

Momentum: Polyak 1964. AdaGrad: Duchi et al. 2011. RMSProp: Hinton 2012, lecture 6e of his course.
"""

import jax
import jax.numpy as jnp

from studies.by_hand.blocks.shapes import check_same_shape


def sgd(parameter: jax.Array, gradient: jax.Array, *, learning_rate: float) -> jax.Array:
    """Returns parameter - learning_rate * gradient."""
    check_same_shape(gradient, parameter.shape, "its parameter")
    return parameter - learning_rate * gradient


def momentum(
    parameter: jax.Array, gradient: jax.Array, velocity: jax.Array, *, learning_rate: float, beta: float = 0.9
) -> tuple[jax.Array, jax.Array]:
    """Takes a step along `velocity`, a decaying sum of gradients; returns parameter and velocity."""
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
    """Divides the gradient by the root of `total`, the sum of its squares; returns parameter and total."""
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
    """Divides the gradient by the root of `square`, the moving average of its squares; returns both."""
    check_same_shape(gradient, parameter.shape, "its parameter")
    square = decay * square + (1 - decay) * gradient**2
    return parameter - learning_rate * gradient / (jnp.sqrt(square) + epsilon), square
