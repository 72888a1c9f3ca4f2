"""Creates the network of a run and its initial variables."""

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
from jaxnets.training.preprocess import Batch, make_preprocess
from jaxnets.training.state import BackboneHeadPartition

BATCH_SIZE = 32
CALIBRATION_IMAGES = 30 * BATCH_SIZE
"""Images for the batch statistics of a random backbone: after 30 batches the initial values weigh 4 %."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A model and its initial variables; with transfer.weights, also its parts and the backbone's sha256."""

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
    """The network, initialised from the config's seed; its backbone is `found` if given.

    The batch statistics of a random frozen backbone are computed from training images: otherwise activations
    grow or shrink with each layer beyond float32's range. Raises CheckpointError if `found` does not fit.
    """
    shape = (1, *data.shape)
    model = models.create(config.model, axis_name=axis_name)
    # Dropout starts from the same key, but folds in the step instead of module names.
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    variables = models.initialize(model, key, shape)
    if config.transfer.weights is None:
        return Network(model, variables)
    parts = BackboneHeadPartition.of(model, shape)
    if found is not None:
        variables = pretrained.with_backbone(variables, found, parts)
    if config.transfer.weights == RANDOM and config.transfer.freeze_backbone:
        variables = _calibrate_batch_stats(config, data, variables)
    original = None if found is None else found.backbone_sha256
    sha256 = original or pretrained.backbone_sha256(variables, parts)
    return Network(model, variables, parts, sha256)


def _calibrate_batch_stats(
    config: config_dict.ConfigDict, data: Data, variables: dict[str, Any]
) -> dict[str, Any]:
    """The variables with batch statistics from a few forward passes in training mode."""
    if not variables["batch_stats"]:
        return variables
    from jaxnets.data.pipeline import eval_batches  # imports grain

    model = models.create(config.model)
    preprocess = make_preprocess(config, train=False)

    @xla.jit
    def update(batch_stats: Any, batch: Batch) -> Any:
        inputs, _ = preprocess(batch, jax.random.key(0))
        current = {"params": variables["params"], "batch_stats": batch_stats}
        _, updates = model.apply(
            current,
            inputs,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        return updates["batch_stats"]

    generator, train = np.random.default_rng(config.seed), data.split.train
    rounds = [generator.permutation(train) for _ in range(-(-CALIBRATION_IMAGES // len(train)))]
    indices = np.concatenate(rounds)[:CALIBRATION_IMAGES]  # repeated if there are fewer images
    statistics = variables["batch_stats"]
    for batch in eval_batches(data.source, indices, batch_size=BATCH_SIZE, threads=data.threads):
        statistics = update(statistics, batch)
    return {**variables, "batch_stats": statistics}
