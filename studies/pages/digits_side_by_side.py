"""Trains the small convolutional network on digits by hand and with JAX, on the same batches and masks."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.linen.initializers import zeros
from sklearn.datasets import load_digits

from jaxnets import ops
from jaxnets.training import loss
from studies.by_hand.blocks import adam, dropout, network

RATE, LEARNING_RATE, BATCH_SIZE = 0.2, 0.03, 32
TRAINING_IMAGES = 1_297  # of 1,797; the last 500 are for testing
QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0}
FLAT = 64  # values before the dense layer: 2 x 2 pixels of 16 channels


class Batch(NamedTuple):
    """Images [B, 8, 8, 1] in [0, 1], one-hot digits [B, 10], and the dropout mask [B, 64]."""

    x: np.ndarray
    targets: np.ndarray
    mask: np.ndarray


class Equivalent(nn.Module):
    """The same network as a Flax module."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        init = ops.Initialization(zeros, lambda fan_in: zeros)
        same = {"initialization": init, "padding": "same", "dtype": x.dtype}
        x = nn.relu(ops.Conv(8, (3, 3), name="conv1", **same)(x))
        x = ops.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(ops.Conv(16, (3, 3), name="conv2", **same)(x))
        x = ops.average_pool(x, (2, 2), strides=(2, 2)).reshape(len(x), -1)
        x = jnp.where(mask, x / (1 - self.rate), 0)
        return ops.Dense(10, init, name="dense", dtype=x.dtype)(x)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns scikit-learn's 1,797 digits: images [N, 8, 8, 1] in [0, 1], labels [N]."""
    data = load_digits()
    return data.images[..., None] / 16, data.target


@functools.cache  # both implementations use them
def batches(steps: int) -> tuple[Batch, ...]:
    """Returns batches of training images from a fixed seed."""
    images, labels = digits()
    generator = np.random.default_rng(0)
    draw = jax.jit(jax.vmap(lambda key: dropout.draw_mask(key, RATE, (BATCH_SIZE, FLAT))))
    taken = []
    for mask in np.asarray(draw(jax.random.split(jax.random.key(1), steps))):
        chosen = generator.integers(0, TRAINING_IMAGES, BATCH_SIZE)
        taken.append(Batch(images[chosen], np.eye(10)[labels[chosen]], mask))
    return tuple(taken)


def start() -> network.Parameters:
    """Returns the initial parameters of both, in float64."""
    draw = functools.partial(network.initialize, image=(8, 8, 1), classes=10, dtype="float64")
    return jax.jit(draw, compiler_options=QUICK_TO_COMPILE)(jax.random.key(0))


def by_hand(steps: int) -> Iterator[tuple[network.Parameters, float]]:
    """Yields the parameters after each step, and the loss before it."""
    rule = functools.partial(network.train_step, rate=RATE, learning_rate=LEARNING_RATE)
    step = jax.jit(rule, compiler_options=QUICK_TO_COMPILE)
    parameters = start()
    state = adam.init(parameters)
    for batch in batches(steps):
        parameters, state, value = step(parameters, state, *batch)
        yield parameters, float(value)


def by_jax(steps: int) -> Iterator[tuple[Any, float]]:
    """Yields the same with `jax.grad` of `Equivalent` and optax.adam."""
    model, rule = Equivalent(RATE), optax.adam(LEARNING_RATE)

    @functools.partial(jax.jit, compiler_options=QUICK_TO_COMPILE)
    def step(parameters: Any, state: Any, batch: Batch) -> Any:
        def mean_loss(parameters: Any) -> jax.Array:
            logits = model.apply({"params": parameters}, batch.x, batch.mask)
            total, count = loss.cross_entropy(logits, batch.targets, jnp.ones(len(logits)))
            return total / count

        value, gradients = jax.value_and_grad(mean_loss)(parameters)
        change, state = rule.update(gradients, state)
        return optax.apply_updates(parameters, change), state, value

    parameters = {name: layer._asdict() for name, layer in start().items()}
    state = rule.init(parameters)
    for batch in batches(steps):
        parameters, state, value = step(parameters, state, batch)
        yield parameters, float(value)


class Step(NamedTuple):
    """The losses of a step, and the largest difference of any parameter after it."""

    loss_by_hand: float
    loss_by_jax: float
    difference: float


def both(steps: int) -> tuple[list[Step], network.Parameters]:
    """Returns every step of both, and the final parameters by hand."""
    taken, mine = [], start()
    for (mine, my_loss), (theirs, their_loss) in zip(by_hand(steps), by_jax(steps), strict=True):
        difference = max(
            float(np.abs(np.asarray(array) - np.asarray(theirs[layer][name])).max())
            for layer, arrays in mine.items()
            for name, array in arrays._asdict().items()
        )
        taken.append(Step(my_loss, their_loss, difference))
    return taken, mine
