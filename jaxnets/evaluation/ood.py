"""A score for images unlike the training images (out of distribution), from distances of features."""

import dataclasses
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxnets.errors import CheckpointError
from jaxnets.evaluation import conformal
from jaxnets.io import command

FILE = "ood.npz"


@dataclasses.dataclass(frozen=True)
class FeatureDistance:
    """The Mahalanobis distance of features from the nearest class of the training images.

    Features are the last feature maps, averaged over positions. All classes share one covariance.

    References:
        Lee et al. (2018), A simple unified framework for detecting out-of-distribution samples
    """

    step: np.ndarray  # int64[], the checkpoint that the features are of
    means: np.ndarray  # float32[K, D], of the training images of each class, whitened
    whitening: np.ndarray  # float32[D, D], of the covariance within classes
    distances: np.ndarray  # float32[M], of the validation images
    weights: np.ndarray  # float64[M], their group weights

    @classmethod
    def fit(
        cls, step: int, train: np.ndarray, labels: np.ndarray, validation: np.ndarray, groups: np.ndarray
    ) -> "FeatureDistance":
        """Fits the distance on training images and calibrates it on validation images.

        Args:
            step: the step of the checkpoint.
            train: features [N, D] of training images.
            labels: int[N], their classes.
            validation: features [M, D] of images that the network was not trained on.
            groups: int[M], equal for near-duplicates.
        """
        from sklearn.covariance import ledoit_wolf  # slow to import

        classes, number = np.unique(labels, return_inverse=True)
        means = np.stack([train[labels == each].mean(axis=0, dtype=float) for each in classes])
        covariance, _ = ledoit_wolf(train - means[number], assume_centered=True)
        eigenvalues, vectors = np.linalg.eigh(covariance)
        # Directions without variance (of channels that are always 0) do not count.
        usable = eigenvalues > eigenvalues[-1] * np.finfo(np.float32).eps
        scales = np.where(usable, 1 / np.sqrt(np.where(usable, eigenvalues, 1)), 0)
        whitening = (vectors * scales).astype(np.float32)
        unfitted = cls(
            np.array(step), means.astype(np.float32) @ whitening, whitening, np.zeros(0), np.zeros(0)
        )
        return dataclasses.replace(
            unfitted, distances=unfitted.distance(validation), weights=conformal.group_weights(groups)
        )

    def distance(self, features: np.ndarray) -> np.ndarray:
        """float32[N]: the distance of features [N, D] from the nearest class."""
        whitened = features.astype(np.float32) @ self.whitening
        return np.stack([np.linalg.norm(whitened - mean, axis=1) for mean in self.means]).min(axis=0)

    def score(self, features: np.ndarray) -> np.ndarray:
        """float64[N]: the fraction of validation images that are closer to the training images.

        At most 5 % of the images of new groups, on average, have a score of 0.95 or more.
        """
        return 1 - conformal.p_values(self.distance(features), self.distances, self.weights)

    def to_bytes(self) -> bytes:
        """The content of ood.npz."""
        packed = io.BytesIO()
        np.savez_compressed(packed, **vars(self))
        return packed.getvalue()


def read(data: bytes, path: Path) -> FeatureDistance:
    """Parses the bytes of ood.npz; raises CheckpointError if they are corrupt."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return FeatureDistance(
                **{field.name: arrays[field.name] for field in dataclasses.fields(FeatureDistance)}
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        remedy = f"{command('evaluate')} --workdir=RUN --ood writes it again"
        raise CheckpointError(f"{path} is damaged ({error}): {remedy}") from error
