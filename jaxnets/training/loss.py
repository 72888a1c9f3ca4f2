"""Losses, as a sum and the weight sum to divide by, which add up over batches and devices."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import config_dict

from jaxnets.models.base import ModelOutput


class LossTerms(NamedTuple):
    """The mean loss is `total / weight_sum`; `weight_sum` is None for a loss that is a sum."""

    total: jax.Array  # shape=()
    weight_sum: jax.Array | None  # shape=()

    def metrics(self) -> dict[str, jax.Array]:
        """Returns "loss" and, unless it is None, "weight_sum"."""
        weight_sum = {} if self.weight_sum is None else {"weight_sum": self.weight_sum}
        return {"loss": self.total, **weight_sum}


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
    class_weight = jnp.asarray(class_weights or (1.0,) * logits.shape[-1], logits.dtype)
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
    """`factor` times the sum of squared differences of [B, K], as torch.nn.MSELoss(reduction="sum") for 1.

    It is not divided by the number of examples: twice the batch size doubles the gradient.
    """
    losses = jnp.sum(optax.losses.squared_error(outputs, targets), axis=-1)
    return LossTerms(factor * jnp.sum(losses * weight), None)


SQUARED_ERRORS: Mapping[str, Loss] = MappingProxyType(
    {
        "mean_squared_error": mean_squared_error,
        "sum_squared_error": sum_squared_error,
        "half_squared_error": functools.partial(sum_squared_error, factor=0.5),
    }
)


def with_auxiliary(loss: Loss, auxiliary_weight: float) -> Loss:
    """Returns `loss` of the main output plus `auxiliary_weight` times `loss` of each auxiliary head."""

    def total(outputs: Any, targets: jax.Array, weight: jax.Array) -> LossTerms:
        if not isinstance(outputs, ModelOutput):
            return loss(outputs, targets, weight)
        main = loss(outputs.main, targets, weight)
        heads = [loss(logits, targets, weight).total for logits in outputs.auxiliary]
        return main._replace(total=main.total + auxiliary_weight * sum(heads))

    return total


def make_loss(config: config_dict.ConfigDict, auxiliary_weight: float = 0.0) -> Loss:
    """Returns the loss of `config.train`; `auxiliary_weight` is used if `config.auxiliary_weight` is None."""
    if config.auxiliary_weight is not None:
        auxiliary_weight = config.auxiliary_weight
    if config.loss in SQUARED_ERRORS:
        loss = SQUARED_ERRORS[config.loss]
    else:
        loss = functools.partial(
            cross_entropy,
            label_smoothing=config.label_smoothing,
            class_weights=tuple(config.class_weights),
        )
    return with_auxiliary(loss, auxiliary_weight)
