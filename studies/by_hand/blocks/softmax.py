"""Numerically stable softmax and cross entropy."""

import jax
import jax.numpy as jnp

from studies.by_hand.blocks.shapes import check_same_shape, require


def softmax(logits: jax.Array) -> jax.Array:
    """Returns p_i = e^(z_i) / sum over j of e^(z_j) for each row: [B, K] -> [B, K].

    The maximum of each row is subtracted first, so e^z is finite.
    """
    _check_rows(logits)
    powers = jnp.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def softmax_backward(gradient: jax.Array, probabilities: jax.Array) -> jax.Array:
    """Returns the gradient with respect to the logits, p_i (g_i - sum over j of p_j g_j), [B, K]."""
    check_same_shape(gradient, probabilities.shape, "the softmax's output")
    mean = (probabilities * gradient).sum(axis=1, keepdims=True)
    return probabilities * (gradient - mean)


def log_softmax(logits: jax.Array) -> jax.Array:
    """Returns the logarithm of softmax, [B, K], also if a probability underflows."""
    _check_rows(logits)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - jnp.log(jnp.exp(shifted).sum(axis=1, keepdims=True))


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the batch mean of -sum over k of y_k log p_k, for logits and targets [B, K].

    Targets are probabilities (one-hot or smoothed). Raises ConfigError for other shapes.
    """
    _check_targets(logits, targets)
    return -(targets * log_softmax(logits)).sum(axis=1).mean()


def cross_entropy_backward(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the gradient with respect to the logits, (p - y) / B, [B, K]."""
    _check_targets(logits, targets)
    return (softmax(logits) - targets) / logits.shape[0]


def _check_rows(logits: jax.Array) -> None:
    require(logits.ndim == 2, f"logits {list(logits.shape)} must be [B, K]")


def _check_targets(logits: jax.Array, targets: jax.Array) -> None:
    require(
        logits.shape == targets.shape and logits.ndim == 2,
        f"logits {list(logits.shape)} and targets {list(targets.shape)} must both be [B, K]: "
        "a probability per class, not a label",
    )
