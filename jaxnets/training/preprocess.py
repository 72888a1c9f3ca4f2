"""Preprocessing on the device: scaling, augmentation, mixup, CutMix, normalisation and one-hot targets.

An augmentation is a pure function of a key and an image, float[H, W, C] in [0, 1]. The key depends on seed,
epoch and index, so an example's augmentation does not depend on the batch, the readers or the devices (mixup
and CutMix pair the examples of a batch).
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import ndimage
from ml_collections import config_dict

from jaxnets.data.batch import FEATURES, Batch

Preprocess = Callable[[Batch, jax.Array], tuple[jax.Array, jax.Array]]
"""(batch, key) -> (inputs [B, ...], targets [B, K])."""

STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))
"""Optical densities of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001); without DAB the residual."""
LUMA = (0.299, 0.587, 0.114)
CROP_ATTEMPTS, MAX_ASPECT = 10, 4 / 3
"""Of random resized crops, as in torchvision."""


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """Returns (x - mean) / std per channel, for x [B, H, W, C] in [0, 1]."""
    center, spread = (jnp.asarray(value, images.dtype) for value in (mean, std))
    return (images - lax.broadcast_to_rank(center, images.ndim)) / lax.broadcast_to_rank(spread, images.ndim)


def scale(images: jax.Array, dtype: Any) -> jax.Array:
    """Converts uint8 to [0, 1]."""
    return images.astype(dtype) / jnp.asarray(255, dtype)


def flip_horizontal(key: jax.Array, image: jax.Array) -> jax.Array:
    """Flips left and right with probability 0.5."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def flip_vertical(key: jax.Array, image: jax.Array) -> jax.Array:
    """Flips up and down with probability 0.5."""
    return jnp.where(jax.random.bernoulli(key), image[::-1], image)


def right_angles(key: jax.Array, image: jax.Array) -> jax.Array:
    """Rotates a square image by 0, 90, 180 or 270 degrees."""
    rotations = [lambda x, k=k: jnp.rot90(x, k) for k in range(4)]
    return lax.switch(jax.random.randint(key, (), 0, 4), rotations, image)


def rotate(key: jax.Array, image: jax.Array, degrees: float) -> jax.Array:
    """Rotates about the centre by up to `degrees`, with bilinear interpolation and mirrored edges."""
    angle = jnp.deg2rad(jax.random.uniform(key, (), image.dtype, -degrees, degrees))
    y, x = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2  # the centre
    rows, columns = (jnp.arange(side, dtype=image.dtype) for side in image.shape[:2])
    rows, columns = jnp.meshgrid(rows - y, columns - x, indexing="ij")
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    coordinates = (cosine * rows - sine * columns + y, sine * rows + cosine * columns + x)
    sample = functools.partial(ndimage.map_coordinates, coordinates=coordinates, order=1, mode="mirror")
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


def padded_crop(key: jax.Array, image: jax.Array, padding: int) -> jax.Array:
    """Pads with zeros on all sides and takes a random crop of the original size."""
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    corner = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return lax.dynamic_slice(padded, (corner[0], corner[1], 0), image.shape)


def random_resized_crop(key: jax.Array, image: jax.Array, min_area: float) -> jax.Array:
    """Takes a random crop and resizes it to the image's size, as torchvision's RandomResizedCrop.

    The crop has at least the fraction `min_area` of the area, and an aspect ratio in [3/4, 4/3].
    """
    return resized_crop(image, *random_crop_box(key, image.shape[:2], min_area))


