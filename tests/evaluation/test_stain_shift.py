"""Colour and stain shifts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import config as config_lib
from jaxnets.training.preprocess import STAINS, make_preprocess
from studies import stain_jitter

KINDS = list(stain_jitter.SHIFTS)


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    """Returns pixels [6, 6, 3] stained with haematoxylin and eosin."""
    amounts = np.random.default_rng(0).uniform(0.2, 0.8, (6, 6, 2))
    stains = np.array(STAINS[:2])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    return np.exp(-amounts @ stains).astype(np.float32)


def _density(image: np.ndarray) -> np.ndarray:
    """Returns the densities [H, W, 2] of the two stains, by least squares."""
    stains = np.array(STAINS[:2])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    return -np.log(image) @ np.linalg.pinv(stains)


def _shifted(image: np.ndarray, kind: str, strength: float) -> np.ndarray:
    number = jnp.asarray(KINDS.index(kind))
    return np.asarray(stain_jitter.shift_colours(jnp.asarray(image), number, jnp.float32(strength)))


@pytest.mark.parametrize("kind", KINDS)
def test_neutral_strength_is_the_identity(kind: str, tissue: np.ndarray) -> None:
    neutral = stain_jitter.NEUTRAL[kind]
    assert neutral not in stain_jitter.SHIFTS[kind]
    np.testing.assert_allclose(_shifted(tissue, kind, neutral), tissue, atol=1e-5)
    gaps = [np.abs(_shifted(tissue, kind, each) - tissue).mean() for each in (0.9, 0.5)]
    assert 0.001 < gaps[0] < gaps[1]


def test_stains_scale_independently(tissue: np.ndarray) -> None:
    for kind, factors in (("haematoxylin", (1.5, 1)), ("eosin", (1, 1.5))):
        found = _density(_shifted(tissue, kind, 1.5))
        np.testing.assert_allclose(found, _density(tissue) * factors, atol=1e-4)


def test_saturation_zero_is_grey_and_hue_permutes_channels() -> None:
    image = np.random.default_rng(1).uniform(0.3, 0.6, (4, 4, 3)).astype(np.float32)
    grey = _shifted(image, "saturation", 0.0)
    np.testing.assert_allclose(grey, grey[..., :1].repeat(3, axis=-1), atol=1e-6)
    rotated = _shifted(image, "hue", 1 / 3)
    assert np.abs(np.sort(rotated, axis=-1) - np.sort(image, axis=-1)).max() < 1e-5
    assert np.abs(rotated - image).max() > 0.05


def test_shifted_preprocess_matches_evaluation_otherwise() -> None:
    config = config_lib.default_config()
    config.model.num_classes = 2
    pixels = np.random.default_rng(2).integers(40, 200, (3, 4, 4, 3), dtype=np.uint8)
    batch = {"image": pixels, "label": np.array([0, 1, 1], np.int32)}
    key = jax.random.key(0)
    plain, targets = make_preprocess(config, train=False)(batch, key)
    shifted = stain_jitter.make_shifted_preprocess(config)

    def given(kind: str, strength: float) -> dict[str, np.ndarray]:
        number = np.full(3, KINDS.index(kind), np.int32)
        fields = {stain_jitter.KIND: number, stain_jitter.STRENGTH: np.full(3, strength, np.float32)}
        return {**batch, **fields}

    unshifted, shifted_targets = shifted(given("hue", 0.0), key)
    np.testing.assert_allclose(unshifted, plain, atol=1e-5)
    np.testing.assert_array_equal(shifted_targets, targets)
    grey, _ = shifted(given("saturation", 0.0), key)
    np.testing.assert_allclose(grey[..., 0], grey[..., 1], atol=1e-5)


def test_draw_returns_a_png() -> None:
    entry = {"accuracy": 0.9, "interval": [0.8, 0.95]}
    shifts = {
        kind: [{"strength": strength, **entry} for strength in strengths]
        for kind, strengths in stain_jitter.SHIFTS.items()
    }
    picture = stain_jitter.draw({"split_description": "grouped", "clean": entry, "shifts": shifts})
    assert picture.startswith(b"\x89PNG")
