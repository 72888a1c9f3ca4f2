"""Colour and stain shifts of test images, to test robustness: LC25000 is from a single camera."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxnets.training.preprocess import (
    Batch,
    Preprocess,
    normalize,
    rotate_hue,
    scale,
    scale_saturation,
    scale_stains,
)

KIND, STRENGTH = "shift_kind", "shift_strength"
"""Additional fields of a batch: the index of a kind in SHIFTS, int32 [B], and its strength, float32 [B]."""

FACTORS = (0.5, 0.65, 0.8, 0.9, 1.1, 1.25, 1.5)
SHIFTS: Mapping[str, tuple[float, ...]] = {
    "hue": (-0.10, -0.05, -0.02, 0.02, 0.05, 0.10),
    "saturation": (0.0, *FACTORS),
    "haematoxylin": FACTORS,
    "eosin": FACTORS,
}
"""Strengths by kind: hue as a fraction of a full turn, others as factors of saturation or optical density."""
NEUTRAL: Mapping[str, float] = {"hue": 0.0, "saturation": 1.0, "haematoxylin": 1.0, "eosin": 1.0}
LABELS = {
    "hue": "hue, share of a turn",
    "saturation": "saturation, factor",
    "haematoxylin": "haematoxylin, factor",
    "eosin": "eosin, factor",
}


def shift_colours(image: jax.Array, kind: jax.Array, strength: jax.Array) -> jax.Array:
    """Shifts an image [H, W, 3] in [0, 1]; `kind` is an index of SHIFTS."""
    one = jnp.ones((), image.dtype)
    functions = (
        rotate_hue,
        scale_saturation,
        lambda image, factor: scale_stains(image, jnp.stack([factor, one])),
        lambda image, factor: scale_stains(image, jnp.stack([one, factor])),
    )
    return jax.lax.switch(kind, functions, image, strength.astype(image.dtype))


def make_shifted_preprocess(config: config_dict.ConfigDict) -> Preprocess:
    """Returns preprocessing for evaluation that shifts each image by the batch's KIND and STRENGTH."""
    dtype, classes = jnp.dtype(config.model.dtype), config.model.num_classes
    mean, std = tuple(config.data.mean), tuple(config.data.std)

    def preprocess(batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        del key
        images = scale(batch["image"], dtype)
        images = jax.vmap(shift_colours)(images, batch[KIND], batch[STRENGTH])
        targets = jax.nn.one_hot(batch["label"], classes, dtype=dtype)
        return normalize(images, mean, std), targets

    return preprocess


def curve(measured: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """Returns the entries of a kind ordered by strength, including the original images.

    `measured` is {"split_description": text, "clean": entry, "shifts": {kind: [{"strength", **entry}]}},
    entries as in result.json.
    """
    clean = {"strength": NEUTRAL[kind], **measured["clean"]}
    return sorted([*measured["shifts"][kind], clean], key=lambda row: row["strength"])


def draw(measured: Mapping[str, Any]) -> bytes:
    """Returns a PNG with one panel per kind: accuracy over strength with intervals; needs matplotlib.

    `measured` as in `curve`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = figure.subplots(1, len(SHIFTS), sharey=True)
    for panel, kind in zip(panels, measured["shifts"], strict=True):
        rows = curve(measured, kind)
        strengths = [row["strength"] for row in rows]
        low, high = zip(*(row["interval"] for row in rows), strict=True)
        panel.fill_between(strengths, _percent(low), _percent(high), alpha=0.25, linewidth=0)
        panel.plot(strengths, _percent([row["accuracy"] for row in rows]), marker="o", markersize=3)
        panel.axvline(NEUTRAL[kind], color="grey", linewidth=0.8, linestyle=":")
        panel.set_xlabel(LABELS[kind])
    panels[0].set_ylabel("accuracy, %")
    figure.suptitle(f"split: {measured['split_description']}", fontsize=10)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _percent(fractions: Sequence[float]) -> list[float]:
    return [100 * fraction for fraction in fractions]
