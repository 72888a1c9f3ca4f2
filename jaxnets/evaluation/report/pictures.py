"""The images of a report: which examples are shown, and their encoding as data URIs."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxnets.evaluation.gradcam import overlay
from jaxnets.evaluation.predictions import Predictions

MIN_SIDE = 112
"""Smaller images are enlarged by an integer factor."""
JPEG_QUALITY = 88


@dataclasses.dataclass(frozen=True)
class Card:
    """One example of the page: data URIs of the image and its Grad-CAM overlay, label and prediction."""

    image: str
    gradcam: str | None
    file: str
    true: str
    predicted: str
    confidence: float
    true_confidence: float


def most_confident_mistakes(predictions: Predictions, count: int) -> np.ndarray:
    """Positions of up to `count` wrong predictions, most confident first, at most one per group."""
    confidence = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(~predictions.correct)
    return _first_per_group(predictions, wrong[np.argsort(-confidence[wrong], kind="stable")], count)


def most_uncertain(predictions: Predictions, count: int) -> np.ndarray:
    """Positions of up to `count` predictions with the smallest top-two margin, at most one per group."""
    ordered = np.sort(predictions.probabilities, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    return _first_per_group(predictions, np.argsort(margin, kind="stable"), count)


def _first_per_group(predictions: Predictions, positions: np.ndarray, count: int) -> np.ndarray:
    if predictions.groups_known:
        _, first = np.unique(predictions.group[positions], return_index=True)
        positions = positions[np.sort(first)]
    return positions[:count]


def card(
    predictions: Predictions,
    position: int,
    classes: Sequence[str],
    pixels: np.ndarray,
    heat: np.ndarray | None,
) -> Card:
    """The example at `position`, from its image uint8[S, S, 1 or 3] and its Grad-CAM map [h, w]."""
    label, probabilities = predictions.label[position], predictions.probabilities[position]
    predicted = int(probabilities.argmax())
    times = -(-MIN_SIDE // len(pixels))
    shown = pixels.repeat(times, axis=0).repeat(times, axis=1)
    return Card(
        image=_data_uri(shown),
        gradcam=None if heat is None else _data_uri(overlay(shown, heat)),
        file=str(predictions.files[position]),
        true=classes[label],
        predicted=classes[predicted],
        confidence=float(probabilities[predicted]),
        true_confidence=float(probabilities[label]),
    )


def _data_uri(pixels: np.ndarray, *, lossless: bool = False) -> str:
    """uint8[H, W, 1 or 3] as the data URI of a JPEG, or of a PNG if `lossless`."""
    data = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if lossless:
        image.save(data, "PNG", optimize=True)
    else:
        image.save(data, "JPEG", quality=JPEG_QUALITY)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def confusion_picture(confusion: np.ndarray, max_side: int = 250) -> str:
    """A large confusion matrix [K, K] as a picture: row fractions, max-pooled to at most `max_side` cells."""
    fractions = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    block = -(-len(fractions) // max_side)
    padding = -len(fractions) % block
    padded = np.pad(fractions, ((0, padding), (0, padding)))
    side = len(padded) // block
    cells = padded.reshape(side, block, side, block).max(axis=(1, 3))
    grey = 255 - np.rint(255 * np.sqrt(cells))  # the root makes small fractions visible
    times = -(-300 // side)
    picture = grey.astype(np.uint8)[..., None].repeat(times, axis=0).repeat(times, axis=1)
    return _data_uri(picture, lossless=True)
