"""A small convolutional network, its backward pass and its training step, block by block.

convolution, ReLU, max pooling, convolution, ReLU, average pooling, flatten, dropout, dense, softmax.
"""

import math
from typing import NamedTuple

import jax

from studies.by_hand.activations import activation
from studies.by_hand.blocks.adam import LEARNING_RATE, AdamState, adam
from studies.by_hand.blocks.convolution import convolution, convolution_backward
from studies.by_hand.blocks.dense import Layer, dense, dense_backward, flatten, flatten_backward
from studies.by_hand.blocks.dropout import dropout, dropout_backward
from studies.by_hand.blocks.pooling import average_pool, average_pool_backward, max_pool, max_pool_backward
from studies.by_hand.blocks.shapes import require
from studies.by_hand.blocks.softmax import cross_entropy, cross_entropy_backward

Parameters = dict[str, Layer]
"""Layers by name: conv1, conv2, dense."""

SAME = ((1, 1), (1, 1))  # preserves the size with 3x3 kernels
POOL = (2, 2)


class Trace(NamedTuple):
    """The intermediate values of a forward pass, for the backward pass."""

    x: jax.Array  # [B, H, W, C]
    conv1: jax.Array  # [B, H, W, C1]
    relu1: jax.Array
    pool1: jax.Array  # [B, H/2, W/2, C1]
    conv2: jax.Array  # [B, H/2, W/2, C2]
    relu2: jax.Array
    pool2: jax.Array  # [B, H/4, W/4, C2]
    dropped: jax.Array  # [B, n]
    logits: jax.Array  # [B, K]


def initialize(
    key: jax.Array,
    image: tuple[int, int, int],
    classes: int,
    *,
    widths: tuple[int, int] = (8, 16),
    dtype: str = "float32",
) -> Parameters:
    """Returns parameters for images [H, W, C], uniform on ±1/sqrt(fan_in), PyTorch's default.

    Raises ConfigError if H or W is not divisible by 4.
    """
    height, width, channels = image
    require(
        height % 4 == 0 and width % 4 == 0,
        f"images {list(image)} are pooled twice: height and width must be divisible by 4",
    )
    shapes = {
        "conv1": (3, 3, channels, widths[0]),
        "conv2": (3, 3, widths[0], widths[1]),
        "dense": (height // 4 * (width // 4) * widths[1], classes),
    }
    parameters = {}
    for (name, shape), layer_key in zip(shapes.items(), jax.random.split(key, 3), strict=True):
        kernel_key, bias_key = jax.random.split(layer_key)
        bound = math.prod(shape[:-1]) ** -0.5
        parameters[name] = Layer(
            jax.random.uniform(kernel_key, shape, dtype, -bound, bound),
            jax.random.uniform(bias_key, shape[-1:], dtype, -bound, bound),
        )
    return parameters


def forward(
    parameters: Parameters, x: jax.Array, mask: jax.Array | None = None, *, rate: float = 0.0
) -> Trace:
    """Computes the logits [B, K] of images [B, H, W, C], and all intermediate values.

    `mask` [B, n] is the dropout mask; None is inference.
    """
    relu = activation("relu").value
    conv1 = convolution(x, *parameters["conv1"], padding=SAME)
    relu1 = relu(conv1)
    pool1 = max_pool(relu1, POOL, strides=POOL)
    conv2 = convolution(pool1, *parameters["conv2"], padding=SAME)
    relu2 = relu(conv2)
    pool2 = average_pool(relu2, POOL, strides=POOL)
    dropped = dropout(flatten(pool2), mask, rate)
    logits = dense(dropped, *parameters["dense"])
    return Trace(x, conv1, relu1, pool1, conv2, relu2, pool2, dropped, logits)


def backward(
    parameters: Parameters,
    trace: Trace,
    targets: jax.Array,
    mask: jax.Array | None = None,
    *,
    rate: float = 0.0,
) -> Parameters:
    """Returns the gradient of the mean cross entropy with respect to every parameter."""
    slope = activation("relu").derivative
    grad_logits = cross_entropy_backward(trace.logits, targets)
    grad_dropped, *grad_dense = dense_backward(grad_logits, trace.dropped, parameters["dense"].kernel)
    grad_flat = dropout_backward(grad_dropped, mask, rate)
    grad_pool2 = flatten_backward(grad_flat, trace.pool2.shape)
    grad_relu2 = average_pool_backward(grad_pool2, trace.relu2, POOL, strides=POOL)
    grad_conv2 = grad_relu2 * slope(trace.conv2)
    grad_pool1, *grad_layer2 = convolution_backward(
        grad_conv2, trace.pool1, parameters["conv2"].kernel, padding=SAME
    )
    grad_relu1 = max_pool_backward(grad_pool1, trace.relu1, POOL, strides=POOL)
    grad_conv1 = grad_relu1 * slope(trace.conv1)
    _, *grad_layer1 = convolution_backward(grad_conv1, trace.x, parameters["conv1"].kernel, padding=SAME)
    return {"conv1": Layer(*grad_layer1), "conv2": Layer(*grad_layer2), "dense": Layer(*grad_dense)}


def train_step(
    parameters: Parameters,
    state: AdamState,
    x: jax.Array,
    targets: jax.Array,
    mask: jax.Array | None = None,
    *,
    rate: float = 0.0,
    learning_rate: float = LEARNING_RATE,
) -> tuple[Parameters, AdamState, jax.Array]:
    """Takes one step of Adam; returns the parameters, the state and the loss before the step."""
    trace = forward(parameters, x, mask, rate=rate)
    loss = cross_entropy(trace.logits, targets)
    gradients = backward(parameters, trace, targets, mask, rate=rate)
    parameters, state = adam(parameters, gradients, state, learning_rate=learning_rate)
    return parameters, state, loss
