"""What a training step runs forward, and through which of the weights its gradient goes."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jaxnets.models.outputs import ModelOutput

Tree = Any
Forward = Callable[[dict[str, Tree], jax.Array, jax.Array], tuple[jax.Array | ModelOutput, Tree]]
"""(variables, inputs, dropout's key) -> (outputs, batch statistics)."""


def full_forward(model: nn.Module) -> Forward:
    """The network in training: batch normalisation by the batch, dropout, auxiliary heads."""

    def forward(variables: dict[str, Tree], inputs: jax.Array, key: jax.Array) -> tuple[Any, Tree]:
        outputs, updates = model.apply(
            variables, inputs, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return outputs, updates.get("batch_stats", {})

    return forward


def frozen_backbone_forward(model: nn.Module, *, on_features: bool) -> Forward:
    """The body as in evaluation, its statistics as they are, and the head in training.

    With `on_features` the inputs are what the body gave.
    """

    def forward(variables: dict[str, Tree], inputs: jax.Array, key: jax.Array) -> tuple[Any, Tree]:
        features: Any = inputs
        if not on_features:
            features = model.apply(variables, inputs, train=False, method="features")
        outputs = model.apply(variables, features, train=True, method="head", rngs={"dropout": key})
        return outputs, variables["batch_stats"]

    return forward
