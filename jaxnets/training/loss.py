"""Losses, as a sum and the weight sum to divide by, which add up over batches and devices."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import config_dict

from jaxnets.models.base import ModelOutput

BALANCED = "balanced"


class LossTerms(NamedTuple):
    """Scalars; the mean loss is `total / weight_sum`, and `weight_sum` is None for a loss that is a sum."""

    total: jax.Array
    weight_sum: jax.Array | None


Loss = Callable[[Any, jax.Array, jax.Array], LossTerms]
"""(outputs [B, K] or ModelOutput, targets [B, K], weight [B]) -> LossTerms."""


def cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    *,
    label_smoothing: float = 0.0,
    class_weights: tuple[float, ...] = (),
) -> LossTerms:
    """Softmax cross entropy of logits [B, K] and class probabilities [B, K], as torch.nn.CrossEntropyLoss.

    Label smoothing mixes the targets with the uniform distribution. Class weights multiply each class's
    term; the loss is then divided by the weights of the unsmoothed targets, as PyTorch does for hard labels.
    """
    class_weight = jnp.asarray(class_weights or (1.0,) * logits.shape[-1], logits.dtype)[None]
    smoothed = optax.smooth_labels(targets, label_smoothing) if label_smoothing else targets
    losses = -jnp.sum(class_weight * smoothed * jax.nn.log_softmax(logits), axis=-1)
    weights = jnp.sum(class_weight * targets, axis=-1)
    return LossTerms(jnp.sum(losses * weight), jnp.sum(weights * weight))


def mean_squared_error(outputs: jax.Array, targets: jax.Array, weight: jax.Array) -> LossTerms:
    """Mean of the squared differences of [B, K] over all values, as torch.nn.MSELoss."""
    total, _ = sum_squared_error(outputs, targets, weight)
    return LossTerms(total, jnp.sum(weight) * outputs.shape[-1])


def sum_squared_error(
    outputs: jax.Array, targets: jax.Array, weight: jax.Array, *, factor: float = 1.0
) -> LossTerms:
    """`factor` times the sum of squared differences of [B, K], as torch.nn.MSELoss(reduction="sum") for 1."""
    losses = jnp.sum(optax.losses.squared_error(outputs, targets), axis=-1)
    return LossTerms(factor * jnp.sum(losses * weight), None)


SQUARED_ERRORS: Mapping[str, Loss] = {
    "mean_squared_error": mean_squared_error,
    "sum_squared_error": sum_squared_error,
    "half_squared_error": functools.partial(sum_squared_error, factor=0.5),
}


def balanced_class_weights(counts: np.ndarray) -> tuple[float, ...]:
    """Weights inverse to the class counts int[K], as scikit-learn's class_weight="balanced".

    Their mean over the examples is 1. A class without examples has weight 0.
    """
    weights = counts.sum() / (len(counts) * np.maximum(counts, 1))
    return tuple(np.where(counts > 0, weights, 0.0).tolist())


def make_loss(
    config: config_dict.ConfigDict, auxiliary_weight: float = 0.0, *, class_counts: np.ndarray | None = None
) -> Loss:
    """Makes the loss of a config: of the main output plus, weighted, of each auxiliary head.

    Args:
        config: the section `train`.
        auxiliary_weight: weight of an auxiliary head, unless `config.auxiliary_weight` is set.
        class_counts: int[K], the training examples of each class, which balanced class weights need.

    Returns:
        (outputs, targets [B, K], weight [B]) -> LossTerms.
    """
    head_weight = auxiliary_weight if config.auxiliary_weight is None else config.auxiliary_weight
    class_weights = tuple(config.class_weights)
    if class_weights == (BALANCED,):
        if class_counts is None:
            raise ValueError("balanced class weights need class_counts")
        class_weights = balanced_class_weights(class_counts)
    options = {"label_smoothing": config.label_smoothing, "class_weights": class_weights}
    loss = SQUARED_ERRORS.get(config.loss) or functools.partial(cross_entropy, **options)

    def total(outputs: Any, targets: jax.Array, weight: jax.Array) -> LossTerms:
        if not isinstance(outputs, ModelOutput):
            return loss(outputs, targets, weight)
        main = loss(outputs.main, targets, weight)
        heads = [loss(logits, targets, weight).total for logits in outputs.auxiliary]
        return main._replace(total=main.total + head_weight * sum(heads))

    return total
