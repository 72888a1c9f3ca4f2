"""The network of a run before its first step: its modules and its weights."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import config_dict

from jaxnets import models
from jaxnets.experiment import pretrained
from jaxnets.experiment.data import Data
from jaxnets.experiment.pretrained import RANDOM, Pretrained
from jaxnets.runtime import xla
from jaxnets.training.backbone import BackboneHeadPartition
from jaxnets.training.preprocess import Batch, make_preprocess

BATCH_SIZE = 32
SHOWN = 30 * BATCH_SIZE
"""Images that a random body's statistics are taken of: 30 batches leave 4 % of where they began."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A model and its initial variables; where its body was given, the parts and the body's sha256."""

    model: nn.Module
    variables: dict[str, Any]
    parts: BackboneHeadPartition | None = None
    backbone_sha256: str | None = None


def make_network(
    config: config_dict.ConfigDict,
    data: Data,
    found: Pretrained | None,
    axis_name: str | None,
) -> Network:
    """The network for the data, drawn from the recipe's seed; its body is `found` where given.

    A random body that stays as it is has its batch statistics from training images: without them what
    comes through grows or shrinks with every layer, and out of what float32 can hold.
    Raises CheckpointError where `found` is of another network.
    """
    shape = (1, *data.shape)
    model = models.create(config.model, axis_name=axis_name)
    # Dropout's draws begin at this key too, and fold in steps, where these fold in modules' names.
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    variables = models.initialize(model, key, shape)
    if config.transfer.weights is None:
        return Network(model, variables)
    parts = BackboneHeadPartition.of(model, shape)
    if found is not None:
        variables = pretrained.with_backbone(variables, found, parts)
    if config.transfer.weights == RANDOM and config.transfer.freeze_backbone:
        variables = _measured(config, data, variables)
    begun_with = None if found is None else found.backbone_sha256
    sha256 = begun_with or pretrained.backbone_sha256(variables, parts)
    return Network(model, variables, parts, sha256)


def _measured(
    config: config_dict.ConfigDict, data: Data, variables: dict[str, Any]
) -> dict[str, Any]:
    """The variables after some batches have been shown, without training: only the statistics differ."""
    if not variables["batch_stats"]:
        return variables
    from jaxnets.data.pipeline import eval_batches  # grain, which other runs may do without

    model = models.create(config.model)
    preprocess = make_preprocess(config, train=False)

    @xla.jit
    def show(batch_stats: Any, batch: Batch) -> Any:
        inputs, _ = preprocess(batch, jax.random.key(0))
        seen = {"params": variables["params"], "batch_stats": batch_stats}
        _, updates = model.apply(
            seen, inputs, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
        )
        return updates["batch_stats"]

    generator, train = np.random.default_rng(config.seed), data.split.train
    rounds = [generator.permutation(train) for _ in range(-(-SHOWN // len(train)))]
    shown = np.concatenate(rounds)[:SHOWN]  # where there are fewer, each is shown again
    statistics = variables["batch_stats"]
    for batch in eval_batches(data.source, shown, batch_size=BATCH_SIZE, threads=data.threads):
        statistics = show(statistics, batch)
    return {**variables, "batch_stats": statistics}
