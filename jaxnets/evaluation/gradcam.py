"""Grad-CAM: which parts of an image speak for a class (Selvaraju et al. 2017, arXiv:1610.02391)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxnets.errors import ConfigError

HEAT = ((0.0, (0, 0, 130)), (0.35, (0, 190, 235)), (0.65, (250, 225, 30)), (1.0, (190, 0, 0)))
"""Colours of the overlay by the map's value: blue, cyan, yellow, red."""
STRENGTH = 0.6
"""The share of the heat's colour where the map is 1; where it is 0, the image is left as it is."""


def make_gradcam(model: nn.Module) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """A function (variables, inputs [B, H, W, C], labels int[B]) -> maps [B, h, w], of `features`' size.

    Inputs are as the network takes them, preprocessed. A map is the ReLU of the features summed with the
    mean gradient of the label's logit as weights (equations 1 and 2), divided by its largest value; it is
    zero where nothing speaks for the label. Raises ConfigError for a network without `features` and `head`.
    """
    if not (hasattr(model, "features") and hasattr(model, "head")):
        raise ConfigError(
            f"Grad-CAM needs a convolutional network, and {type(model).__name__} is none"
        )

    def gradcam(variables: Any, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        features: Any = model.apply(variables, inputs, train=False, method="features")

        def of_label(features: jax.Array) -> jax.Array:
            logits: Any = model.apply(variables, features, train=False, method="head")
            return jnp.take_along_axis(logits, labels[:, None], axis=1).sum()

        weights = jax.grad(of_label)(features).mean((1, 2), keepdims=True)
        maps = nn.relu((weights * features).sum(-1))
        largest = maps.max((1, 2), keepdims=True)
        return maps / jnp.where(largest > 0, largest, 1)

    return gradcam


def stretch(heat: np.ndarray, size: int) -> np.ndarray:
    """A map [h, w] enlarged to float32[size, size], bilinear, as if its cells tiled the image."""
    enlarged = Image.fromarray(np.asarray(heat, np.float32)).resize(
        (size, size), Image.Resampling.BILINEAR
    )
    return np.asarray(enlarged)


def overlay(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A map [h, w] of values in [0, 1] drawn over uint8[S, S, 1 or 3]: uint8[S, S, 3]."""
    strength = stretch(heat, len(pixels))[..., None].clip(0, 1)
    places = [place for place, _ in HEAT]
    colours = np.concatenate(
        [np.interp(strength, places, [colour[i] for _, colour in HEAT]) for i in range(3)], axis=-1
    )
    share = STRENGTH * np.sqrt(strength)
    return np.rint(pixels * (1 - share) + colours * share).astype(np.uint8)
