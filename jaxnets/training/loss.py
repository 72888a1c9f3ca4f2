"""Losses as sums and what they are divided by, so that they add up over batches and devices."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import config_dict

from jaxnets.models.outputs import ModelOutput


class LossTerms(NamedTuple):
    """A batch's loss is `total / normalizer`; several parts' is the ratio of the sums.

    A loss that is a sum has no normalizer: its parts add up, and nothing is divided.
    """

    total: jax.Array  # shape=()
    weight_sum: jax.Array | None  # shape=()

    def sums(self) -> dict[str, jax.Array]:
        """Both by name, as metrics hold them."""
        named = {"loss": self.total, "weight_sum": self.weight_sum}
        return {name: value for name, value in named.items() if value is not None}


Loss = Callable[[Any, jax.Array, jax.Array], LossTerms]
"""(outputs [B, K] or Logits of them, targets [B, K], weight [B]) -> LossTerms."""


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
    total, _ = sum_squared_error(outputs, targets, weight)
    return LossTerms(total, jnp.sum(weight) * outputs.shape[-1])


def sum_squared_error(
    outputs: jax.Array, targets: jax.Array, weight: jax.Array, *, factor: float = 1.0
) -> LossTerms:
    """`factor` times the sum of squared differences of [B, K], as MSELoss(reduction="sum") for 1.

    Nothing is divided by the number of examples: a batch of twice as many has a gradient twice as long.
    """
    each = jnp.sum(optax.losses.squared_error(outputs, targets), axis=-1)
    return LossTerms(factor * jnp.sum(each * weight), None)


SQUARED_ERRORS: Mapping[str, Loss] = MappingProxyType(
    {
        "mean_squared_error": mean_squared_error,
        "sum_squared_error": sum_squared_error,
        "half_squared_error": functools.partial(sum_squared_error, factor=0.5),
    }
)


def with_auxiliary(loss: Loss, auxiliary_weight: float) -> Loss:
    """`loss` of the main outputs, plus `auxiliary_weight` times that of each auxiliary head's."""

    def total(outputs: Any, targets: jax.Array, weight: jax.Array) -> LossTerms:
        if not isinstance(outputs, ModelOutput):
            return loss(outputs, targets, weight)
        main = loss(outputs.main, targets, weight)
        heads = [loss(logits, targets, weight).total for logits in outputs.auxiliary]
        return main._replace(total=main.total + auxiliary_weight * sum(heads))

    return total


def make_loss(config: config_dict.ConfigDict, auxiliary_weight: float = 0.0) -> Loss:
    """The loss that `config.train` describes; `auxiliary_weight` where the recipe leaves it None."""
    if config.auxiliary_weight is not None:
        auxiliary_weight = config.auxiliary_weight
    if config.loss in SQUARED_ERRORS:
        return with_auxiliary(SQUARED_ERRORS[config.loss], auxiliary_weight)
    loss = functools.partial(
        cross_entropy,
        label_smoothing=config.label_smoothing,
        class_weights=tuple(config.class_weights),
    )
    return with_auxiliary(loss, auxiliary_weight)
