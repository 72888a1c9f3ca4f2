"""Augmentations, and their independence of the batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxnets import config as config_lib
from jaxnets.training import mixing, preprocess
from jaxnets.training.preprocess import make_preprocess

IMAGE = jnp.asarray(np.random.default_rng(0).uniform(0.05, 0.95, (12, 12, 3)), jnp.float32)
KEYS = jax.random.split(jax.random.key(0), 64)


def _apply_with_all_keys(function) -> np.ndarray:
    return np.asarray(jax.vmap(lambda key: function(key, IMAGE))(KEYS))


@pytest.mark.parametrize(
    ("function", "count"),
    [(preprocess.flip_horizontal, 2), (preprocess.flip_vertical, 2), (preprocess.right_angles, 4)],
)
def test_symmetries_permute_pixels_and_give_every_variant(function, count: int) -> None:
    images = _apply_with_all_keys(function)
    for image in images:
        np.testing.assert_array_equal(np.sort(image, axis=None), np.sort(IMAGE, axis=None))
    assert len({image.tobytes() for image in images}) == count


def test_flip_horizontal_reverses_columns() -> None:
    found = {image.tobytes() for image in _apply_with_all_keys(preprocess.flip_horizontal)}
    assert found == {np.asarray(IMAGE).tobytes(), np.ascontiguousarray(IMAGE[:, ::-1]).tobytes()}


def test_rotation_by_zero_is_the_identity_and_keeps_the_centre() -> None:
    unrotated = preprocess.rotate(KEYS[0], IMAGE, degrees=0.0)
    np.testing.assert_allclose(unrotated, IMAGE, atol=1e-5)
    odd = jnp.zeros((9, 9, 1)).at[4, 4].set(1.0)
    rotated = preprocess.rotate(KEYS[1], odd, degrees=180.0)
    assert np.unravel_index(np.argmax(rotated), rotated.shape) == (4, 4, 0)


@pytest.fixture
def maximal_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every uniform draw return its upper bound."""
    monkeypatch.setattr(
        jax.random, "uniform", lambda key, shape, dtype, low, high: jnp.full(shape, high, dtype)
    )


@pytest.mark.usefixtures("maximal_draws")
def test_rotation_matches_scipy() -> None:
    quarter = preprocess.rotate(KEYS[0], IMAGE, degrees=90.0)
    np.testing.assert_allclose(quarter, np.rot90(IMAGE, -1), atol=1e-5)
    expected = ndimage.rotate(np.asarray(IMAGE), -30, (1, 0), reshape=False, order=1, mode="mirror")
    np.testing.assert_allclose(preprocess.rotate(KEYS[0], IMAGE, degrees=30.0), expected, atol=1e-4)


@pytest.mark.usefixtures("maximal_draws")
def test_brightness_contrast_and_saturation_match_their_formulas() -> None:
    image = np.asarray(IMAGE) * 0.5
    grey = (image @ np.array(preprocess.LUMA))[..., None]
    for name, expected in (
        ("brightness", image * 1.4),
        ("contrast", grey.mean() + (image - grey.mean()) * 1.4),
        ("saturation", grey + (image - grey) * 1.4),
    ):
        found = getattr(preprocess, name)(KEYS[0], jnp.asarray(image), amount=0.4)
        np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-5, err_msg=name)


def test_padded_crop_is_a_shift() -> None:
    padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)))
    shifts = [padded[i : i + 12, j : j + 12].tobytes() for i in range(5) for j in range(5)]
    found = {i.tobytes() for i in _apply_with_all_keys(functools.partial(preprocess.padded_crop, padding=2))}
    assert found <= set(shifts)
    assert len(found) > 15


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue", "stain"])
def test_colour_augmentations_stay_in_range_and_amount_zero_is_the_identity(name: str) -> None:
    function = getattr(preprocess, name)
    images = _apply_with_all_keys(functools.partial(function, amount=0.4))
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std(axis=0).max() > 0.01
    np.testing.assert_allclose(function(KEYS[0], IMAGE, amount=0.0), IMAGE, atol=1e-5)


def test_saturation_and_hue_preserve_grey() -> None:
    grey = jnp.repeat(IMAGE[..., :1], 3, axis=-1)
    for function in (preprocess.saturation, preprocess.hue):
        np.testing.assert_allclose(function(KEYS[0], grey, amount=0.4), grey, atol=1e-5)


def test_mixup_uses_the_same_weight_for_images_and_targets() -> None:
    images = jnp.stack([jnp.zeros((2, 2, 1)), jnp.ones((2, 2, 1))])
    mixed, targets = mixing.mixup(KEYS[:2], images, jnp.eye(2), alpha=1.0)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixed[0, 0, 0, 0], targets[0, 1], rtol=1e-6)


