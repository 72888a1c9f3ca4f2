"""Grad-CAM: which regions of an image support a class (Selvaraju et al. 2017, arXiv:1610.02391)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxnets.errors import ConfigError

HEAT = ((0.0, (0, 0, 130)), (0.35, (0, 190, 235)), (0.65, (250, 225, 30)), (1.0, (190, 0, 0)))
"""Colour map of the overlay: blue, cyan, yellow, red."""
MIN_SIDE = 4  # maps with fewer cells per side are too coarse to locate anything
MAX_OPACITY = 0.6  # opacity of the overlay where the map is 1; where the map is 0 the image is unchanged


def make_gradcam(model: nn.Module) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """Returns a function (variables, inputs [B, H, W, C], labels int[B]) -> maps [B, h, w].

    Inputs are preprocessed; a map has the size of the network's `features`. It is the ReLU of the features
    weighted by the mean gradient of the label's logit (equations 1 and 2), divided by its maximum, and 0
    where nothing supports the label. Raises ConfigError for a network without `features` and `head`.
    """
    if not (hasattr(model, "features") and hasattr(model, "head")):
        raise ConfigError(f"Grad-CAM needs a convolutional network; {type(model).__name__} is not one")

    def gradcam(variables: Any, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        features: Any = model.apply(variables, inputs, train=False, method="features")

        def label_logits(features: jax.Array) -> jax.Array:
            logits: Any = model.apply(variables, features, train=False, method="head")
            return jnp.take_along_axis(logits, labels[:, None], axis=1).sum()

        weights = jax.grad(label_logits)(features).mean((1, 2), keepdims=True)
        maps = nn.relu((weights * features).sum(-1))
        largest = maps.max((1, 2), keepdims=True)
        return maps / jnp.where(largest > 0, largest, 1)

    return gradcam


def overlay(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Draws a map [h, w] of values in [0, 1] over an image uint8[S, S, 1 or 3]; returns uint8[S, S, 3]."""
    size = (len(pixels), len(pixels))
    enlarged = Image.fromarray(np.asarray(heat, np.float32)).resize(size, Image.Resampling.BILINEAR)
    values = np.asarray(enlarged)[..., None].clip(0, 1)
    stops = [stop for stop, _ in HEAT]
    colours = np.concatenate(
        [np.interp(values, stops, [colour[i] for _, colour in HEAT]) for i in range(3)], axis=-1
    )
    opacity = MAX_OPACITY * np.sqrt(values)
    return np.rint(pixels * (1 - opacity) + colours * opacity).astype(np.uint8)
