"""Transfer learning: the split into backbone and head, an optimizer for each, and the training step."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import optax
from jax import lax
from ml_collections import config_dict

from jaxnets import models
from jaxnets.data.batch import FEATURES, Batch
from jaxnets.training.optimizer import Hyperparams, make_clipping, make_transforms
from jaxnets.training.step import Metrics, TrainState, TrainStep, make_train_step


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


def make_transfer_optimizer(
    config: config_dict.ConfigDict,
    partition: BackboneHeadPartition,
    head_schedule: optax.ScalarOrSchedule,
    backbone_schedule: optax.ScalarOrSchedule | None = None,
    hyperparams: Hyperparams | None = None,
) -> optax.GradientTransformation:
    """Returns an optimizer for the head and, with `backbone_schedule`, the backbone.

    `hyperparams` are those of `make_optimizer`. Gradients are clipped by their norm over head and backbone.
    """
    schedules = {"head": head_schedule} | (
        {} if backbone_schedule is None else {"backbone": backbone_schedule}
    )
    transforms = {
        name: optax.chain(*make_transforms(config, each, hyperparams)) for name, each in schedules.items()
    }

    def split(tree: Any) -> dict[str, Any]:
        return dict(zip(("head", "backbone"), partition.split(tree), strict=True))

    def init(params: Any) -> dict[str, Any]:
        parts = split(params)
        return {name: transform.init(parts[name]) for name, transform in transforms.items()}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        gradients, parts = split(updates), split(params)
        merged: Any = {}
        new_state = dict(state)
        for name, transform in transforms.items():
            if gradients[name]:  # optax.multi_transform would advance the schedule of a frozen part
                updated, new_state[name] = transform.update(gradients[name], state[name], parts[name])
                merged |= updated
        return merged, new_state

    return optax.chain(*make_clipping(config, hyperparams), optax.GradientTransformation(init, update))


def make_transfer_step(
    model: nn.Module, *args: Any, partition: BackboneHeadPartition, head_only_steps: int | None, **kwargs: Any
) -> TrainStep:
    """Returns a training step that trains only the head at first, with the arguments of `make_train_step`.

    That is during the first `head_only_steps` steps, or always if that is None. The backbone is then in
    evaluation mode: its batch statistics do not change. A batch may hold FEATURES of the backbone.
    """
    train_all = make_train_step(model, *args, **kwargs)
    if head_only_steps == 0:
        return train_all

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        forward = functools.partial(_forward_head, model, FEATURES in batch)
        train_head = make_train_step(model, *args, forward=forward, partition=partition.split, **kwargs)
        if head_only_steps is None:
            return train_head(state, batch)
        return lax.cond(state.step < head_only_steps, train_head, train_all, state, batch)

    return train_step


def _forward_head(
    model: nn.Module, on_features: bool, variables: dict[str, Any], inputs: jax.Array, key: jax.Array
) -> tuple[Any, Any]:
    """The head in training mode on `inputs` or, unless these are features, on those of the backbone."""
    features: Any = inputs
    if not on_features:
        features = model.apply(variables, inputs, train=False, method="features")
    outputs = model.apply(variables, features, train=True, method="head", rngs={"dropout": key})
    return outputs, variables["batch_stats"]
