"""Classify images, or map vectors to values, with a trained network."""

import csv
import dataclasses
import functools
import io
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from jaxnets import config as recipes
from jaxnets import models
from jaxnets.app import environment, workdir
from jaxnets.app.restore import restore_state
from jaxnets.app.screen import Screen
from jaxnets.data.folder import is_image_name, natural_order
from jaxnets.data.images import read_image, resize_image, to_grey
from jaxnets.errors import CheckpointError, ConfigError, DataError
from jaxnets.files import write_whole
from jaxnets.interop.weights import is_weights_folder, read_weights
from jaxnets.training.preprocess import normalize, scale

Image = str | os.PathLike[str] | np.ndarray
"""A path, or pixels uint8[H, W, C] of any size."""

BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The class of an image, how sure the network is of it, and the share of every class."""

    label: str
    confidence: float
    probabilities: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What is done to pixels before the network sees them."""

    image_size: int
    resize: str
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_pixels: int

    def read(self, image: Image) -> np.ndarray:
        """uint8[image_size, image_size, channels]; raises DataError for what is no image."""
        pixels = _checked(image) if isinstance(image, np.ndarray) else self._from_file(image)
        if self.channels == 1 and pixels.shape[-1] == 3:
            pixels = to_grey(pixels)
        if self.channels == 3 and pixels.shape[-1] == 1:
            pixels = np.repeat(pixels, 3, axis=-1)
        return resize_image(pixels, self.image_size, self.resize)  # type: ignore[arg-type]

    def _from_file(self, path: str | os.PathLike[str]) -> np.ndarray:
        return read_image(path, max_pixels=self.max_pixels)


class Predictor:
    """A trained network with its class names and its preprocessing."""

    def __init__(
        self,
        config: config_dict.ConfigDict,
        classes: Sequence[str],
        channels: int,
        variables: dict[str, Any],
    ):
        self.classes = tuple(classes)
        self.preprocess = Preprocess(
            image_size=config.data.image_size,
            resize=config.data.resize,
            channels=channels,
            mean=tuple(config.data.mean),
            std=tuple(config.data.std),
            max_pixels=config.data.max_pixels,
        )
        self._apply = jax.jit(_probabilities(config, self.preprocess))
        self._variables = variables

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Shares [B, K] of images uint8[B, image_size, image_size, channels] that are as `read` gives."""
        padding = -len(images) % BATCH_SIZE
        padded = np.pad(images, ((0, padding), (0, 0), (0, 0), (0, 0)))
        parts = [
            jax.device_get(self._apply(self._variables, padded[start : start + BATCH_SIZE]))
            for start in range(0, len(padded), BATCH_SIZE)
        ]
        return np.concatenate(parts)[: len(images)] if parts else np.zeros((0, len(self.classes)))

    def predict(self, images: Image | Iterable[Image]) -> list[Prediction]:
        """One prediction an image; an image is a path or uint8[H, W, C] of any size.

        Raises DataError, naming it, for the first that cannot be read.
        """
        if isinstance(images, str | os.PathLike) or (
            isinstance(images, np.ndarray) and images.ndim == 3
        ):
            images = [images]
        pixels = [self.preprocess.read(image) for image in images]
        return self._tell(self.probabilities(np.stack(pixels))) if pixels else []

    def _tell(self, shares: np.ndarray) -> list[Prediction]:
        return [
            Prediction(
                self.classes[int(row.argmax())],
                float(row.max()),
                dict(zip(self.classes, map(float, row), strict=True)),
            )
            for row in shares
        ]


class Regressor:
    """A trained network of vectors. It has no classes, and nothing is done to what it is given."""

    def __init__(self, config: config_dict.ConfigDict, inputs: int, variables: dict[str, Any]):
        self.classes: tuple[str, ...] = ()
        self._inputs, self._dtype = inputs, np.dtype(config.model.dtype)
        model = models.create(config.model)
        self._apply = jax.jit(functools.partial(model.apply, train=False))
        self._variables = variables

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Values [B, K] of inputs [B, D], or [K] of one [D]; raises DataError for another length."""
        given = np.asarray(inputs, self._dtype)
        if given.ndim not in (1, 2) or given.shape[-1] != self._inputs:
            raise DataError(
                f"inputs are {list(given.shape)}: give [B, {self._inputs}] or [{self._inputs}]"
            )
        values = self._apply(self._variables, np.atleast_2d(given))
        return np.asarray(values).reshape(*given.shape[:-1], -1)


def load(run_dir: str | os.PathLike[str]) -> Predictor | Regressor:
    """The trained network of a run directory or weights folder; a Regressor where it takes vectors.

    Raises ConfigError where it is neither, CheckpointError where no checkpoint is whole, or where weights
    lack arrays or do not say what is to be done to pixels.
    """
    directory = Path(run_dir)
    if is_weights_folder(directory):
        return _of_weights(directory)
    config = workdir.read_config(directory)
    manifest = workdir.read_manifest(directory)
    environment.enable_precision(config)
    state, _, damaged = restore_state(directory, config, tuple(manifest["input_shape"]))
    for told in damaged:
        warnings.warn(told, stacklevel=2)
    variables = state.variables(ema=config.eval.ema)
    if models.entry(config.model.name).kind == "vector":
        return Regressor(config, manifest["input_shape"][0], variables)
    return Predictor(config, manifest["classes"], manifest["input_shape"][-1], variables)