def test_random_resized_crop_is_a_crop_of_the_image() -> None:
    ramp = jnp.tile(jnp.arange(12.0)[:, None, None], (1, 12, 1))
    crop = functools.partial(preprocess.random_resized_crop, min_area=0.3)
    images = np.asarray(jax.jit(jax.vmap(lambda key: crop(key, ramp)))(KEYS))
    assert (np.ptp(images, axis=2) < 1e-5).all()  # columns stay constant
    extents = images[:, -1, 0, 0] - images[:, 0, 0, 0]
    assert (extents > np.sqrt(0.3 * 0.75) * 12 - 2).all()
    assert extents.std() > 0.5
    whole = preprocess.random_resized_crop(
        KEYS[0], IMAGE, min_area=1.0
    )  # only a square of the full size fits
    np.testing.assert_allclose(whole, IMAGE, atol=1e-6)


def test_cutmix_mixes_targets_by_the_area_of_the_box() -> None:
    images = jnp.arange(64.0)[:, None, None, None] * jnp.ones((1, 9, 7, 1))
    cutmix = jax.jit(functools.partial(mixing.cutmix, alpha=1.0))
    mixed, targets = cutmix(KEYS, images, jnp.eye(64))
    pasted = np.asarray(mixed == jnp.roll(images, 1, axis=0))[..., 0]
    assert (pasted | np.asarray(mixed == images)[..., 0]).all()
    np.testing.assert_allclose(
        np.asarray(targets)[np.arange(64), np.arange(64) - 1], pasted.mean((1, 2)), 1e-6
    )
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    for box in pasted:  # a rectangle
        rows, columns = box.any(axis=1), box.any(axis=0)
        np.testing.assert_array_equal(box, rows[:, None] & columns[None])
    assert 0.05 < pasted.mean() < 0.5


def test_with_mixup_and_cutmix_each_image_gets_one_of_both() -> None:
    images = jnp.stack([jnp.zeros((6, 6, 1)), jnp.ones((6, 6, 1))] * 32)
    config = config_lib.default_config().augment
    assert mixing.make_mixing(config) is None
    config.mixup = config.cutmix = 1.0
    mix = mixing.make_mixing(config)
    assert mix is not None
    mixed, targets = jax.jit(mix)(KEYS, images, jnp.eye(64))
    is_mixup = np.asarray((mixed > 0.01) & (mixed < 0.99)).all(axis=(1, 2, 3))
    is_cutmix = np.asarray((mixed == 0) | (mixed == 1)).all(axis=(1, 2, 3))
    assert is_mixup.sum() > 15
    assert is_cutmix.sum() > 15
    own = np.asarray(targets)[np.arange(64), np.arange(64)]
    for image, original, weight in zip(np.asarray(mixed), np.asarray(images), own, strict=True):
        np.testing.assert_allclose(np.abs(image - original).mean(), 1 - weight, atol=1e-5)


def test_repetitions_of_an_example_are_augmented_differently() -> None:
    config = config_lib.default_config()
    config.model.num_classes, config.augment.random_resized_crop = 2, 0.2
    batch = {
        "image": np.repeat(np.random.default_rng(0).integers(0, 256, (1, 12, 12, 3), np.uint8), 3, axis=0),
        "label": np.zeros(3, np.int32),
        "index": np.zeros(3, np.int64),
        "epoch": np.zeros(3, np.int32),
        "repetition": np.array([0, 1, 0], np.int32),
    }
    images, _ = jax.jit(make_preprocess(config, train=True))(batch, jax.random.key(0))
    np.testing.assert_array_equal(images[0], images[2])
    assert not np.allclose(images[0], images[1])


def test_augmentation_does_not_depend_on_the_batch() -> None:
    config = config_lib.default_config()
    config.model.num_classes = 3
    for name in ("flip_horizontal", "flip_vertical", "right_angles"):
        config.augment[name] = True
    config.augment.rotation_degrees, config.augment.stain, config.augment.crop_padding = (20.0, 0.3, 2)
    config.augment.random_resized_crop = 0.5
    preprocess = jax.jit(make_preprocess(config, train=True))
    generator = np.random.default_rng(0)
    batch = {
        "image": generator.integers(0, 256, (6, 12, 12, 3), dtype=np.uint8),
        "label": np.zeros(6, np.int32),
        "index": np.arange(6),
        "epoch": np.full(6, 2, np.int32),
    }
    full, _ = preprocess(batch, jax.random.key(5))
    order = np.array([4, 1])
    part, _ = preprocess({k: v[order] for k, v in batch.items()}, jax.random.key(5))
    np.testing.assert_allclose(part, full[order], atol=1e-5)
    later, _ = preprocess({**batch, "epoch": np.full(6, 3, np.int32)}, jax.random.key(5))
    assert not np.allclose(later, full)


def test_evaluation_is_never_augmented() -> None:
    config = config_lib.default_config()
    config.model.num_classes, config.augment.flip_horizontal = 3, True
    image = np.arange(16 * 3, dtype=np.uint8).reshape(1, 4, 4, 3)
    batch = {"image": image, "label": np.array([2]), "index": np.array([0]), "epoch": np.array([0])}
    inputs, targets = make_preprocess(config, train=False)(batch, jax.random.key(0))
    np.testing.assert_allclose(inputs, (image / 255 - 0.5) / 0.5, atol=1e-6)
    np.testing.assert_array_equal(targets, [[0, 0, 1]])
