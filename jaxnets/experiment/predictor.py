"""Classify images, or map vectors to values, with a trained network."""

import dataclasses
import functools
import heapq
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from jaxnets import models
from jaxnets.data import sources
from jaxnets.data.images import MAX_PIXELS, read_image, resize_image, to_grey
from jaxnets.errors import CheckpointError, DataError
from jaxnets.evaluation.gradcam import make_gradcam
from jaxnets.evaluation.turns import TURNS, turn
from jaxnets.experiment.restore import read_run
from jaxnets.experiment.run_directory import open_run
from jaxnets.interop import imagenet
from jaxnets.interop.weights import Preprocessing, Weights, is_weights_folder, read_weights
from jaxnets.ops import cpu_kernels
from jaxnets.ops.cpu_kernels import Kernels, build
from jaxnets.runtime import xla
from jaxnets.training.preprocess import normalize, scale

Image = str | os.PathLike[str] | np.ndarray | PIL.Image.Image
"""A path, pixels uint8[H, W, C] of any size, or a Pillow image."""

BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predicted class of an image, its probability, and the probabilities of all classes."""

    label: str
    confidence: float
    probabilities: dict[str, float]

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
            image = np.asarray(image if image.mode == "L" else image.convert("RGB"))
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
    confidences are calibrated; it is None if none was fitted, or without `calibrated`. `disclaimer` is ""
    unless the network was trained on medical data. `test_time_augmentation` averages the probabilities over
    the eight turns and mirrors of each image.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        max_pixels: int,
        calibrated: bool = True,
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
        self.test_time_augmentation = test_time_augmentation
        self.disclaimer = sources.disclaimer(weights.source.get("data"))
        self.preprocess = Preprocess(
            **vars(weights.preprocessing), channels=weights.input_shape[-1], max_pixels=max_pixels
        )
        self._apply = xla.jit(self._probabilities)

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

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probabilities [B, K] of images uint8[B, H, W, C] from `Preprocess.read`."""
        if len(images) == 0:
            return np.zeros((0, len(self.classes)))
        numbers = range(TURNS if self.test_time_augmentation else 1)
        each = [self._in_batches(self._apply, turn(images, number)) for number in numbers]
        return np.mean(each, axis=0)

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

    def _in_batches(self, apply: Callable[..., jax.Array], *arrays: np.ndarray) -> np.ndarray:
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
        joined = np.concatenate(outputs)[:count]
        if not np.isfinite(joined).all():
            raise CheckpointError("the network's outputs are not finite: its weights are damaged")
        return joined

    def predict(self, images: Image | Iterable[Image]) -> list[Prediction]:
        """Classifies images.

        Args:
            images: one or several, each a path or uint8[H, W, C] of any size.

        Returns:
            One prediction per image.

        Raises:
            DataError: an image cannot be read; the message names it.
        """
        is_array = isinstance(images, np.ndarray) and images.ndim == 3
        is_one = is_array or isinstance(images, str | os.PathLike | PIL.Image.Image)
        several: Any = [images] if is_one else images
        pixels = [self.preprocess.read(image) for image in several]
        return self.classify(np.stack(pixels)) if pixels else []

    def classify(self, images: np.ndarray) -> list[Prediction]:
        """Classifies images uint8[B, H, W, C] from `preprocess.read`."""
        return [
            Prediction(
                self.classes[row.argmax()],
                float(row.max()),
                dict(zip(self.classes, row.tolist(), strict=True)),
            )
            for row in self.probabilities(images)
        ]


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


def load(
    run_dir: str | os.PathLike[str],
    *,
    ignore_damage: bool = False,
    calibrated: bool = True,
    test_time_augmentation: bool = False,
    kernels: bool = True,
) -> Predictor | Regressor:
    """The network of a run directory, weights folder or imagenet:NETWORK; a Regressor if it takes vectors.

    `calibrated` divides the logits by the temperature that was fitted on validation images, if there is one.
    `test_time_augmentation` averages probabilities over the eight turns and mirrors of each image.
    `kernels` uses the C++ kernels for CPUs if they are built. Warns if this is not the state that the run was
    tested with, and if files cannot be verified. Raises CheckpointError if it is neither of both, a file is
    damaged (with `ignore_damage` it warns), no checkpoint is valid, or the weights are incomplete or do not
    specify their preprocessing.
    """
    library = build.find() if kernels else None
    in_cpp = cpu_kernels.load(library)[-1] if library else None
    network, messages = open_network(
        Path(run_dir),
        ignore_damage=ignore_damage,
        calibrated=calibrated,
        test_time_augmentation=test_time_augmentation,
        kernels=in_cpp,
    )
    for message in messages:
        warnings.warn(message, stacklevel=2)
    return network


def open_network(
    directory: Path,
    *,
    ignore_damage: bool = False,
    calibrated: bool = True,
    test_time_augmentation: bool = False,
    kernels: Kernels | None = None,
) -> tuple[Predictor | Regressor, tuple[str, ...]]:
    """Like `load`, but returns the warnings; without `kernels` those of the process are used."""
    xla.check_not_forked()
    from_pip = imagenet.is_name(str(directory))
    if from_pip or is_weights_folder(directory):
        weights = imagenet.read(str(directory)) if from_pip else read_weights(directory)
        messages, max_pixels = (), MAX_PIXELS
        if weights.missing:
            raise CheckpointError(
                f"{directory} lacks {weights.missing[0]} and cannot predict: train it first"
            )
        if weights.preprocessing is None:
            raise CheckpointError(
                f"{directory} does not specify its preprocessing: import it with --preprocessing"
            )
    else:
        run = open_run(directory, ignore_damage=ignore_damage)
        weights, max_pixels = read_run(run), run.config.data.max_pixels
        unfinished = () if run.result else (f"{directory} has not finished training",)
        messages = (*run.warnings, *weights.source["warnings"], *unfinished)
    if weights.preprocessing is None:
        return Regressor(weights), messages
    predictor = Predictor(
        weights,
        max_pixels=max_pixels,
        calibrated=calibrated,
        test_time_augmentation=test_time_augmentation,
        kernels=kernels,
    )
    return predictor, messages
