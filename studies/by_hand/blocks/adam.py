"""Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from studies.by_hand.blocks.shapes import check_same_tree

Tree = Any
"""An array, or a nest of dictionaries, lists and tuples of arrays."""

LEARNING_RATE, BETA1, BETA2, EPSILON = 0.001, 0.9, 0.999, 1e-8
"""The defaults of the paper, PyTorch and optax; the epsilon of Keras is 1e-7."""


class AdamState(NamedTuple):
    """The number of steps and the two moments of every parameter."""

    step: jax.Array
    mean: Tree
    square: Tree


def init(parameters: Tree) -> AdamState:
    """Returns the initial state."""
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    return AdamState(jnp.zeros((), jnp.int32), zeros, zeros)


def moving_average(average: jax.Array, value: jax.Array, beta: float) -> jax.Array:
    """Returns beta * average + (1 - beta) * value.

    Starting from 0, after t steps it is the sum of (1 - beta) beta^(t - i) value_i over i = 1 to t.
    """
    return beta * average + (1 - beta) * value


def correct_bias(average: jax.Array, beta: float, step: jax.Array) -> jax.Array:
    """Divides by 1 - beta^t, the sum of the weights after t steps."""
    return average / jnp.asarray(1 - beta**step, average.dtype)


def moments(gradients: Tree, state: AdamState, *, beta1: float, beta2: float) -> AdamState:
    """Returns the state after updating both moments."""
    return AdamState(
        state.step + 1,
        jax.tree.map(lambda m, g: moving_average(m, g, beta1), state.mean, gradients),
        jax.tree.map(lambda v, g: moving_average(v, g**2, beta2), state.square, gradients),
    )


def adam(
    parameters: Tree,
    gradients: Tree,
    state: AdamState,
    *,
    learning_rate: float = LEARNING_RATE,
    beta1: float = BETA1,
    beta2: float = BETA2,
    epsilon: float = EPSILON,
) -> tuple[Tree, AdamState]:
    """Takes one step: parameter - learning_rate * mean / (sqrt(square) + epsilon), with corrected moments.

    Like torch.optim.Adam and optax.adam: epsilon is added outside the root. Raises ConfigError if a gradient
    is missing or has another shape than its parameter.
    """
    check_same_tree(gradients, parameters)
    state = moments(gradients, state, beta1=beta1, beta2=beta2)

    def updated(parameter: jax.Array, mean: jax.Array, square: jax.Array) -> jax.Array:
        mean = correct_bias(mean, beta1, state.step)
        square = correct_bias(square, beta2, state.step)
        return parameter - learning_rate * mean / (jnp.sqrt(square) + epsilon)

    return jax.tree.map(updated, parameters, state.mean, state.square), state
