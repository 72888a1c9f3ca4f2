"""From a batch as it is read to what a network takes: scaling, augmentation, normalisation, targets."""

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
    """(x - mean) / std by channel, x [B, H, W, C] in [0, 1]."""
    return (images - jnp.asarray(mean, images.dtype)) / jnp.asarray(std, images.dtype)


def scale(images: jax.Array, dtype: Any) -> jax.Array:
    """uint8 to [0, 1]."""
    return images.astype(dtype) / jnp.asarray(255, dtype)


def image_keys(key: jax.Array, epoch: jax.Array, index: jax.Array) -> jax.Array:
    """A key for each image, folded from the run's key, the epoch [B] and the example's index [B]."""

    def fold(epoch: jax.Array, index: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(key, epoch), index)

    return jax.vmap(fold)(epoch, index)


def has_classes(batch: Batch) -> bool:
    """True where labels are classes, int[B], and not values, float[B, K]."""
    return batch["label"].ndim == 1


def make_preprocess(
    config: config_dict.ConfigDict, *, train: bool, augment: bool | None = None
) -> Preprocess:
    """The preprocessing of a recipe: augmentation and mixup where `train`, or augmentation alone.

    `augment` says whether images are augmented, and is `train` where it is None; mixup is for training.
    Batches of kind "vector" and of features are cast to the recipe's dtype: they are numbers already.
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
