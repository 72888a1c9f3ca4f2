"""Classify images, or map vectors to values, with a trained network."""

import dataclasses
import functools
import heapq
import os
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from jaxnets import models
from jaxnets.data import sources
from jaxnets.data.images import from_pillow, read_image, resize_image, to_grey
from jaxnets.errors import CheckpointError, DataError
from jaxnets.evaluation import statistics
from jaxnets.evaluation.conformal import in_prediction_set
from jaxnets.evaluation.gradcam import make_gradcam
from jaxnets.evaluation.ood import FeatureDistance
from jaxnets.evaluation.turns import TURNS, turn
from jaxnets.interop.weights import Preprocessing, Weights
from jaxnets.ops.cpu_kernels import Kernels
from jaxnets.runtime import xla
from jaxnets.training.preprocess import normalize, scale

Image = str | os.PathLike[str] | np.ndarray | PIL.Image.Image
"""A path, pixels uint8[H, W, C] or uint8[H, W] of any size, or a Pillow image.

The EXIF orientation of a Pillow image is not applied: `PIL.ImageOps.exif_transpose` does that.
"""

BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predicted class of an image, its probability, and the probabilities of all classes.

    `prediction_set` has the most probable class first; it is None unless the network was loaded with a
    coverage, and `ood_score` is None unless it was loaded with `ood`. `features` [D] are the last feature
    maps averaged over positions, or None unless they were asked for.
    """

    label: str
    confidence: float
    probabilities: dict[str, float] = dataclasses.field(repr=False)
    prediction_set: tuple[str, ...] | None = None
    ood_score: float | None = None
    features: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)

    def top(self, count: int) -> list[tuple[str, float]]:
        """The `count` most probable classes and their probabilities, in this order."""
        return heapq.nlargest(count, self.probabilities.items(), key=lambda pair: pair[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocess(Preprocessing):
    """The preprocessing of a network's inputs, of images with at most `max_pixels`."""

    channels: int
    max_pixels: int

    def read(self, image: Image) -> np.ndarray:
        """uint8[image_size, image_size, channels]; raises DataError if it is not an image."""
        return self.fit(self.pixels(image))

    def pixels(self, image: Image) -> np.ndarray:
        """uint8[H, W, 1 or 3], as in the file; raises DataError if it is not an image."""
        if isinstance(image, PIL.Image.Image):
            image = from_pillow(image)
        if not isinstance(image, np.ndarray):
            return read_image(image, max_pixels=self.max_pixels)
        pixels = image[..., None] if image.ndim == 2 else image
        if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or pixels.dtype != np.uint8:
            raise DataError(
                f"pixels are {pixels.dtype}{list(pixels.shape)}, expected uint8[H, W, 3] or uint8[H, W, 1]"
            )
        return pixels

    def fit(self, pixels: np.ndarray) -> np.ndarray:
        """`pixels` with the network's number of channels and size."""
        if self.channels == 1 and pixels.shape[-1] == 3:
            pixels = to_grey(pixels)
        if self.channels == 3 and pixels.shape[-1] == 1:
            pixels = np.repeat(pixels, 3, axis=-1)
        return self.view(pixels, self.image_size)

    def view(self, pixels: np.ndarray, size: int) -> np.ndarray:
        """The image, resized (and cropped) to uint8[size, size, C]."""
        return resize_image(pixels, size, self.resize, self.crop)


