"""Grad-CAM shows what the network looks at: planted weights, occlusion, the classes' own evidence."""

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
"""Upper left corners of the two patches; the green one is the brighter."""


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """[1, SIZE, SIZE, 3]: a red and a green patch on black."""
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
def planted(random_weights: dict) -> dict:
    """Weights that sum red for class 0 and green for class 1, each in a channel of its own."""
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
    """The map [h, w] of one image."""
    compiled = jax.jit(make_gradcam(model))
    return lambda variables, image, label: np.asarray(compiled(variables, image, jnp.array([label])))[0]


def _occlusion(model: LeNet5, variables: dict, image: np.ndarray, label: int) -> np.ndarray:
    """By how much the label's logit falls when a square at each place is made black."""
    side, places = PATCH, range(0, SIZE - PATCH + 1, 3)
    copies = np.repeat(image, len(places) ** 2, axis=0)
    for copy, (row, column) in zip(
        copies, ((row, column) for row in places for column in places), strict=True
    ):
        copy[row : row + side, column : column + side] = 0
    logits = jax.jit(model.apply)(variables, np.concatenate([image, copies]))
    falls = logits[0, label] - logits[1:, label]
    return np.asarray(falls).reshape(len(places), len(places))


@pytest.mark.parametrize(("label", "corner"), [(0, RED), (1, GREEN)])
def test_it_agrees_with_occlusion_on_a_planted_patch(
    model: LeNet5, gradcam, planted: dict, image: np.ndarray, label: int, corner: tuple[int, int]
) -> None:
    maps = gradcam(planted, image, label), _occlusion(model, planted, image, label)
    heat, falls = (np.asarray(jax.image.resize(each, (SIZE, SIZE), "linear")) for each in maps)
    for map_ in (heat, falls):
        hottest = np.unravel_index(map_.argmax(), map_.shape)
        for place, start in zip(hottest, corner, strict=True):
            assert start <= place < start + PATCH
    assert np.corrcoef(heat.ravel(), falls.clip(0).ravel())[0, 1] > 0.8


@pytest.mark.parametrize("part", ["all", "classifier"])
def test_randomised_weights_change_it(
    gradcam, planted: dict, random_weights: dict, image: np.ndarray, part: str
) -> None:
    other = dict(planted["params"])
    if part == "all":
        other = random_weights["params"]
    else:
        other[part] = random_weights["params"][part]
    ours = gradcam(planted, image, 0)
    theirs = gradcam({"params": other, "batch_stats": {}}, image, 0)
    norms = np.linalg.norm(ours) * np.linalg.norm(theirs)
    assert (ours * theirs).sum() < 0.5 * norms or norms == 0  # zero: nothing speaks for it any more


CELL, CELLS, PLACE = 32, 5, (3, 1)
"""Pixels that a cell of a ResNet's last map stands for, cells a side, and the cell that a patch fills."""


@pytest.fixture(scope="module")
def residual() -> tuple[ResNet, dict, np.ndarray]:
    """A narrow ResNet at random weights, and a bright patch [1, H, W, 3] on black, which gives nothing."""
    model = ResNet(num_classes=2, stage_sizes=(1, 1, 1, 1), width=4)
    shape = (1, CELL * CELLS, CELL * CELLS, 3)
    row, column = (CELL * cell for cell in PLACE)
    pixels = np.zeros(shape, np.float32)
    pixels[0, row : row + CELL, column : column + CELL] = 1
    return model, models.initialize(model, jax.random.key(0), shape), pixels


def test_through_residual_blocks_it_agrees_with_occlusion(residual) -> None:
    model, variables, pixels = residual
    cells = [(row, column) for row in range(CELLS) for column in range(CELLS)]
    copies = np.repeat(pixels, len(cells) + 1, axis=0)
    for copy, (row, column) in zip(copies[1:], cells, strict=True):
        copy[CELL * row : CELL * (row + 1), CELL * column : CELL * (column + 1)] = 0
    logits = np.asarray(jax.jit(model.apply)(variables, copies))
    label = int(logits[0].argmax())  # what the patch speaks for: black gives zero for both
    assert logits[0, label] > 0
    falls = logits[0, label] - logits[1:, label]
    heat = np.asarray(jax.jit(make_gradcam(model))(variables, pixels, jnp.array([label])))[0]
    assert heat.shape == (CELLS, CELLS)
    assert cells[int(falls.argmax())] == PLACE
    # A place of the map sees the image around its cell's upper left corner: the patch lies half a cell on.
    centre = np.array([axis.ravel() @ heat.ravel() for axis in np.mgrid[:CELLS, :CELLS]]) / heat.sum()
    np.testing.assert_allclose(centre, np.array(PLACE) + 0.5, atol=0.25)


def test_through_residual_blocks_other_weights_change_it(residual) -> None:
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
    """A pointwise convolution, a mean and a dense layer."""

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


def test_with_a_linear_head_it_is_the_class_activation_map() -> None:
    """Section 3.1 of the paper: after global average pooling, the weights are the classifier's."""
    network = _Linear()
    x = jax.random.uniform(jax.random.key(1), (2, 6, 6, 3))
    variables = jax.jit(network.init)(jax.random.key(0), x)
    features, logits = jax.jit(
        lambda: (
            network.apply(variables, x, train=False, method="features"),
            network.apply(variables, x),
        )
    )()
    labels = np.asarray(logits).argmax(1)
    maps = jax.jit(make_gradcam(network))(variables, x, labels)
    kernel = np.asarray(variables["params"]["classifier"]["kernel"])
    expected = np.maximum(np.einsum("bhwc,cb->bhw", features, kernel[:, labels]), 0)
    assert expected.max((1, 2)).min() > 0
    np.testing.assert_allclose(maps, expected / expected.max((1, 2), keepdims=True), atol=1e-5)


def test_where_nothing_speaks_for_a_class_it_is_zero(gradcam, planted: dict, image: np.ndarray) -> None:
    heat = gradcam(planted, image * np.array([1, 0, 0], np.float32), 1)
    np.testing.assert_array_equal(heat, 0)


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("lenet5", "alexnet") else pytest.param(name, marks=pytest.mark.slow)
        for name, entry in models.REGISTRY.items()
        if entry.kind == "image"
    ],
)
def test_every_convolutional_network_has_one(name: str) -> None:
    config = config_lib.default_config().model
    config.name, config.num_classes = name, 3
    network, size = models.create(config), max(64, models.entry(name).smallest)
    x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(network.init, jax.random.key(0)), x)
    maps = jax.eval_shape(make_gradcam(network), variables, x, jax.ShapeDtypeStruct((2,), jnp.int32))
    features = jax.eval_shape(functools.partial(network.apply, train=False, method="features"), variables, x)
    assert maps.shape == features.shape[:3]


def test_a_network_of_vectors_has_none() -> None:
    with pytest.raises(ConfigError, match="MLP is not one"):
        make_gradcam(MLP())


def test_the_overlay_leaves_cold_places_as_they_are() -> None:
    grey = np.full((8, 8, 1), 90, np.uint8)
    heat = np.zeros((8, 8), np.float32)
    heat[0, 0] = 1
    drawn = overlay(grey, heat)
    assert drawn.shape == (8, 8, 3)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn[1:], 90)
    red, green, blue = drawn[0, 0].astype(int)
    assert red > 90 > max(green, blue)