def random_crop_box(
    key: jax.Array, shape: tuple[int, ...], min_area: float
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Draws top, left, height and width of a crop, in pixels; the whole image if ten draws do not fit."""
    height, width = shape
    drawn = jax.random.uniform(key, (2 * CROP_ATTEMPTS + 2,))  # one draw compiles faster than four
    for_area, for_aspect, place = jnp.split(drawn, [CROP_ATTEMPTS, 2 * CROP_ATTEMPTS])
    areas = height * width * (min_area + (1 - min_area) * for_area)
    aspects = jnp.exp(math.log(MAX_ASPECT) * (2 * for_aspect - 1))
    heights, widths = (jnp.round(jnp.sqrt(x)).astype(jnp.int32) for x in (areas / aspects, areas * aspects))
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first = jnp.argmax(fits)
    crop_height = jnp.where(fits[first], heights[first], height)
    crop_width = jnp.where(fits[first], widths[first], width)
    room = jnp.stack([height - crop_height, width - crop_width])
    top, left = jnp.floor(place * (room + 1).astype(place.dtype)).astype(jnp.int32)
    return top, left, crop_height, crop_width


def resized_crop(
    image: jax.Array, top: jax.Array, left: jax.Array, height: jax.Array, width: jax.Array
) -> jax.Array:
    """Enlarges a crop (in pixels) to the image's size, with bilinear interpolation within the crop."""
    return _enlarge(_enlarge(image, top, height, axis=0), left, width, axis=1)


def _enlarge(image: jax.Array, start: jax.Array, length: jax.Array, *, axis: int) -> jax.Array:
    size, extent = image.shape[axis], length.astype(image.dtype)
    positions = (jnp.arange(size, dtype=image.dtype) + 0.5) * (extent / size) - 0.5
    positions = jnp.clip(positions, 0, extent - 1)
    below = jnp.floor(positions).astype(jnp.int32)
    above = jnp.minimum(below + 1, length - 1)
    fraction = jnp.expand_dims(positions - below.astype(image.dtype), [a for a in range(3) if a != axis])
    low, high = (jnp.take(image, start + x, axis, mode="clip") for x in (below, above))
    return low * (1 - fraction) + high * fraction


def brightness(key: jax.Array, image: jax.Array, amount: float) -> jax.Array:
    """Multiplies by a factor in [1 - amount, 1 + amount]."""
    return jnp.clip(image * _factor(key, amount, image.dtype), 0, 1)


def contrast(key: jax.Array, image: jax.Array, amount: float) -> jax.Array:
    """Scales the distance from the image's mean grey by a factor in [1 - amount, 1 + amount]."""
    mean = _grey(image).mean()
    return jnp.clip(mean + (image - mean) * _factor(key, amount, image.dtype), 0, 1)


def saturation(key: jax.Array, image: jax.Array, amount: float) -> jax.Array:
    """Scales the distance from each pixel's grey by a factor in [1 - amount, 1 + amount]."""
    return scale_saturation(image, _factor(key, amount, image.dtype))


def scale_saturation(image: jax.Array, factor: jax.Array) -> jax.Array:
    """Scales the distance from each pixel's grey; factor []."""
    grey = _grey(image)
    return jnp.clip(grey + (image - grey) * factor, 0, 1)


def hue(key: jax.Array, image: jax.Array, amount: float) -> jax.Array:
    """Rotates colours about the grey axis by up to `amount` turns."""
    return rotate_hue(image, jax.random.uniform(key, (), image.dtype, -amount, amount))


def rotate_hue(image: jax.Array, turns: jax.Array) -> jax.Array:
    """Rotates colours about the grey axis; image [H, W, 3], turns []."""
    angle = 2 * jnp.pi * turns
    axis = jnp.full((3,), 3**-0.5, image.dtype)
    cross = jnp.cross(jnp.eye(3, dtype=image.dtype), axis)
    rotation = (
        jnp.cos(angle) * jnp.eye(3, dtype=image.dtype)
        + jnp.sin(angle) * cross
        + (1 - jnp.cos(angle)) * jnp.outer(axis, axis)
    )  # Rodrigues' formula
    return jnp.clip(image @ rotation, 0, 1)


def stain(key: jax.Array, image: jax.Array, amount: float) -> jax.Array:
    """Scales the haematoxylin and eosin densities, each by its own factor in [1 - amount, 1 + amount]."""
    factors = jax.random.uniform(key, (2,), image.dtype, 1 - amount, 1 + amount)
    return scale_stains(image, factors)


def scale_stains(image: jax.Array, factors: jax.Array) -> jax.Array:
    """Scales the densities of haematoxylin and eosin by `factors` [2]; Ruifrok and Johnston (2001)."""
    stains = jnp.asarray(STAINS, image.dtype)
    stains = stains / jnp.linalg.norm(stains, axis=1, keepdims=True)
    density = -jnp.log(jnp.maximum(image, 1 / 255)) @ jnp.linalg.inv(stains)
    factors = jnp.concatenate([factors, jnp.ones((1,), image.dtype)])
    density = density * lax.broadcast_to_rank(factors, density.ndim)
    return jnp.clip(jnp.exp(-density @ stains), 0, 1)


def _factor(key: jax.Array, amount: float, dtype: jnp.dtype) -> jax.Array:
    return jax.random.uniform(key, (), dtype, 1 - amount, 1 + amount)


def _grey(image: jax.Array) -> jax.Array:
    """The luma [H, W, 1] of [H, W, 3]; images of one channel are returned as they are."""
    return image if image.shape[-1] == 1 else (image @ jnp.asarray(LUMA, image.dtype))[..., None]


AUGMENTATIONS: Mapping[str, Callable[..., jax.Array]] = {
    "random_resized_crop": random_resized_crop,
    "flip_horizontal": flip_horizontal,
    "flip_vertical": flip_vertical,
    "right_angles": right_angles,
    "rotation_degrees": rotate,
    "crop_padding": padded_crop,
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
    "stain": stain,
}
"""The augmentations in their order, by field of config.augment, which is a bool or the last argument."""


def make_preprocess(
    config: config_dict.ConfigDict, *, train: bool, augment: bool | None = None
) -> Preprocess:
    """Makes the preprocessing of a config: scaling, augmentation and normalization, on the device.

    Args:
        config: a whole config.
        train: mixup and CutMix are applied.
        augment: images are augmented; None: if `train`.

    Returns:
        (batch, key) -> (inputs float[B, H, W, C], targets [B, K]), of a batch with uint8[B, H, W, C].
    """
    dtype, classes = jnp.dtype(config.model.dtype), config.model.num_classes
    mean, std = tuple(config.data.mean), tuple(config.data.std)
    augments = train if augment is None else augment
    mix = None
    if train and (config.augment.mixup or config.augment.cutmix):
        from jaxnets.training.mixing import make_mixing  # most configs do not mix images

        mix = make_mixing(config.augment)
    chosen = [
        (function, () if config.augment[field] is True else (config.augment[field],))
        for field, function in AUGMENTATIONS.items()
        if config.augment[field]
    ]

    def augmented(key: jax.Array, image: jax.Array) -> jax.Array:
        for number, (function, arguments) in enumerate(chosen):
            image = function(jax.random.fold_in(key, number), image, *arguments)
        return image

    def preprocess(batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        if "input" in batch:
            return batch["input"].astype(dtype), batch["label"].astype(dtype)
        targets = jax.nn.one_hot(batch["label"], classes, dtype=dtype)
        if FEATURES in batch:
            return batch[FEATURES].astype(dtype), targets
        images = scale(batch["image"], dtype)
        if not augments and mix is None:
            return normalize(images, mean, std), targets
        keys = jax.vmap(functools.partial(jax.random.fold_in, key))(batch["epoch"])
        keys = jax.vmap(jax.random.fold_in)(keys, batch["index"])
        if "repetition" in batch:
            keys = jax.vmap(jax.random.fold_in)(keys, batch["repetition"])
        if augments:
            images = jax.vmap(augmented)(keys, images)
        if mix is not None:
            images, targets = mix(keys, images, targets)
        return normalize(images, mean, std), targets

    return preprocess
