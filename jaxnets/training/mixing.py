"""Mixing of the images of a batch and of their targets: mixup and CutMix."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import config_dict

Mixing = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""(keys [B], images [B, H, W, C], targets [B, K]) -> (images, targets)."""

MIXUP_KEY, CUTMIX_KEY, MIX_CHOICE_KEY = 1_000, 1_001, 1_002
"""Folded into an example's key; the numbers of its augmentations are smaller."""


def mixup(
    keys: jax.Array, images: jax.Array, targets: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Mixes images [B, H, W, C] and targets [B, K] with the previous ones of the batch (Zhang 2017)."""
    weight = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha, dtype=images.dtype))(keys)
    by_image = weight[:, None, None, None]
    return (
        by_image * images + (1 - by_image) * jnp.roll(images, 1, axis=0),
        weight[:, None] * targets + (1 - weight[:, None]) * jnp.roll(targets, 1, axis=0),
    )


def cutmix(
    keys: jax.Array, images: jax.Array, targets: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of the previous image of the batch into each image (Yun et al. 2019).

    Boxes are those of torchvision's CutMix, one per image; targets [B, K] are mixed by the areas.
    """
    boxes = jax.vmap(functools.partial(cutmix_box, shape=images.shape[1:3], alpha=alpha))(keys)
    images = jnp.where(boxes[..., None], jnp.roll(images, 1, axis=0), images)
    weight = 1 - jnp.mean(boxes.astype(targets.dtype), axis=(1, 2))
    return images, weight[:, None] * targets + (1 - weight[:, None]) * jnp.roll(targets, 1, axis=0)


def cutmix_box(key: jax.Array, shape: tuple[int, ...], alpha: float) -> jax.Array:
    """Draws a box as bool[H, W]; it is cut off at the image's edges."""
    weight_key, center_key = jax.random.split(key)
    scale = 0.5 * jnp.sqrt(1 - jax.random.beta(weight_key, alpha, alpha))
    sides = jnp.asarray(shape)
    center = (jax.random.uniform(center_key, (2,)) * sides.astype(scale.dtype)).astype(sides.dtype)
    half = (scale * sides.astype(scale.dtype)).astype(sides.dtype)
    inside = [
        (jnp.arange(side) >= center[axis] - half[axis]) & (jnp.arange(side) < center[axis] + half[axis])
        for axis, side in enumerate(shape)
    ]
    return inside[0][:, None] & inside[1][None]


def make_mixing(config: config_dict.ConfigDict) -> Mixing | None:
    """Makes mixup, CutMix or, for each image, one of both at random; None if `augment` has none."""
    mixings = [
        (number, functools.partial(function, alpha=config[name]))
        for number, name, function in ((MIXUP_KEY, "mixup", mixup), (CUTMIX_KEY, "cutmix", cutmix))
        if config[name]
    ]
    if not mixings:
        return None

    def mix(keys: jax.Array, images: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        def fold(number: int) -> jax.Array:
            return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)

        mixed = [mixing(fold(number), images, targets) for number, mixing in mixings]
        if len(mixed) == 1:
            return mixed[0]
        first = jax.vmap(jax.random.bernoulli)(fold(MIX_CHOICE_KEY))
        images, targets = (
            jnp.where(first.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(*mixed, strict=True)
        )
        return images, targets

    return mix
