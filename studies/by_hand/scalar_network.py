"""A multilayer perceptron of scalar values: Neuron, Layer, MLP."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from jaxnets.errors import ConfigError
from studies.by_hand import mlp
from studies.by_hand.scalar import Value
from studies.by_hand.shapes import check, check_samples

ACTIVATIONS: Mapping[str, Callable[[Value], Value]] = MappingProxyType(
    {
        "tanh": Value.tanh,
        "relu": Value.relu,
        "leaky_relu": Value.leaky_relu,
        "sigmoid": Value.sigmoid,
        "identity": lambda value: value,
    }
)
"""Activations by name, as in configs."""

Inputs = Sequence[Value] | Sequence[float]


class Neuron:
    """f(b + w · x), added in the order of the weights."""

    def __init__(self, weights: Iterable[float], bias: float, activation: str) -> None:
        if activation not in ACTIVATIONS:
            raise ConfigError(f"unknown activation {activation!r}; activations: {', '.join(ACTIVATIONS)}")
        self.weights = [Value(weight) for weight in weights]
        self.bias = Value(bias)
        self.activation = ACTIVATIONS[activation]

    def pre_activation(self, inputs: Inputs) -> Value:
        """Returns w · x + b; raises ConfigError for a wrong number of inputs."""
        if len(inputs) != len(self.weights):
            raise ConfigError(f"{len(inputs)} inputs, but the neuron has {len(self.weights)} weights")
        z = self.bias
        for weight, x in zip(self.weights, inputs, strict=True):
            z = z + weight * x
        return z

    def __call__(self, inputs: Inputs) -> Value:
        return self.activation(self.pre_activation(inputs))

    def parameters(self) -> list[Value]:
        """Returns the weights, then the bias."""
        return [*self.weights, self.bias]


class Layer:
    """A fully connected layer: weight [neurons, inputs], bias [neurons]."""

    def __init__(self, weight: ArrayLike, bias: ArrayLike, activation: str) -> None:
        self.neurons = [
            Neuron(row, b, activation) for row, b in zip(np.asarray(weight), np.asarray(bias), strict=True)
        ]

    def __call__(self, inputs: Inputs) -> list[Value]:
        return [neuron(inputs) for neuron in self.neurons]

    def parameters(self) -> list[Value]:
        """Returns the parameters of all neurons."""
        return [value for neuron in self.neurons for value in neuron.parameters()]


class MLP:
    """A network of (weight, bias) by layer and the names of the activations.

    Raises ConfigError for mismatched shapes and for an unknown activation.
    """

    def __init__(self, parameters: Sequence[tuple[ArrayLike, ArrayLike]], activations: Sequence[str]) -> None:
        check(parameters, activations)
        self.layers = [
            Layer(weight, bias, activation)
            for (weight, bias), activation in zip(parameters, activations, strict=True)
        ]

    def __call__(self, inputs: Inputs) -> list[Value]:
        return self.states(inputs)[-1][1]

    def states(self, inputs: Inputs) -> list[tuple[list[Value], list[Value]]]:
        """Returns the pre-activations z and activations a of every layer, for one sample."""
        states: list[tuple[list[Value], list[Value]]] = []
        for layer in self.layers:
            z = [neuron.pre_activation(inputs) for neuron in layer.neurons]
            a = [neuron.activation(value) for neuron, value in zip(layer.neurons, z, strict=True)]
            states.append((z, a))
            inputs = a
        return states

    def parameters(self) -> list[Value]:
        """Returns the parameters of all layers."""
        return [value for layer in self.layers for value in layer.parameters()]


def gradient_step(
    parameters: Sequence[tuple[ArrayLike, ArrayLike]],
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    activations: Sequence[str],
    loss: str,
    learning_rate: float,
) -> mlp.Trace:
    """Like `mlp.gradient_step`, computed by the autodiff engine in doubles."""
    network = MLP(parameters, activations)
    check_samples(parameters, inputs, labels)
    states = [network.states(row) for row in np.asarray(inputs, float).tolist()]
    errors = [
        output - y
        for row, targets in zip(states, np.asarray(labels, float), strict=True)
        for output, y in zip(row[-1][1], targets, strict=True)
    ]
    total = mlp.scale(loss, len(errors)) * sum(error**2 for error in errors)
    assert isinstance(total, Value)
    total.backward()
    gradients = tuple(_layer_values(layer, "gradient") for layer in network.layers)
    for value in network.parameters():
        value.data -= learning_rate * value.gradient
    by_layer = range(len(network.layers))
    return mlp.Trace(
        z=tuple(_table([row[number][0] for row in states], "data") for number in by_layer),
        a=tuple(_table([row[number][1] for row in states], "data") for number in by_layer),
        loss=np.asarray(total.data),
        delta=tuple(_table([row[number][0] for row in states], "gradient") for number in by_layer),
        gradients=gradients,
        updated=tuple(_layer_values(layer, "data") for layer in network.layers),
    )


def _layer_values(layer: Layer, attribute: str) -> mlp.Layer:
    weight = _table([neuron.weights for neuron in layer.neurons], attribute).T
    return mlp.Layer(weight, np.array([getattr(neuron.bias, attribute) for neuron in layer.neurons]))


def _table(rows: Sequence[Sequence[Value]], attribute: str) -> np.ndarray:
    """Returns the data or gradient of the values, [len(row), rows]."""
    return np.array([[getattr(value, attribute) for value in row] for row in rows]).T
