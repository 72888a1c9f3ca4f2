"""Gradient descent, momentum, AdaGrad and RMSProp compared with optax."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnets.errors import ConfigError
from studies.by_hand.blocks import descent

RULES = {
    "sgd": (lambda *state: (descent.sgd(*state[:2], learning_rate=0.1), 0), optax.sgd(0.1)),
    "momentum": (lambda *state: descent.momentum(*state, learning_rate=0.1), optax.sgd(0.1, momentum=0.9)),
    "adagrad": (
        lambda *state: descent.adagrad(*state, learning_rate=0.1, epsilon=0.0),
        optax.adagrad(0.1, initial_accumulator_value=0.0, eps=0.0),
    ),
    "rmsprop": (
        lambda *state: descent.rmsprop(*state, learning_rate=0.1, decay=0.9, epsilon=1e-3),
        optax.rmsprop(0.1, decay=0.9, eps=1e-3, eps_in_sqrt=False),
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", RULES)
def test_ten_steps_match_optax(name: str) -> None:
    by_hand, rule = RULES[name]
    gradients = np.random.default_rng(0).normal(size=(10, 3))
    ours = memory = theirs = jnp.zeros(3)
    state = rule.init(theirs)
    for gradient in gradients:
        ours, memory = by_hand(ours, gradient, memory)
        change, state = rule.update(gradient, state)
        theirs = optax.apply_updates(theirs, change)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_mismatched_gradient_raises() -> None:
    given = (jnp.ones(3), jnp.ones((3, 1)), jnp.zeros(3))
    for rule in (descent.momentum, descent.adagrad, descent.rmsprop):
        with pytest.raises(ConfigError, match=r"\[3, 1\], but its parameter has shape \[3\]"):
            rule(*given, learning_rate=0.1)
    with pytest.raises(ConfigError, match=r"\[3, 1\], but its parameter has shape \[3\]"):
        descent.sgd(*given[:2], learning_rate=0.1)
