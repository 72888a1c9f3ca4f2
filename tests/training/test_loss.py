"""Losses by hand; against PyTorch in test_loss_parity.py."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.training.loss import cross_entropy, mean_squared_error


@pytest.mark.usefixtures("x64")
def test_cross_entropy_by_hand() -> None:
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    targets = jnp.eye(3)[jnp.array([0, 2])]
    total, normalizer = cross_entropy(logits, targets, jnp.ones(2))
    np.testing.assert_allclose(total, -np.log(0.5) - np.log(0.8))
    assert normalizer == 2


@pytest.mark.usefixtures("x64")
def test_smoothing_and_class_weights_by_hand() -> None:
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    total, normalizer = cross_entropy(
        logits,
        jnp.array([[1.0, 0, 0]]),
        jnp.ones(1),
        label_smoothing=0.3,
        class_weights=(2.0, 1, 1),
    )
    np.testing.assert_allclose(total, -(2 * 0.8 * np.log(0.5) + 2 * 0.1 * np.log(0.25)))
    assert normalizer == 2


def test_mean_squared_error_by_hand() -> None:
    total, normalizer = mean_squared_error(
        jnp.array([[1.0, 2.0], [5.0, 5.0]]),
        jnp.array([[0.0, 4.0], [0.0, 0.0]]),
        jnp.array([1.0, 0]),
    )
    assert (float(total), float(normalizer)) == (5.0, 2.0)
