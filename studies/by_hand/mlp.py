"""A multilayer perceptron with an explicit backward pass, without automatic differentiation.

The rows of X are samples, a_0 = Xᵀ, and all layers are [neurons, samples]:

    z_l = W_l a_(l-1) + b_l             a_l = f_l(z_l)
    δ_L = ∂loss/∂a_L ⊙ f_L'(z_L)        δ_l = (W_(l+1)ᵀ δ_(l+1)) ⊙ f_l'(z_l)
    ∂loss/∂W_l = δ_l a_(l-1)ᵀ           ∂loss/∂b_l = δ_l summed over the samples
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxnets.errors import ConfigError
from studies.by_hand.activations import activation
from studies.by_hand.shapes import check, check_samples

Array = jax.Array | np.ndarray


class Layer(NamedTuple):
    """The parameters or gradients of a layer: weight [neurons, inputs], bias [neurons]."""

    weight: Array
    bias: Array


Parameters = tuple[Layer, ...]

SQUARED_ERRORS: Mapping[str, Callable[[int], float]] = MappingProxyType(
    {
        "sum_squared_error": lambda values: 1.0,
        "half_squared_error": lambda values: 0.5,
        "mean_squared_error": lambda values: 1 / values,
    }
)
"""Losses by name: the factor of the sum of squared errors, given their number."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trace:
    """All values of one step, by layer; z, a and delta are [neurons, samples]."""

    z: tuple[Array, ...]  # pre-activations
    a: tuple[Array, ...]  # activations; the last is the prediction
    loss: Array  # shape=()
    delta: tuple[Array, ...]  # ∂loss/∂z
    gradients: Parameters
    updated: Parameters  # parameters - learning_rate · gradients


def gradient_step(
    parameters: Sequence[tuple[ArrayLike, ArrayLike]],
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    activations: Sequence[str],
    loss: str,
    learning_rate: float | jax.Array,
) -> Trace:
    """Takes one step of gradient descent on inputs [samples, inputs] and labels [samples, outputs].

    `parameters` are (weight [neurons, inputs], bias [neurons]) by layer; `activations` and `loss` are names
    in ACTIVATIONS and SQUARED_ERRORS, static under jit. Raises ConfigError for mismatched shapes and unknown
    names.
    """
    check(parameters, activations)
    check_samples(parameters, inputs, labels)
    columns = tuple(Layer(jnp.asarray(weight), jnp.asarray(bias)[:, None]) for weight, bias in parameters)
    trace = propagate(columns, inputs, labels, activations, loss, learning_rate)
    return with_biases(trace, lambda column: column[:, 0])


def propagate(
    parameters: Parameters,
    inputs: ArrayLike,
    labels: ArrayLike,
    activations: Sequence[str],
    loss: str,
    learning_rate: float | jax.Array,
) -> Trace:
    """Takes one step with biases that broadcast to [neurons, samples], usually columns [neurons, 1].

    The gradient of a bias is delta summed over the axes along which the bias was broadcast.
    """
    functions = [activation(name) for name in activations]
    x, y = jnp.asarray(inputs).T, jnp.asarray(labels).T
    factor = scale(loss, y.size)
    z, a = [], []
    for layer, function in zip(parameters, functions, strict=True):
        z.append(_product(layer.weight, a[-1] if a else x) + layer.bias)
        a.append(function.value(z[-1]))

    error = a[-1] - y
    delta = [2 * factor * error * functions[-1].derivative(z[-1])]
    for number in reversed(range(len(parameters) - 1)):
        grad_a = _product(parameters[number + 1].weight.T, delta[0])
        delta.insert(0, grad_a * functions[number].derivative(z[number]))

    gradients = tuple(
        Layer(_product(d, before.T), _sum_to_shape(layer.bias.shape, d))
        for layer, d, before in zip(parameters, delta, [x, *a[:-1]], strict=True)
    )
    updated = tuple(
        Layer(*(p - learning_rate * g for p, g in zip(layer, gradient, strict=True)))
        for layer, gradient in zip(parameters, gradients, strict=True)
    )
    return Trace(tuple(z), tuple(a), factor * jnp.sum(error**2), tuple(delta), gradients, updated)


def with_biases(trace: Trace, change: Callable[[Any], Any]) -> Trace:
    """Returns the trace with `change` applied to all biases and their gradients."""

    def changed(layers: Parameters) -> Parameters:
        return tuple(Layer(layer.weight, change(layer.bias)) for layer in layers)

    return dataclasses.replace(trace, gradients=changed(trace.gradients), updated=changed(trace.updated))


def _product(left: Array, right: Array) -> jax.Array:
    return jnp.matmul(left, right, precision="highest")  # accelerators would round float32 to 10 bits


def _sum_to_shape(shape: tuple[int, ...], delta: jax.Array) -> jax.Array:
    axes = tuple(axis for axis, size in enumerate(shape) if size != delta.shape[axis])
    return jnp.sum(delta, axis=axes, keepdims=True)


def scale(loss: str, values: int) -> float:
    """Returns the factor of a sum of `values` squared errors; raises ConfigError for an unknown loss."""
    if loss not in SQUARED_ERRORS:
        raise ConfigError(f"unknown loss {loss!r}; losses: {', '.join(SQUARED_ERRORS)}")
    return SQUARED_ERRORS[loss](values)
