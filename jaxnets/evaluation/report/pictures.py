"""Pictures of a report: which examples are shown, and how an image becomes part of the page."""

import base64
import dataclasses
import io

import numpy as np
from PIL import Image

from jaxnets.evaluation.gradcam import overlay
from jaxnets.evaluation.predictions import Predictions

MIN_SIDE = 112
"""Smaller images are shown enlarged by whole pixels, so that a person sees them."""
JPEG_QUALITY = 88


@dataclasses.dataclass(frozen=True)
class Card:
    """One example as it is shown: data URIs of the image and of the image with its map, and what was told."""

    image: str
    gradcam: str | None
    file: str
    true: str
    description: str
    confidence: float
    true_confidence: float


def most_confident_mistakes(predictions: Predictions, count: int) -> np.ndarray:
    """Places of at most `count` wrong answers, the surest first, one a group where groups are known."""
    confidence = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(~predictions.correct)
    return _one_a_group(predictions, wrong[np.argsort(-confidence[wrong], kind="stable")], count)


def most_uncertain(predictions: Predictions, count: int) -> np.ndarray:
    """Places of at most `count` answers whose two largest shares are nearest to each other, one a group."""
    best = np.sort(predictions.probabilities, axis=1)
    margin = best[:, -1] - best[:, -2]
    return _one_a_group(predictions, np.argsort(margin, kind="stable"), count)


def _one_a_group(predictions: Predictions, places: np.ndarray, count: int) -> np.ndarray:
    if predictions.groups_known:
        _, first = np.unique(predictions.group[places], return_index=True)
        places = places[np.sort(first)]
    return places[:count]


def card(
    predictions: Predictions,
    place: int,
    classes: tuple[str, ...],
    pixels: np.ndarray,
    heat: np.ndarray | None,
) -> Card:
    """The example at `place`, of uint8[S, S, 1 or 3] and a map [h, w] of what speaks for its answer."""
    shares = predictions.probabilities[place]
    shown = enlarged(pixels)
    return Card(
        image=data_uri(shown),
        gradcam=None if heat is None else data_uri(overlay(shown, heat)),
        file=str(predictions.files[place]),
        true=classes[predictions.label[place]],
        description=classes[predictions.predicted[place]],
        confidence=float(shares.max()),
        true_confidence=float(shares[predictions.label[place]]),
    )


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """The image with every pixel drawn as a square, so that it is `MIN_SIDE` pixels a side or more."""
    times = -(-MIN_SIDE // len(pixels))
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def data_uri(pixels: np.ndarray, *, lossless: bool = False) -> str:
    """uint8[H, W, 1 or 3] as a data URI: JPEG, or PNG where every pixel counts."""
    data = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if lossless:
        image.save(data, "PNG", optimize=True)
    else:
        image.save(data, "JPEG", quality=JPEG_QUALITY)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def confusion_picture(confusion: np.ndarray, most: int = 250) -> str:
    """A large confusion matrix [K, K] as a picture: each row's shares, blocks by their largest cell."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    block = -(-len(shares) // most)
    padding = -len(shares) % block
    padded_eval_batches = np.pad(shares, ((0, padding), (0, padding)))
    side = len(padded_eval_batches) // block
    cells = padded_eval_batches.reshape(side, block, side, block).max(axis=(1, 3))
    grey = 255 - np.rint(255 * np.sqrt(cells))  # the root shows small shares too
    times = -(-300 // side)
    picture = grey.astype(np.uint8)[..., None].repeat(times, axis=0).repeat(times, axis=1)
    return data_uri(picture, lossless=True)