def _of_weights(folder: Path) -> Predictor:
    """Classes without names are called by their numbers."""
    weights = read_weights(folder)
    given = weights.preprocessing
    if weights.missing:
        raise CheckpointError(f"{folder} lacks {weights.missing[0]} and cannot predict: train it")
    if given is None:
        raise CheckpointError(
            f"{folder} does not say what is to be done to pixels: import it with --preprocessing"
        )
    config = recipes.recipe()
    config.model.update(weights.model.to_dict())
    config.data.image_size, config.data.resize = given.image_size, given.resize
    config.data.mean, config.data.std = given.mean, given.std
    environment.enable_precision(config)
    classes = weights.classes or tuple(str(number) for number in range(config.model.num_classes))
    return Predictor(config, classes, weights.input_shape[-1], weights.variables)


def predict_files(
    directory: str, paths: Sequence[str], *, csv_path: str | None, json_path: str | None
) -> None:
    """Predicts files and folders of images: a line each, and CSV or JSON where asked for.

    Files that cannot be read are named on standard error and the others answered; raises DataError at
    the end where there were any, ConfigError where there is nothing to predict or the network takes none.
    """
    if not paths:
        raise ConfigError("name images or folders to predict, after --workdir=RUN")
    predictor = load(directory)
    if isinstance(predictor, Regressor):
        raise ConfigError(
            f"the network of {directory} takes vectors, not images: in Python, "
            f"jaxnets.load({directory!r}).predict(array)"
        )
    files = [file for path in paths for file in _images_of(path)]
    screen = Screen(quiet="-" in (csv_path, json_path))
    rows: list[dict[str, Any]] = []
    with screen.counter("predict") as progress:
        for row in _rows(predictor, files, progress):
            rows.append(row)
            told = f"{100 * row['confidence']:6.2f} %" if row["error"] is None else row["error"]
            screen.say(f"{row['file']}  {row['class'] or 'not read'}  {told}")
    if csv_path:
        _write(csv_path, _as_csv(rows, predictor.classes))
    if json_path:
        _write(json_path, json.dumps(rows, indent=1) + "\n")
    bad = [row for row in rows if row["error"] is not None]
    if bad:
        raise DataError(
            f"{len(bad)} of {len(rows)} files could not be read; the others are answered"
        )


def _rows(
    predictor: Predictor, files: Sequence[str], progress: Callable[[int, int | None], None]
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(files), BATCH_SIZE):
        pixels: list[np.ndarray] = []
        rows: list[dict[str, Any]] = []
        for file in files[start : start + BATCH_SIZE]:
            row: dict[str, Any] = {"file": file, "class": None, "confidence": None, "error": None}
            try:
                pixels.append(predictor.preprocess.read(file))
            except DataError as error:
                row["error"] = str(error)
            rows.append(row)
        answers = iter(predictor.predict(pixels))
        for row in rows:
            if row["error"] is None:
                answer = next(answers)
                row["class"], row["confidence"] = answer.label, answer.confidence
                row["probabilities"] = answer.probabilities
            yield row
        progress(start + len(rows), len(files))


def _probabilities(
    config: config_dict.ConfigDict, preprocess: Preprocess
) -> Callable[[Any, jax.Array], jax.Array]:
    model = models.create(config.model)
    dtype = jnp.dtype(config.model.dtype)

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        inputs = normalize(scale(images, dtype), preprocess.mean, preprocess.std)
        logits: Any = model.apply(variables, inputs, train=False)
        return jax.nn.softmax(logits)

    return apply


def _checked(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or pixels.dtype != np.uint8:
        raise DataError(
            f"pixels are {pixels.dtype}{list(pixels.shape)}: give uint8[H, W, 3] or uint8[H, W, 1]"
        )
    return pixels


def _images_of(path: str) -> list[str]:
    if not Path(path).is_dir():
        return [path]
    found = [str(file) for file in Path(path).rglob("*") if is_image_name(file.name)]
    if not found:
        raise DataError(f"{path} holds no image: JPEG, PNG, TIFF and WebP are read")
    return sorted(found, key=natural_order)


def _as_csv(rows: Sequence[dict[str, Any]], classes: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "class", "confidence", "error", *classes])
    for row in rows:
        shares = row.get("probabilities", {})
        writer.writerow(
            [row["file"], row["class"], row["confidence"], row["error"]]
            + [shares.get(name) for name in classes]
        )
    return text.getvalue()


def _write(path: str, text: str) -> None:
    if path == "-":
        print(text, end="")
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(Path(path), text)
