"""Creates the network of a run, its initial variables and its optimizer."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.data.batch import Batch
from jaxnets.data.dataset import Dataset, eval_batches
from jaxnets.errors import CheckpointError
from jaxnets.interop.weights import flatten
from jaxnets.runtime import xla
from jaxnets.training.optimizer import (
    Hyperparams,
    learning_rate,
    make_optimizer,
    optimizer_hyperparams,
    schedule_hyperparams,
    schedule_of,
)
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.transfer import BackboneHeadPartition, make_transfer_optimizer

RANDOM = "random"
OUTPUT = "classifier"
"""The output layer of every convolutional network and auxiliary head."""
BATCH_SIZE = 32
CALIBRATION_IMAGES = 30 * BATCH_SIZE
"""Images for the batch statistics of a random backbone: after 30 batches the initial values weigh 4 %."""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """The variables of a trained network, its `config.model`, and the preprocessing that it expects.

    `mean` and `std` (as data.mean and data.std) are None if they are unknown. If the variables come from a
    resumed run's own checkpoint, `backbone_sha256` is that of the backbone which the run started with.
    """

    path: Path
    variables: Mapping[str, Any]
    model: config_dict.ConfigDict
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    backbone_sha256: str | None = None
    is_of_run: bool = False  # a run of jaxnets, perhaps with the same seed


@dataclasses.dataclass(frozen=True)
class Network:
    """A model and its initial variables; with transfer.weights, also its parts and the backbone's sha256."""

    model: nn.Module
    variables: dict[str, Any]
    parts: BackboneHeadPartition | None = None
    backbone_sha256: str | None = None


def make_network(
    config: config_dict.ConfigDict, model: nn.Module, data: Dataset, found: Pretrained | None
) -> Network:
    """The network, initialised from the config's seed; its backbone is `found` if given.

    With transfer.weights the output layers are zero (`with_zero_outputs`). The batch statistics of a random
    frozen backbone are computed from training images: otherwise activations grow or shrink with each layer
    beyond float32's range. Raises CheckpointError if `found` does not fit.
    """
    shape = (1, *data.shape)
    # Dropout starts from the same key, but folds in the step instead of module names.
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    if found is not None and found.is_of_run:  # whose backbone was trained for the head of its own seed
        key = jax.random.fold_in(key, 1)
    variables = models.initialize(model, key, shape)
    if config.transfer.weights is None:
        return Network(model, variables)
    parts = BackboneHeadPartition.of(model, shape)
    variables["params"] = with_zero_outputs(variables["params"])
    if found is not None:
        variables = with_backbone(variables, found, parts)
    if config.transfer.weights == RANDOM and config.transfer.freeze_backbone:
        variables = _calibrate_batch_stats(config, model, data, variables)
    original = None if found is None else found.backbone_sha256
    sha256 = original or backbone_sha256(variables, parts)
    return Network(model, variables, parts, sha256)


