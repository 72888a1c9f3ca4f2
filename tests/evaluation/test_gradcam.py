"""Grad-CAM compared with occlusion and class activation maps."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import ConfigError
from jaxnets.evaluation.gradcam import make_gradcam, overlay
from jaxnets.models.lenet import LeNet5
from jaxnets.models.mlp import MLP
from jaxnets.models.resnet import ResNet

SIZE, PATCH = 40, 10
RED, GREEN = (6, 6), (22, 24)
"""Upper left corners of the patches; the green one is brighter."""


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Returns a red and a green patch on black, [1, SIZE, SIZE, 3]."""
    pixels = np.zeros((1, SIZE, SIZE, 3), np.float32)
    for (row, column), channel, value in ((RED, 0, 0.6), (GREEN, 1, 1.0)):
        pixels[0, row : row + PATCH, column : column + PATCH, channel] = value
    return pixels


@pytest.fixture(scope="module")
def model() -> LeNet5:
    return LeNet5(num_classes=2)


@pytest.fixture(scope="module")
def random_weights(model: LeNet5) -> dict:
    return models.initialize(model, jax.random.key(3), (1, SIZE, SIZE, 3))


@pytest.fixture(scope="module")
def constructed_weights(random_weights: dict) -> dict:
    """Returns weights that sum red for class 0 and green for class 1, in separate channels."""
    weights = jax.tree.map(np.zeros_like, random_weights)["params"]
    for colour in (0, 1):
        weights["conv1"]["kernel"][:, :, colour, colour] = 1 / 25
        weights["conv2"]["kernel"][:, :, colour, colour] = 1 / 25
        weights["dense1"]["kernel"].reshape(-1, 16, 120)[:, colour, colour] = 1
        weights["dense2"]["kernel"][colour, colour] = 1
        weights["classifier"]["kernel"][colour, colour] = 1
        weights["classifier"]["kernel"][colour, 1 - colour] = -1
    return {"params": weights, "batch_stats": {}}


@pytest.fixture(scope="module")
def gradcam(model: LeNet5) -> Callable[[dict, np.ndarray, int], np.ndarray]:
    """Returns a function that computes the map [h, w] of one image."""
    compiled = jax.jit(make_gradcam(model))
    return lambda variables, image, label: np.asarray(compiled(variables, image, jnp.array([label])))[0]


def _occlusion(model: LeNet5, variables: dict, image: np.ndarray, label: int) -> np.ndarray:
    """Returns the decrease of the label's logit when a square at each position is made black."""
    side, positions = PATCH, range(0, SIZE - PATCH + 1, 3)
    copies = np.repeat(image, len(positions) ** 2, axis=0)
    for copy, (row, column) in zip(
        copies, ((row, column) for row in positions for column in positions), strict=True
    ):
        copy[row : row + side, column : column + side] = 0
    logits = jax.jit(model.apply)(variables, np.concatenate([image, copies]))
    decrease = logits[0, label] - logits[1:, label]
    return np.asarray(decrease).reshape(len(positions), len(positions))


@pytest.mark.parametrize(("label", "corner"), [(0, RED), (1, GREEN)])
def test_matches_occlusion(
    model: LeNet5, gradcam, constructed_weights: dict, image: np.ndarray, label: int, corner: tuple[int, int]
) -> None:
    maps = gradcam(constructed_weights, image, label), _occlusion(model, constructed_weights, image, label)
    heat, decrease = (np.asarray(jax.image.resize(each, (SIZE, SIZE), "linear")) for each in maps)
    for map_ in (heat, decrease):
        hottest = np.unravel_index(map_.argmax(), map_.shape)
        for position, start in zip(hottest, corner, strict=True):
            assert start <= position < start + PATCH
    assert np.corrcoef(heat.ravel(), decrease.clip(0).ravel())[0, 1] > 0.8


@pytest.mark.parametrize("part", ["all", "classifier"])
def test_randomised_weights_change_the_map(
    gradcam, constructed_weights: dict, random_weights: dict, image: np.ndarray, part: str
) -> None:
    other = dict(constructed_weights["params"])
    if part == "all":
        other = random_weights["params"]
    else:
        other[part] = random_weights["params"][part]
    ours = gradcam(constructed_weights, image, 0)
    theirs = gradcam({"params": other, "batch_stats": {}}, image, 0)
    norms = np.linalg.norm(ours) * np.linalg.norm(theirs)
    assert (ours * theirs).sum() < 0.5 * norms or norms == 0  # zero: no evidence for the class


CELL, CELLS, PATCH_CELL = 32, 5, (3, 1)
"""The stride of ResNet's last feature map, its size, and the cell of the patch."""


@pytest.fixture(scope="module")
def residual() -> tuple[ResNet, dict, np.ndarray]:
    """Returns a narrow ResNet, random weights, and a bright patch [1, H, W, 3] on black."""
    model = ResNet(num_classes=2, stage_sizes=(1, 1, 1, 1), width=4)
    shape = (1, CELL * CELLS, CELL * CELLS, 3)
    row, column = (CELL * cell for cell in PATCH_CELL)
    pixels = np.zeros(shape, np.float32)
    pixels[0, row : row + CELL, column : column + CELL] = 1
    return model, models.initialize(model, jax.random.key(0), shape), pixels


