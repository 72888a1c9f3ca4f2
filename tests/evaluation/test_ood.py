"""The distance of features from those of training images, and its score."""

from pathlib import Path

import numpy as np
import pytest

from jaxnets.errors import CheckpointError
from jaxnets.evaluation import ood

DIMENSIONS = 6


def _features(generator: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Two classes with correlated features; the last channel is always 0."""
    mixing = np.random.default_rng(9).normal(size=(DIMENSIONS, DIMENSIONS))
    mixing[:, -1] = 0
    means = np.eye(DIMENSIONS)[:2] * 5
    return ((generator.normal(size=(len(labels), DIMENSIONS)) + means[labels]) @ mixing).astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> ood.FeatureDistance:
    generator = np.random.default_rng(0)
    labels, validation = np.arange(4000) % 2, np.arange(400) % 2
    features = _features(generator, labels), _features(generator, validation)
    return ood.FeatureDistance.fit(7, features[0], labels, features[1], np.arange(400))


def test_the_distance_is_that_of_mahalanobis(fitted: ood.FeatureDistance) -> None:
    """Whitened by the covariance within classes, 5 dimensions of variance 1 are left."""
    generator = np.random.default_rng(1)
    squared = fitted.distance(_features(generator, np.arange(3000) % 2)) ** 2
    assert squared.mean() == pytest.approx(5, rel=0.05)


def test_the_score_is_uniform_for_new_images_and_high_for_others(fitted: ood.FeatureDistance) -> None:
    generator = np.random.default_rng(2)
    scores = fitted.score(_features(generator, np.arange(3000) % 2))
    assert np.quantile(scores, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.05)
    far = fitted.score(2 * _features(generator, np.arange(300) % 2))
    assert np.median(far) > 0.99
    assert far.max() == pytest.approx(1 - 1 / 401)


def test_the_file_restores_the_distance(fitted: ood.FeatureDistance) -> None:
    features = _features(np.random.default_rng(3), np.arange(8) % 2)
    again = ood.read(fitted.to_bytes(), Path("x/ood.npz"))
    assert again.step == 7
    np.testing.assert_array_equal(again.score(features), fitted.score(features))


@pytest.mark.parametrize("data", [b"", b"not an archive"])
def test_a_damaged_file_raises(data: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"x/ood.npz is damaged .*--ood writes it again"):
        ood.read(data, Path("x/ood.npz"))