def _calibrate_batch_stats(
    config: config_dict.ConfigDict, model: nn.Module, data: Dataset, variables: dict[str, Any]
) -> dict[str, Any]:
    """The variables with batch statistics from a few forward passes in training mode."""
    if not variables["batch_stats"]:
        return variables
    model = model.clone(axis_name=None)  # on one device
    preprocess = make_preprocess(config, train=False)

    @xla.jit
    def update(batch_stats: Any, batch: Batch) -> Any:
        inputs, _ = preprocess(batch, jax.random.key(0))
        current = {"params": variables["params"], "batch_stats": batch_stats}
        rngs = {"dropout": jax.random.key(0)}
        _, updates = model.apply(current, inputs, train=True, mutable=["batch_stats"], rngs=rngs)
        return updates["batch_stats"]

    generator, train = np.random.default_rng(config.seed), data.split.train
    rounds = [generator.permutation(train) for _ in range(-(-CALIBRATION_IMAGES // len(train)))]
    indices = np.concatenate(rounds)[:CALIBRATION_IMAGES]  # repeated if there are fewer images
    statistics = variables["batch_stats"]
    for batch in eval_batches(data.source, indices, batch_size=BATCH_SIZE, threads=data.batching.threads):
        statistics = update(statistics, batch)
    return {**variables, "batch_stats": statistics}


def check_backbone(model: nn.Module, shape: tuple[int, ...], found: Pretrained) -> None:
    """Raises CheckpointError if `found` does not fit the backbone of `model` for inputs [H, W, C].

    Compares shapes only; nothing is decoded or computed.
    """
    initialize = functools.partial(models.initialize, model, shape=(1, *shape))
    variables = jax.eval_shape(initialize, jax.random.key(0))
    variables = {"params": variables["params"], **variables}  # the first to be named in an error
    with_backbone(variables, found, BackboneHeadPartition.of(model, (1, *shape)))


def with_backbone(
    variables: Mapping[str, Any], found: Pretrained, parts: BackboneHeadPartition
) -> dict[str, Any]:
    """A new network's variables with the backbone replaced by the pretrained one.

    Raises CheckpointError if an array of the backbone is missing or has another shape.
    """
    combined: dict[str, Any] = {}
    for collection, tree in variables.items():
        head, new_backbone = parts.split(tree)
        given, backbone = flatten(found.variables.get(collection, {})), flatten(new_backbone)
        if missing := sorted(set(backbone) - set(given)):
            raise CheckpointError(
                f"{found.path} lacks {collection}/{missing[0]} and {len(missing) - 1} more arrays of the "
                f"backbone: use other weights{_or_truncated(found.model.name, missing)}"
            )
        for path, leaf in backbone.items():
            if np.shape(given[path]) != leaf.shape:
                raise CheckpointError(
                    f"{found.path} is of another network: {collection}/{path} has shape "
                    f"{list(np.shape(given[path]))}, expected {list(leaf.shape)}"
                )
        taken = {path: jnp.asarray(given[path], leaf.dtype) for path, leaf in backbone.items()}
        combined[collection] = {**head, **traverse_util.unflatten_dict(taken, sep="/")}
    return combined


def with_zero_outputs(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with zeros in the output layer of the head and of each auxiliary head.

    A new head then begins with equal probabilities, so that its first loss is ln(classes) for features of any
    scale, as in the fine-tuning of ViT (Dosovitskiy et al. 2021, section 3.2).
    """
    flat: dict[Any, Any] = traverse_util.flatten_dict(dict(params))
    zeroed = {path: jnp.zeros_like(leaf) if OUTPUT in path else leaf for path, leaf in flat.items()}
    return traverse_util.unflatten_dict(zeroed)


def _or_truncated(network: str, missing: Sequence[str]) -> str:
    """A hint to truncate the backbone if only its last blocks are missing."""
    absent, blocks = {path.partition("/")[0] for path in missing}, models.entry(network).truncation_blocks
    fitting = [block for i, block in enumerate(blocks) if absent <= set(blocks[i + 1 :])]
    return f", or truncate the backbone: --config.model.truncate_after={fitting[-1]}" if fitting else ""


def backbone_sha256(variables: Mapping[str, Any], parts: BackboneHeadPartition) -> str:
    """The sha256 of the names, types and bytes of all backbone arrays."""
    digest = hashlib.sha256()
    for collection in sorted(variables):
        for path, leaf in sorted(flatten(parts.split(variables[collection])[1]).items()):
            array = np.asarray(leaf)
            digest.update(f"{collection}/{path} {array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class OptimizerBundle:
    """The optimizer, the head's learning rate schedule, and the arguments of `make_transfer_step`."""

    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    parts: BackboneHeadPartition | None
    head_only_steps: int | None


def hyperparameters(
    config: config_dict.ConfigDict, *, total_steps: int, steps_per_epoch: int
) -> dict[str, Hyperparams]:
    """The hyperparameters of the optimizer and of the schedules of head and backbone, by these names."""
    transfer = config.transfer
    hyperparams = functools.partial(schedule_hyperparams, config, steps_per_epoch=steps_per_epoch)
    head_only_steps = config_lib.steps(config, "transfer.head_only_", steps_per_epoch) or 0
    backbone_steps = max(total_steps - head_only_steps, 1)
    return {
        "optimizer": optimizer_hyperparams(config),
        "head": hyperparams(total_steps=total_steps),
        "backbone": hyperparams(total_steps=backbone_steps, multiplier=transfer.backbone_lr_multiplier),
    }


def make_optimizer_bundle(
    config: config_dict.ConfigDict,
    parts: BackboneHeadPartition | None,
    hyperparams: Mapping[str, Hyperparams],
    *,
    steps_per_epoch: int,
) -> OptimizerBundle:
    """The optimizer of a config; `hyperparams`, those of `hyperparameters`, may be traced."""
    transfer = config.transfer
    head_only_steps = config_lib.steps(config, "transfer.head_only_", steps_per_epoch) or 0
    schedule = functools.partial(learning_rate, hyperparams["head"])
    head_schedule, backbone_schedule = schedule_of(hyperparams["head"]), schedule_of(hyperparams["backbone"])
    if parts is None or not (
        transfer.freeze_backbone or head_only_steps or transfer.backbone_lr_multiplier != 1
    ):
        optimizer = make_optimizer(config, head_schedule, hyperparams["optimizer"])
        return OptimizerBundle(optimizer, schedule, None, None)
    frozen = transfer.freeze_backbone
    optimizer = make_transfer_optimizer(
        config, parts, head_schedule, None if frozen else backbone_schedule, hyperparams["optimizer"]
    )
    return OptimizerBundle(optimizer, schedule, parts, None if frozen else head_only_steps)