def test_matches_occlusion_with_residual_blocks(residual) -> None:
    model, variables, pixels = residual
    cells = [(row, column) for row in range(CELLS) for column in range(CELLS)]
    copies = np.repeat(pixels, len(cells) + 1, axis=0)
    for copy, (row, column) in zip(copies[1:], cells, strict=True):
        copy[CELL * row : CELL * (row + 1), CELL * column : CELL * (column + 1)] = 0
    logits = np.asarray(jax.jit(model.apply)(variables, copies))
    label = int(logits[0].argmax())  # black gives zero for both classes
    assert logits[0, label] > 0
    decrease = logits[0, label] - logits[1:, label]
    heat = np.asarray(jax.jit(make_gradcam(model))(variables, pixels, jnp.array([label])))[0]
    assert heat.shape == (CELLS, CELLS)
    assert cells[int(decrease.argmax())] == PATCH_CELL
    # A cell of the map is centred on its upper left corner in the image: an offset of half a cell.
    centre = np.array([axis.ravel() @ heat.ravel() for axis in np.mgrid[:CELLS, :CELLS]]) / heat.sum()
    np.testing.assert_allclose(centre, np.array(PATCH_CELL) + 0.5, atol=0.25)


def test_randomised_weights_change_the_map_with_residual_blocks(residual) -> None:
    model, variables, pixels = residual
    gradcam = jax.jit(make_gradcam(model))
    other = models.initialize(model, jax.random.key(1), pixels.shape)
    last_changed = {**variables["params"], "classifier": other["params"]["classifier"]}
    squares = np.random.default_rng(0).random((1, CELLS, CELLS, 3)).astype(np.float32)
    picture = squares.repeat(CELL, axis=1).repeat(CELL, axis=2)
    for weights in (other, {**variables, "params": last_changed}):
        for label in range(2):
            ours, theirs = (
                np.asarray(gradcam(each, picture, jnp.array([label])))[0].ravel()
                for each in (variables, weights)
            )
            assert np.corrcoef(ours, theirs)[0, 1] < 0.7


class _Linear(nn.Module):
    """A pointwise convolution, global average pooling and a dense layer."""

    def setup(self) -> None:
        self.conv, self.classifier = nn.Dense(8), nn.Dense(3)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        del train
        return nn.relu(self.conv(x))

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        del train
        return self.classifier(features.mean((1, 2)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.features(x, train=False), train=False)


def test_linear_head_gives_the_class_activation_map() -> None:
    """Section 3.1 of the paper: after global average pooling, the map is that of the classifier's weights."""
    network = _Linear()
    x = jax.random.uniform(jax.random.key(1), (2, 6, 6, 3))
    variables = jax.jit(network.init)(jax.random.key(0), x)
    features, logits = jax.jit(
        lambda: (network.apply(variables, x, train=False, method="features"), network.apply(variables, x))
    )()
    labels = np.asarray(logits).argmax(1)
    maps = jax.jit(make_gradcam(network))(variables, x, labels)
    kernel = np.asarray(variables["params"]["classifier"]["kernel"])
    expected = np.maximum(np.einsum("bhwc,cb->bhw", features, kernel[:, labels]), 0)
    assert expected.max((1, 2)).min() > 0
    np.testing.assert_allclose(maps, expected / expected.max((1, 2), keepdims=True), atol=1e-5)


def test_map_is_zero_without_evidence(gradcam, constructed_weights: dict, image: np.ndarray) -> None:
    heat = gradcam(constructed_weights, image * np.array([1, 0, 0], np.float32), 1)
    np.testing.assert_array_equal(heat, 0)


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("lenet5", "alexnet") else pytest.param(name, marks=pytest.mark.slow)
        for name, entry in models.REGISTRY.items()
        if entry.kind == "image"
    ],
)
def test_every_image_network_supports_gradcam(name: str) -> None:
    config = config_lib.default_config().model
    config.name, config.num_classes = name, 3
    network, size = models.create(config), max(64, models.entry(name).smallest)
    x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(network.init, jax.random.key(0)), x)
    maps = jax.eval_shape(make_gradcam(network), variables, x, jax.ShapeDtypeStruct((2,), jnp.int32))
    features = jax.eval_shape(functools.partial(network.apply, train=False, method="features"), variables, x)
    assert maps.shape == features.shape[:3]


def test_mlp_raises() -> None:
    with pytest.raises(ConfigError, match="MLP is not one"):
        make_gradcam(MLP())


def test_overlay_does_not_change_pixels_with_zero_heat() -> None:
    grey = np.full((8, 8, 1), 90, np.uint8)
    heat = np.zeros((8, 8), np.float32)
    heat[0, 0] = 1
    drawn = overlay(grey, heat)
    assert drawn.shape == (8, 8, 3)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn[1:], 90)
    red, green, blue = drawn[0, 0].astype(int)
    assert red > 90 > max(green, blue)
