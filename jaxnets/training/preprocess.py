"""Preprocessing on the device: scaling, augmentation, mixup, normalisation and one-hot targets."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxnets.data.sources.base import FEATURES
from jaxnets.training.augment import make_augmentation, mixup

Batch = dict[str, Any]
Preprocess = Callable[[Batch, jax.Array], tuple[jax.Array, jax.Array]]
"""(batch, key) -> (inputs [B, ...], targets [B, K])."""


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """Returns (x - mean) / std per channel, for x [B, H, W, C] in [0, 1]."""
    return (images - jnp.asarray(mean, images.dtype)) / jnp.asarray(std, images.dtype)


def scale(images: jax.Array, dtype: Any) -> jax.Array:
    """Converts uint8 to [0, 1]."""
    return images.astype(dtype) / jnp.asarray(255, dtype)


def image_keys(key: jax.Array, epoch: jax.Array, index: jax.Array) -> jax.Array:
    """Returns a key for each image, from the run's key, the epoch [B] and the example's index [B]."""

    def fold(epoch: jax.Array, index: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(key, epoch), index)

    return jax.vmap(fold)(epoch, index)


def has_classes(batch: Batch) -> bool:
    """True if labels are classes, int[B], rather than values, float[B, K]."""
    return batch["label"].ndim == 1


def make_preprocess(
    config: config_dict.ConfigDict, *, train: bool, augment: bool | None = None
) -> Preprocess:
    """Returns the preprocessing of a config; `augment` defaults to `train`, and mixup is for `train` only.

    Vectors and cached features are only cast to the config's dtype.
    """
    dtype = jnp.dtype(config.model.dtype)
    classes = config.model.num_classes
    augmentation = make_augmentation(config.augment)
    mean, std = tuple(config.data.mean), tuple(config.data.std)
    augments = train if augment is None else augment
    mixes = train and bool(config.augment.mixup)

    def preprocess(batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        if "input" in batch:
            return batch["input"].astype(dtype), batch["label"].astype(dtype)
        targets = jax.nn.one_hot(batch["label"], classes, dtype=dtype)
        if FEATURES in batch:
            return batch[FEATURES].astype(dtype), targets
        images = scale(batch["image"], dtype)
        if not (augments or mixes):
            return normalize(images, mean, std), targets
        keys = image_keys(key, batch["epoch"], batch["index"])
        if augments:
            images = jax.vmap(augmentation)(keys, images)
        if mixes:
            mixup_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1_000))(keys)
            images, targets = mixup(mixup_keys, images, targets, alpha=config.augment.mixup)
        return normalize(images, mean, std), targets

    return preprocess
