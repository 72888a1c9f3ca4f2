"""The state of training, and the partition of its parameters into backbone and head."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxnets import models

Tree = Any


@flax.struct.dataclass
class TrainState:
    """A pytree without static fields, as checkpoints store it."""

    step: jax.Array  # int32[]; updates taken so far
    params: Tree
    batch_stats: Tree  # {} without batch norm
    opt_state: optax.OptState
    ema: Tree  # None without a moving average of the weights
    key: jax.Array  # uint32[2]; the raw data of the run's random key

    @classmethod
    def create(
        cls,
        variables: dict[str, Tree],
        optimizer: optax.GradientTransformation,
        *,
        seed: int,
        with_ema: bool = False,
    ) -> "TrainState":
        """Returns the state before the first step."""
        params = variables["params"]
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables["batch_stats"],
            opt_state=optimizer.init(params),
            ema=jax.tree.map(jnp.copy, params) if with_ema else None,  # a buffer cannot be donated twice
            key=jax.random.key_data(jax.random.key(seed)),
        )

    def variables(self, *, ema: bool = False) -> dict[str, Tree]:
        """Returns the variables for `model.apply`; with `ema` the averaged weights, if there are any."""
        params = self.ema if ema and self.ema is not None else self.params
        return {"params": params, "batch_stats": self.batch_stats}


@dataclasses.dataclass(frozen=True)
class BackboneHeadPartition:
    """The names of the modules of the head, to which auxiliary heads belong; all others are the backbone."""

    head: frozenset[str]

    @classmethod
    def of(cls, model: nn.Module, shape: tuple[int, ...]) -> "BackboneHeadPartition":
        """The partition for inputs of `shape` [B, ...]."""
        return cls(frozenset(models.head_modules(model, shape)))

    def split(self, tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns (head, backbone)."""
        names = self.head | models.auxiliary_part(tree).keys()
        head = {name: part for name, part in tree.items() if name in names}
        return head, {name: part for name, part in tree.items() if name not in names}
