"""Softmax and cross entropy compared with JAX, our loss and jax.grad."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxnets.errors import ConfigError
from jaxnets.training import loss
from studies.by_hand.blocks.softmax import (
    cross_entropy,
    cross_entropy_backward,
    log_softmax,
    softmax,
    softmax_backward,
)

LOGITS = arrays.arrays(float, (3, 4), elements=st.floats(-1e4, 1e4))


def _targets(*, smoothed: bool) -> jax.Array:
    hard = jax.nn.one_hot(jnp.array([2, 0, 3]), 4, dtype=jnp.float64)
    return 0.9 * hard + 0.025 if smoothed else hard


@pytest.mark.usefixtures("x64")
class TestInDoublePrecision:
    @settings(max_examples=50, deadline=None)
    @given(LOGITS)
    def test_softmax_matches_jax_for_large_logits(self, logits: np.ndarray) -> None:
        probabilities = softmax(jnp.asarray(logits))
        np.testing.assert_allclose(probabilities, jax.nn.softmax(logits), rtol=1e-12)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-14)
        np.testing.assert_allclose(log_softmax(jnp.asarray(logits)), jax.nn.log_softmax(logits))

    def test_softmax_gradient_matches_jax(self) -> None:
        generator = np.random.default_rng(0)
        logits, gradient = generator.normal(size=(2, 3, 4))
        _, pull = jax.vjp(jax.nn.softmax, logits)
        mine = softmax_backward(gradient, softmax(logits))
        np.testing.assert_allclose(mine, pull(gradient)[0], rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("smoothed", [False, True])
    @pytest.mark.parametrize("scale", [1.0, 1e3])
    def test_cross_entropy_and_gradient_match_our_loss(self, smoothed, scale) -> None:
        logits = jnp.asarray(scale * np.random.default_rng(0).normal(size=(3, 4)))
        targets = _targets(smoothed=smoothed)

        def ours(logits):
            total, count = loss.cross_entropy(logits, targets, jnp.ones(3))
            return total / count

        value, gradient = jax.value_and_grad(ours)(logits)
        np.testing.assert_allclose(cross_entropy(logits, targets), value, rtol=1e-12)
        mine = cross_entropy_backward(logits, targets)
        np.testing.assert_allclose(mine, gradient, rtol=1e-12, atol=1e-15)

    def test_cross_entropy_gradient_is_the_chain_of_log_and_softmax(self) -> None:
        logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
        targets, probabilities = _targets(smoothed=True), softmax(logits)
        grad_probabilities = -targets / probabilities / len(logits)
        np.testing.assert_allclose(
            softmax_backward(grad_probabilities, probabilities),
            cross_entropy_backward(logits, targets),
            rtol=1e-12,
            atol=1e-15,
        )


def test_mismatched_shapes_raise() -> None:
    logits, labels = jnp.ones((3, 4)), jnp.ones(3)
    for function in (cross_entropy, cross_entropy_backward):
        with pytest.raises(ConfigError, match=r"\[3, 4\] and targets \[3\] must both be \[B, K\]"):
            function(logits, labels)
    for function in (softmax, log_softmax):
        with pytest.raises(ConfigError, match=r"logits \[3\] must be \[B, K\]"):
            function(labels)
    with pytest.raises(ConfigError, match=r"\[3\], but the softmax's output has shape \[3, 4\]"):
        softmax_backward(labels, logits)