class Predictor:
    """A trained network with its class names and its preprocessing.

    `classes` are numbers if the weights have no names for them. `temperature` divides the logits, so that
    confidences are calibrated; it is None if none was fitted, or without `calibrated`. Classes with at least
    `minimum_probability`, uncalibrated, are in prediction sets. `feature_distance` scores how unlike the
    training images an image is. `test_time_augmentation` averages the probabilities over the eight flips and
    rotations of each image. `disclaimer` is "" unless the network was trained on medical data.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        max_pixels: int,
        calibrated: bool = True,
        minimum_probability: float | None = None,
        feature_distance: FeatureDistance | None = None,
        test_time_augmentation: bool = False,
        kernels: Kernels | None = None,
    ):
        assert weights.preprocessing is not None
        self._model_config, self._model = weights.model, models.create(weights.model)
        if kernels is not None and weights.model.implementation == "auto":
            self._model = self._model.clone(implementation=kernels)
        with xla.precision_of(weights.model):
            self._variables = jax.device_put(weights.variables)
        self.classes = weights.classes or tuple(map(str, range(weights.model.num_classes)))
        self.temperature = weights.temperature if calibrated else None
        self.minimum_probability, self.feature_distance = minimum_probability, feature_distance
        self.test_time_augmentation = test_time_augmentation
        self.disclaimer = sources.disclaimer(
            weights.source.get("data"), medical=weights.source.get("medical", False)
        )
        self.preprocess = Preprocess(
            **vars(weights.preprocessing), channels=weights.input_shape[-1], max_pixels=max_pixels
        )
        self._apply = xla.jit(self._probabilities)
        self._apply_with_features = xla.jit(self._probabilities_and_features)

    @functools.cached_property
    def _folded(self) -> dict[str, Any]:
        """The variables with batch normalisations folded into the convolutions."""
        side, channels = self.preprocess.image_size, self.preprocess.channels
        inputs = jnp.zeros((1, side, side, channels), self._model_config.dtype)
        fold = functools.partial(models.fold_batch_norm, self._model)
        return xla.jit(fold)(self._variables, inputs)

    def _inputs(self, images: jax.Array) -> jax.Array:
        """Scales and normalises uint8 images."""
        dtype = jnp.dtype(self._model_config.dtype)
        return normalize(scale(images, dtype), self.preprocess.mean, self.preprocess.std)

    def _probabilities(self, variables: Any, images: jax.Array) -> jax.Array:
        logits: Any = self._model.apply(variables, self._inputs(images), train=False)
        return jax.nn.softmax(logits / (self.temperature or 1.0))

    def _probabilities_and_features(self, variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        apply = functools.partial(self._model.apply, variables, train=False)
        maps: Any = apply(self._inputs(images), method="features")
        logits: Any = apply(maps, method="head")
        return jax.nn.softmax(logits / (self.temperature or 1.0)), maps.mean(axis=(1, 2))

    def probabilities_and_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities [B, K], and the last feature maps averaged over positions [B, D], of B > 0 images.

        With `test_time_augmentation` the features are those of the images without flips and rotations.
        """
        probabilities, features = self._in_batches(self._apply_with_features, images)
        return self._mean_over_turns(probabilities, images), features

    def probabilities(self, images: np.ndarray, *, test_time_augmentation: bool | None = None) -> np.ndarray:
        """Probabilities [B, K] of images uint8[B, H, W, C] from `Preprocess.read`.

        `test_time_augmentation` averages them over flips and rotations; by default it is the predictor's.
        """
        if len(images) == 0:
            return np.zeros((0, len(self.classes)))
        return self._mean_over_turns(self._in_batches(self._apply, images), images, test_time_augmentation)

    def _mean_over_turns(
        self, probabilities: np.ndarray, images: np.ndarray, augmented: bool | None = None
    ) -> np.ndarray:
        """With test-time augmentation the mean of `probabilities` and those of the other turns."""
        augmented = self.test_time_augmentation if augmented is None else augmented
        others = range(1, TURNS if augmented else 1)
        turned = [self._in_batches(self._apply, turn(images, number)) for number in others]
        return np.mean([probabilities, *turned], axis=0)

    def gradcam(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Computes Grad-CAM heat maps.

        Args:
            images: uint8[B, H, W, C] from `preprocess.read`.
            labels: int[B], the class of each map.

        Returns:
            Maps [B, h, w] in [0, 1], of the size `map_size`.
        """
        return self._in_batches(self._gradcam, images, np.asarray(labels))

    @functools.cached_property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the last feature map, the resolution of `gradcam`."""
        side, channels = self.preprocess.image_size, self.preprocess.channels
        image = jax.ShapeDtypeStruct((1, side, side, channels), jnp.dtype(self._model_config.dtype))
        apply = functools.partial(self._model.apply, train=False, method="features")
        with xla.precision_of(self._model_config):
            height, width = jax.eval_shape(apply, self._variables, image).shape[1:3]
        return height, width

    @functools.cached_property
    def _gradcam(self) -> Callable[..., jax.Array]:
        gradcam = make_gradcam(self._model)
        return xla.jit(lambda variables, images, labels: gradcam(variables, self._inputs(images), labels))

    def _in_batches(self, apply: Callable[..., Any], *arrays: np.ndarray) -> Any:
        """Pads to a fixed batch size, so that only one program is compiled."""
        xla.check_not_forked()
        count = len(arrays[0])
        padding = -count % BATCH_SIZE
        padded = [np.pad(array, [(0, padding)] + [(0, 0)] * (array.ndim - 1)) for array in arrays]
        outputs = []
        with xla.precision_of(self._model_config):
            for start in range(0, count, BATCH_SIZE):
                batch = [array[start : start + BATCH_SIZE] for array in padded]
                outputs.append(jax.device_get(apply(self._folded, *batch)))
        joined = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *outputs)
        if not all(np.isfinite(each).all() for each in jax.tree.leaves(joined)):
            raise CheckpointError("the network's outputs are not finite: its weights are damaged")
        return joined

    def predict(self, images: Image | Iterable[Image]) -> list[Prediction]:
        """Classifies images.

        Args:
            images: one or several, each a path, uint8[H, W, C] or uint8[H, W] of any size.

        Returns:
            One prediction per image.

        Raises:
            DataError: an image cannot be read; the message names it.
        """
        is_array = isinstance(images, np.ndarray) and images.ndim in (2, 3)
        is_one = is_array or isinstance(images, str | os.PathLike | PIL.Image.Image)
        several: Any = [images] if is_one else images
        pixels = [self.preprocess.read(image) for image in several]
        return self.classify(np.stack(pixels)) if pixels else []

    def classify(self, images: np.ndarray, *, with_features: bool = False) -> list[Prediction]:
        """Classifies images uint8[B, H, W, C] from `preprocess.read`; optionally returns their features."""
        sets: list[Any] = [None] * len(images)
        scores, features = list(sets), list(sets)
        if self.feature_distance is None and not with_features:
            probabilities = self.probabilities(images)
        else:
            probabilities, found = self.probabilities_and_features(images)
            features = list(found) if with_features else features
            if self.feature_distance is not None:
                scores = self.feature_distance.score(found).tolist()
        if self.minimum_probability is not None:
            uncalibrated = statistics.with_temperature(probabilities, 1 / (self.temperature or 1.0))
            members = in_prediction_set(uncalibrated, self.minimum_probability)
            sets = [self._classes_of(*each) for each in zip(members, probabilities, strict=True)]
        return [
            Prediction(
                self.classes[row.argmax()],
                float(row.max()),
                dict(zip(self.classes, row.tolist(), strict=True)),
                prediction_set,
                ood_score,
                values,
            )
            for row, prediction_set, ood_score, values in zip(
                probabilities, sets, scores, features, strict=True
            )
        ]

    def _classes_of(self, members: np.ndarray, probabilities: np.ndarray) -> tuple[str, ...]:
        """The names of the classes in a set bool[K], the most probable one first."""
        order = np.argsort(-probabilities, kind="stable")
        return tuple(self.classes[number] for number in order if members[number])


class Regressor:
    """A trained network that maps vectors to values, without preprocessing."""

    def __init__(self, weights: Weights):
        self.classes: tuple[str, ...] = ()
        self._inputs, self._dtype = weights.input_shape[0], np.dtype(weights.model.dtype)
        self._model = weights.model
        with xla.precision_of(weights.model):
            self._variables = jax.device_put(weights.variables)
        self._apply = xla.jit(functools.partial(models.create(weights.model).apply, train=False))

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Computes values [B, K] of inputs [B, D], or [K] of one input [D].

        Raises:
            DataError: inputs of another shape.
        """
        given = np.asarray(inputs, self._dtype)
        if given.ndim not in (1, 2) or given.shape[-1] != self._inputs:
            raise DataError(
                f"inputs have shape {list(given.shape)}, expected [B, {self._inputs}] or [{self._inputs}]"
            )
        xla.check_not_forked()
        with xla.precision_of(self._model):
            values = self._apply(self._variables, np.atleast_2d(given))
        return np.asarray(values).reshape(*given.shape[:-1], -1)
