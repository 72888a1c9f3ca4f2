"""Activations and their derivatives, with PyTorch's values at kinks and NaN."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from jaxnets.errors import ConfigError

NEGATIVE_SLOPE = 0.01
"""The negative slope of leaky ReLU, as in torch.nn.LeakyReLU."""

Elementwise = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Activation:
    """An elementwise function of the pre-activation z, and its derivative."""

    name: str
    value: Elementwise
    derivative: Elementwise


def _tanh_derivative(z: jax.Array) -> jax.Array:
    return 1 - jnp.tanh(z) ** 2


def _sigmoid(z: jax.Array) -> jax.Array:
    return 1 / (1 + jnp.exp(-z))


def _sigmoid_derivative(z: jax.Array) -> jax.Array:
    return _sigmoid(z) * _sigmoid(-z)  # 1 - sigmoid(z) would lose precision for large z


def _relu(z: jax.Array) -> jax.Array:
    return jnp.where(z <= 0, jnp.zeros_like(z), z)  # propagates NaN


def _relu_derivative(z: jax.Array) -> jax.Array:
    return jnp.where(z <= 0, jnp.zeros_like(z), jnp.ones_like(z))


def _leaky_relu(z: jax.Array) -> jax.Array:
    return jnp.where(z > 0, z, NEGATIVE_SLOPE * z)


def _leaky_relu_derivative(z: jax.Array) -> jax.Array:
    return jnp.where(z > 0, jnp.ones_like(z), jnp.full_like(z, NEGATIVE_SLOPE))


def _identity(z: jax.Array) -> jax.Array:
    return z


def _step(z: jax.Array) -> jax.Array:
    return jnp.where(z >= 0, jnp.ones_like(z), jnp.zeros_like(z))


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        activation.name: activation
        for activation in (
            Activation("tanh", jnp.tanh, _tanh_derivative),
            Activation("relu", _relu, _relu_derivative),  # 0 at 0
            Activation("leaky_relu", _leaky_relu, _leaky_relu_derivative),  # the negative slope at 0
            Activation("sigmoid", _sigmoid, _sigmoid_derivative),
            Activation("identity", _identity, jnp.ones_like),
            Activation("step", _step, jnp.zeros_like),  # 1 at 0; its gradient is 0 everywhere
        )
    }
)
"""Activations by name, as in configs."""


def activation(name: str) -> Activation:
    """Returns an activation by name; raises ConfigError for an unknown one."""
    if name not in ACTIVATIONS:
        raise ConfigError(f"unknown activation {name!r}; activations: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
