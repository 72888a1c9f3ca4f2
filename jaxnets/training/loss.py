"""Losses as sums and what they are divided by, so that they add up over batches and devices."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import config_dict


class LossTerms(NamedTuple):
    """A batch's loss is `total / normalizer`; several batches' is the ratio of the sums."""

    total: jax.Array  # shape=()
    normalizer: jax.Array  # shape=()


Loss = Callable[[jax.Array, jax.Array, jax.Array], LossTerms]
"""(outputs [B, K], targets [B, K], weight [B]) -> LossTerms."""


def cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    *,
    label_smoothing: float = 0.0,
    class_weights: tuple[float, ...] = (),
) -> LossTerms:
    """Softmax cross entropy of logits [B, K] against class shares [B, K], as torch.nn.CrossEntropyLoss.

    Smoothing mixes the targets with the uniform distribution. Class weights multiply each class's term;
    the normaliser is then the sum of the (unsmoothed) targets' weights, as PyTorch divides hard labels.
    """
    by_class = jnp.asarray(class_weights or (1.0,) * logits.shape[-1], logits.dtype)
    smoothed = optax.smooth_labels(targets, label_smoothing) if label_smoothing else targets
    each = -jnp.sum(by_class * smoothed * jax.nn.log_softmax(logits), axis=-1)
    share = jnp.sum(by_class * targets, axis=-1)
    return LossTerms(jnp.sum(each * weight), jnp.sum(share * weight))


def mean_squared_error(outputs: jax.Array, targets: jax.Array, weight: jax.Array) -> LossTerms:
    """Squared differences of [B, K], averaged over all values, as torch.nn.MSELoss."""
    each = jnp.sum(optax.losses.squared_error(outputs, targets), axis=-1)
    return LossTerms(jnp.sum(each * weight), jnp.sum(weight) * outputs.shape[-1])


def make_loss(config: config_dict.ConfigDict) -> Loss:
    """The loss that `config.train` describes."""
    if config.loss == "mean_squared_error":
        return mean_squared_error

    def loss(logits: jax.Array, targets: jax.Array, weight: jax.Array) -> LossTerms:
        return cross_entropy(
            logits,
            targets,
            weight,
            label_smoothing=config.label_smoothing,
            class_weights=tuple(config.class_weights),
        )

    return loss
