"""Report D's Keras example compared with jax.grad and optax, and trained on digits."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from jaxnets.errors import ConfigError
from studies.by_hand.blocks import dense_classifier as classifier
from studies.by_hand.blocks.adam import init


@pytest.mark.usefixtures("x64")
def test_loss_gradients_and_step_match_jax_and_optax() -> None:
    parameters = classifier.initialize(jax.random.key(0), 6, 3, dtype="float64")
    assert [layer.kernel.shape for layer in parameters] == [(6, 64), (64, 64), (64, 3)]
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=(32, 6)))
    targets = jax.nn.one_hot(generator.integers(0, 3, 32), 3, dtype=x.dtype)
    rule = optax.adam(0.001)

    def loss(parameters):
        y = x
        for number, layer in enumerate(parameters):
            y = (y if number == 0 else jax.nn.relu(y)) @ layer.kernel + layer.bias
        return optax.softmax_cross_entropy(y, targets).mean()

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def compute(parameters):
        gradients = classifier.backward(parameters, classifier.forward(parameters, x), targets)
        updated, _, value = classifier.train_step(parameters, init(parameters), x, targets)
        their_value, their_gradients = jax.value_and_grad(loss)(parameters)
        change, _ = rule.update(their_gradients, rule.init(parameters))
        theirs = (their_value, their_gradients, optax.apply_updates(parameters, change))
        return (value, gradients, updated), theirs

    chex.assert_trees_all_close(*compute(parameters), rtol=1e-12, atol=1e-14)


def test_example_settings_learn_digits() -> None:
    data = load_digits()
    x, labels = np.float32(data.data / 16), data.target
    targets, training = np.eye(10, dtype="float32")[labels], slice(0, 480)  # 15 batches of 32
    parameters = jax.jit(classifier.initialize, static_argnums=(1, 2))(jax.random.key(0), 64, 10)
    parameters, losses = classifier.fit(jax.random.key(1), parameters, x[training], targets[training])
    assert len(losses) == 10  # epochs of the example
    assert losses == sorted(losses, reverse=True)
    logits = jax.jit(classifier.forward)(parameters, x[480:]).outputs[-1]
    predicted = np.asarray(logits).argmax(axis=1)
    assert (predicted == labels[480:]).mean() > 0.8


def test_different_numbers_of_examples_and_targets_raise() -> None:
    with pytest.raises(ConfigError, match="3 examples and 2 targets"):
        classifier.fit(jax.random.key(0), [], jnp.ones((3, 4)), jnp.ones((2, 2)))
