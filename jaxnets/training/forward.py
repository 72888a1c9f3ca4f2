"""Forward passes of the training step: of the full network, or with a frozen backbone."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jaxnets.models.base import ModelOutput

Tree = Any
Forward = Callable[[dict[str, Tree], jax.Array, jax.Array], tuple[jax.Array | ModelOutput, Tree]]
"""(variables, inputs, dropout key) -> (outputs, batch statistics)."""


def full_forward(model: nn.Module) -> Forward:
    """The network in training mode: batch norm over the batch, dropout, auxiliary heads."""

    def forward(variables: dict[str, Tree], inputs: jax.Array, key: jax.Array) -> tuple[Any, Tree]:
        outputs, updates = model.apply(
            variables, inputs, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return outputs, updates.get("batch_stats", {})

    return forward


def frozen_backbone_forward(model: nn.Module, *, on_features: bool) -> Forward:
    """The backbone in eval mode, without updates of its statistics, and the head in training mode.

    With `on_features` the inputs are already the backbone's features.
    """

    def forward(variables: dict[str, Tree], inputs: jax.Array, key: jax.Array) -> tuple[Any, Tree]:
        features: Any = inputs
        if not on_features:
            features = model.apply(variables, inputs, train=False, method="features")
        outputs = model.apply(variables, features, train=True, method="head", rngs={"dropout": key})
        return outputs, variables["batch_stats"]

    return forward
