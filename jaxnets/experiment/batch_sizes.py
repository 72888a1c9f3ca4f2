"""Whether the batches of a run can be trained on, before anything is decoded or compiled."""

import functools

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import ConfigError
from jaxnets.training.devices import Devices


def check_divisible(config: config_dict.ConfigDict, examples: int, devices: Devices) -> None:
    """Raises ConfigError where the devices or the parts of a step do not divide a batch."""
    size, parts = config.train.batch_size, config.train.grad_accum_steps
    change = "change --config.train.batch_size"
    batches = {size: ("a batch", change)}
    last = examples % size
    if last and not config.train.drop_last:
        batches[last] = (
            "an epoch's last batch",
            f"set --config.train.drop_last=True, or {change}",
        )
    for batch, (what, remedy) in batches.items():
        devices.check_batch_size(batch, what, remedy)
        share = batch // devices.count
        if share % parts:
            raise ConfigError(
                f"{what} of {batch} gives each device {share}, which "
                f"--config.train.grad_accum_steps={parts} does not divide: {remedy}"
            )
    if examples < size and config.train.drop_last:
        raise ConfigError(
            f"{examples} training examples make no batch of {size}: {change}, "
            "or keep the short one with --config.train.drop_last=False"
        )


def check_batch_norm(
    config: config_dict.ConfigDict, channels: int, examples: int, devices: Devices
) -> None:
    """Raises ConfigError where a batch of one image gives batch normalisation one value a channel.

    Only the shapes of the forward pass are computed, and these only where some batch has one image: larger
    ones have more than one value.
    """
    if "model.sync_batch_norm" in config_lib.unused(config) or config.transfer.freeze_backbone:
        return
    shared = devices.count if config.model.sync_batch_norm else 1
    parts = devices.count * config.train.grad_accum_steps
    if all(size // parts * shared > 1 for size in _batch_sizes(config, examples)):
        return
    shape = (1, config.data.image_size, config.data.image_size, channels)
    model, key = models.create(config.model), jax.random.key(0)
    variables = jax.eval_shape(functools.partial(models.initialize, model, shape=shape), key)
    images = jax.ShapeDtypeStruct(shape, jnp.dtype(config.model.dtype))
    train = functools.partial(
        model.apply, train=True, mutable=["batch_stats"], rngs={"dropout": key}
    )
    jax.eval_shape(train, variables, images)


def _batch_sizes(config: config_dict.ConfigDict, examples: int) -> list[int]:
    """The numbers of images of an epoch's batches, each once."""
    size = config.train.batch_size
    last = examples % size
    sizes = [size] if examples >= size else []
    return [*sizes, last] if last and not config.train.drop_last else sizes
