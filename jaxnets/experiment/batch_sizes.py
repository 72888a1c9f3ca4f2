"""Checks batch sizes before anything is decoded or compiled."""

import functools

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import ConfigError
from jaxnets.training.devices import Devices


def check_divisible(config: config_dict.ConfigDict, examples: int, devices: Devices) -> None:
    """Raises ConfigError unless each batch is divisible by the devices and by the microbatches."""
    size, parts = config.train.batch_size, config.train.grad_accum_steps
    change = "change --config.train.batch_size"
    batches = {size: ("a batch", change)}
    last = examples % size
    if last and not config.train.drop_last:
        batches[last] = ("an epoch's last batch", f"set --config.train.drop_last=True, or {change}")
    for batch, (name, remedy) in batches.items():
        if batch % devices.count:
            raise ConfigError(f"{name} of {batch} is not divisible by {devices.count} devices: {remedy}")
        per_device = batch // devices.count
        if per_device % parts:
            raise ConfigError(
                f"{name} of {batch} gives each device {per_device} examples, not divisible by "
                f"--config.train.grad_accum_steps={parts}: {remedy}"
            )
    if examples < size and config.train.drop_last:
        raise ConfigError(
            f"{examples} training examples are fewer than one batch of {size}: {change}, "
            "or train on the smaller batch with --config.train.drop_last=False"
        )


def check_batch_norm(config: config_dict.ConfigDict, channels: int, examples: int, devices: Devices) -> None:
    """Raises ConfigError if a batch of one image gives batch normalisation one value per channel.

    The forward pass is traced (shapes only), and only if some batch has one image.
    """
    if "model.sync_batch_norm" in config_lib.unused(config) or config.transfer.freeze_backbone:
        return
    shared = devices.count if config.model.sync_batch_norm else 1
    parts = devices.count * config.train.grad_accum_steps
    size, last = config.train.batch_size, examples % config.train.batch_size
    sizes = [size] if examples >= size else []
    if last and not config.train.drop_last:
        sizes.append(last)
    if all(size // parts * shared > 1 for size in sizes):
        return
    shape = (1, config.data.image_size, config.data.image_size, channels)
    model, key = models.create(config.model), jax.random.key(0)
    variables = jax.eval_shape(functools.partial(models.initialize, model, shape=shape), key)
    images = jax.ShapeDtypeStruct(shape, jnp.dtype(config.model.dtype))
    train = functools.partial(model.apply, train=True, mutable=["batch_stats"], rngs={"dropout": key})
    jax.eval_shape(train, variables, images)
