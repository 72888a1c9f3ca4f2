"""The leakage that remains if a finder's groups make the split, and what it does to a test accuracy."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.duplicates.image_sets import ImageSet
from benchmarks.duplicates.scored_pairs import list_images
from jaxnets.data.splits import grouped_split, leaked_fractions
from jaxnets.errors import DataError

SEEDS = 20
FRACTIONS = (0.7, 0.15, 0.15)
LEVELS = 8
"""Histogram bins per channel."""


@dataclasses.dataclass(frozen=True)
class NearestNeighbour:
    """A classifier: the class of the training image with the most similar colour histogram.

    Attributes:
      distances: Squared distances of the histograms' square roots, float32[N, N].
      labels: Classes, int[N].
    """

    distances: np.ndarray
    labels: np.ndarray

    def accuracy(self, train: np.ndarray, test: np.ndarray) -> float:
        """Returns the accuracy on the images `test`."""
        nearest = train[self.distances[np.ix_(test, train)].argmin(axis=1)]
        return float((self.labels[nearest] == self.labels[test]).mean())


def nearest_neighbour(image_set: ImageSet) -> NearestNeighbour:
    """Computes the colour histograms of all images and their distances."""
    rows = np.stack([_histogram(np.asarray(Image.open(path))) for path in list_images(image_set.images)])
    lengths = (rows**2).sum(axis=1)
    distances = lengths[:, None] - 2 * rows @ rows.T + lengths
    return NearestNeighbour(distances, np.unique(image_set.classes, return_inverse=True)[1])


def _histogram(pixels: np.ndarray) -> np.ndarray:
    levels = pixels.reshape(-1, 3).astype(np.int64) * LEVELS // 256
    colours = (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]
    return np.sqrt(np.bincount(colours, minlength=LEVELS**3) / len(colours)).astype(np.float32)


def measure_split(
    groups: np.ndarray,
    labels: np.ndarray,
    truths: Mapping[str, np.ndarray],
    classifier: NearestNeighbour | None = None,
) -> dict[str, Any]:
    """Splits by a finder's groups with `SEEDS` seeds and measures the leakage by known groups.

    Args:
      groups: The finder's groups, int[N].
      labels: Classes, int[N].
      truths: Known groups int[N] by name.
      classifier: What is tested on the splits.

    Returns:
      By truth the mean fraction of test images with a copy in training; `accuracy`; `test_fraction`, which
      large groups change; or `no_split`, why the groups cannot be split.
    """
    groups = np.unique(groups, return_inverse=True)[1]
    leaks: dict[str, list[float]] = {name: [] for name in truths}
    accuracies, fractions = [], []
    for seed in range(SEEDS):
        try:
            split = grouped_split(labels, groups, FRACTIONS, seed)
        except DataError as error:
            return {"no_split": str(error)}
        fractions.append(len(split.test) / len(labels))
        for name, truth in truths.items():
            leaks[name].append(leaked_fractions(split, truth)["test"] or 0.0)
        if classifier is not None:
            accuracies.append(classifier.accuracy(split.train, split.test))
    found: dict[str, Any] = {
        "leakage": {name: float(np.mean(values)) for name, values in leaks.items()},
        "test_fraction": float(np.mean(fractions)),
    }
    if accuracies:
        found["accuracy"] = float(np.mean(accuracies))
        found["accuracy_deviation"] = float(np.std(accuracies))
    return found
