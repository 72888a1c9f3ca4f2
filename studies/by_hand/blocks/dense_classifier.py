"""Report D's Keras example by hand: two dense layers of 64 with ReLU, softmax, cross entropy, Adam."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxnets.runtime import xla
from studies.by_hand.activations import activation
from studies.by_hand.blocks.adam import LEARNING_RATE, AdamState, adam, init
from studies.by_hand.blocks.dense import Layer, dense, dense_backward
from studies.by_hand.blocks.shapes import require
from studies.by_hand.blocks.softmax import cross_entropy, cross_entropy_backward

HIDDEN, BATCH_SIZE, EPOCHS = (64, 64), 32, 10
"""The settings of the example."""

Parameters = list[Layer]
"""The layers from input to output."""


class Trace(NamedTuple):
    """Each layer's input and its output before the activation; the last output is the logits."""

    inputs: list[jax.Array]
    outputs: list[jax.Array]


def initialize(
    key: jax.Array, inputs: int, classes: int, *, hidden: tuple[int, ...] = HIDDEN, dtype: str = "float32"
) -> Parameters:
    """Returns Glorot-uniform kernels and zero biases, Keras's default (Glorot and Bengio 2010)."""
    sizes = (inputs, *hidden, classes)
    keys = jax.random.split(key, len(sizes) - 1)
    parameters = []
    for layer_key, n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=True):
        bound = (6 / (n_in + n_out)) ** 0.5
        kernel = jax.random.uniform(layer_key, (n_in, n_out), dtype, -bound, bound)
        parameters.append(Layer(kernel, jnp.zeros(n_out, dtype)))
    return parameters


def forward(parameters: Parameters, x: jax.Array) -> Trace:
    """Computes all layers for inputs [B, n]; `outputs[-1]` are the logits [B, K]."""
    inputs, outputs = [x], []
    for layer in parameters:
        outputs.append(dense(inputs[-1], *layer))
        inputs.append(activation("relu").value(outputs[-1]))
    return Trace(inputs[:-1], outputs)


def backward(parameters: Parameters, trace: Trace, targets: jax.Array) -> Parameters:
    """Returns the gradient of the mean cross entropy with respect to every parameter."""
    gradients: Parameters = []
    grad_output = cross_entropy_backward(trace.outputs[-1], targets)
    for number in reversed(range(len(parameters))):
        kernel = parameters[number].kernel
        grad_input, *grad_layer = dense_backward(grad_output, trace.inputs[number], kernel)
        gradients.insert(0, Layer(*grad_layer))
        if number:
            grad_output = grad_input * activation("relu").derivative(trace.outputs[number - 1])
    return gradients


def train_step(
    parameters: Parameters,
    state: AdamState,
    x: jax.Array,
    targets: jax.Array,
    *,
    learning_rate: float = LEARNING_RATE,
) -> tuple[Parameters, AdamState, jax.Array]:
    """Takes one step of Adam; returns the parameters, the state and the loss before the step."""
    trace = forward(parameters, x)
    gradients = backward(parameters, trace, targets)
    loss = cross_entropy(trace.outputs[-1], targets)
    parameters, state = adam(parameters, gradients, state, learning_rate=learning_rate)
    return parameters, state, loss


def fit(
    key: jax.Array,
    parameters: Parameters,
    x: ArrayLike,
    targets: ArrayLike,
    *,
    epochs: int = EPOCHS,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
) -> tuple[Parameters, list[float]]:
    """Trains on x [N, n] and targets [N, K], shuffled every epoch; returns parameters and losses by epoch."""
    step = xla.jit(functools.partial(train_step, learning_rate=learning_rate))
    x, targets = np.asarray(x), np.asarray(targets)  # slicing jax arrays would compile
    require(len(x) == len(targets), f"{len(x)} examples and {len(targets)} targets")
    state, losses = init(parameters), []
    for epoch_key in jax.random.split(key, epochs):
        order, total = np.asarray(jax.random.permutation(epoch_key, len(x))), 0.0
        for offset in range(0, len(x), batch_size):
            batch = order[offset : offset + batch_size]
            parameters, state, loss = step(parameters, state, x[batch], targets[batch])
            total += float(loss) * len(batch)
        losses.append(total / len(x))
    return parameters, losses
