"""Classify images: one line per file, CSV and JSON tables, features, Grad-CAM overlays."""

import contextlib
import io
import itertools
import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from jaxnets.commands.features_file import UNKNOWN, Known, find, known_examples, to_npz
from jaxnets.data.sources.image_folder import is_image_name, natural_order, visible_files
from jaxnets.errors import ConfigError, DataError
from jaxnets.evaluation import gradcam
from jaxnets.experiment.load import open_network
from jaxnets.experiment.predictor import BATCH_SIZE, Predictor, Regressor
from jaxnets.experiment.run_directory import CONFIG, open_run
from jaxnets.io import atomic_write, csv_table, printable, require_folder
from jaxnets.runtime import console, signals

GRADCAM = "gradcam"  # the default folder of overlays in a run directory
MIN_SIDE, MAX_SIDE = 224, 512
"""Limits of an overlay's side in pixels; within them it is the image's shorter side."""
MAX_LISTED = 3  # skipped files
MAX_NAME_BYTES = 230  # of an overlay's stem; file systems allow names of 255 bytes
SOURCE_KEY = "jaxnets-gradcam-of"
"""PNG text with an overlay's source image; files without it are never overwritten."""


class File(NamedTuple):
    """An image file and the relative path of its overlay, or a folder without images and its `error`."""

    path: str
    name: str
    error: str | None = None


def predict_files(
    directory: str,
    paths: Sequence[str],
    *,
    csv_path: str | None = None,
    json_path: str | None = None,
    features_path: str | None = None,
    gradcam_folder: Path | None = None,
    top: int = 1,
    calibrated: bool = True,
    coverage: float | None = None,
    ood: bool = False,
    test_time_augmentation: bool = False,
    ignore_damage: bool = False,
) -> None:
    """Classifies files and folders of images; prints one line per image and optionally writes CSV and JSON.

    `directory` is a run directory, a weights folder or imagenet:NETWORK; the `top` most probable classes are
    printed. `calibrated` divides the logits by the run's temperature; `coverage` adds prediction sets, and
    `ood` scores of images unlike the training images. `test_time_augmentation` averages the probabilities of
    the eight flips and rotations of each image. Grad-CAM overlays are PNG files in `gradcam_folder`. The .npz
    file `features_path` gets the features, with the labels and groups of images of the run's data. Unreadable
    files and folders without images are reported on standard error and skipped; DataError is raised at the
    end then, or at the start if there are no images. Raises ConfigError if no path is given or the network
    does not take images, and DataError if there are too few validation groups for `coverage`.
    """
    if not paths:
        raise ConfigError("give images or folders to predict")
    predictor, warnings = open_network(
        Path(directory),
        ignore_damage=ignore_damage,
        calibrated=calibrated,
        coverage=coverage,
        ood=ood,
        test_time_augmentation=test_time_augmentation,
    )
    console.warn(*warnings)
    if isinstance(predictor, Regressor):
        raise ConfigError(
            f"the network of {directory} takes vectors, not images: in Python, "
            f"jaxnets.load({directory!r}).predict(array)"
        )
    found = [_images_of(path) for path in paths]
    files = [file for images, _ in found for file in images]
    if all(file.error for file in files):
        raise DataError("; ".join(str(file.error) for file in files))
    if features_path is not None and not features_path.endswith(".npz"):
        raise ConfigError(f"--features={features_path} must end in .npz, the format that it is written in")
    _check_outputs({"csv": csv_path, "json": json_path, "features": features_path}, files)
    if gradcam_folder is not None:
        require_folder(gradcam_folder)
    optional = {
        "prediction_set": coverage is not None,
        "ood_score": ood,
        "gradcam": gradcam_folder is not None,
    }
    columns = [name for name, is_wanted in optional.items() if is_wanted]
    known: dict[str, Known] = {}
    if features_path is not None and (Path(directory) / CONFIG).is_file():
        known = known_examples(open_run(Path(directory), ignore_damage=ignore_damage))
    tables = _Tables(
        predictor.classes, csv_path, json_path, columns, features_path=features_path, known=known
    )
    with console.silenced() if "-" in (csv_path, json_path) else contextlib.nullcontext():
        if skipped := [name for _, others in found for name in others]:
            names = ", ".join(skipped[:MAX_LISTED]) + (", ..." if len(skipped) > MAX_LISTED else "")
            kinds = "other than JPEG, PNG, TIFF and WebP"
            console.log("skipped", f"{len(skipped)} file{'s' * (len(skipped) != 1)} {kinds}: {names}")
        _fill(tables, _rows(predictor, files, gradcam_folder, top, tables.has_features), len(files))
        if gradcam_folder is not None:
            height, width = predictor.map_size
            coarse = f"; the last feature map is only {height}x{width}, too coarse to locate anything"
            note = coarse if min(height, width) < gradcam.MIN_SIDE else ""
            console.log("gradcam", f"overlays are in {gradcam_folder}{note}")
        if features_path is not None:
            labels, groups = tables.count_known()
            about = f"{labels:,} images have a known label, {groups:,} a known group"
            console.log("features", f"{features_path}: {about}")
        bad = sum(row["error"] is not None for row in tables.rows)
        if predictor.temperature is None and bad < len(tables.rows):
            console.log("note", "confidences are uncalibrated")
        elif predictor.temperature is not None and test_time_augmentation:
            console.log("note", "the temperature was fitted without test-time augmentation")
        if predictor.disclaimer:
            console.log("note", predictor.disclaimer)
    if bad:
        others = "; the others are predicted" if bad < len(tables.rows) else ""
        raise DataError(f"{bad} of {len(tables.rows)} files could not be read{others}")


def _fill(tables: "_Tables", rows: Iterable[dict[str, Any]], count: int) -> None:
    """Prints the rows and collects them; what is there is written also if this is interrupted."""
    with signals.clean_up(tables.write):
        try:
            with console.counter("predict") as progress:
                for row in rows:
                    tables.rows.append(row)
                    _print(row)
                    if len(tables.rows) % BATCH_SIZE == 0:
                        progress(len(tables.rows), count)
        finally:
            tables.write()


class _Tables:
    """Rows predicted so far; they are written exactly once, also if a signal ends the process."""

    def __init__(
        self,
        classes: Sequence[str],
        csv_path: str | None,
        json_path: str | None,
        optional: Sequence[str],
        *,
        features_path: str | None = None,
        known: Mapping[str, Known] | None = None,
    ):
        self.rows: list[dict[str, Any]] = []
        self._columns = ["file", "class", "confidence", "calibrated", "error", *optional]
        self._classes, self._csv_path, self._json_path = classes, csv_path, json_path
        self._features_path, self._known = features_path, known or {}
        self._lock, self._written = threading.Lock(), False

    def write(self) -> None:
        """Writes the tables; a second call waits for the first and does nothing."""
        with self._lock:
            if self._written:
                return
            self._written, rows = True, list(self.rows)
            if self._csv_path:
                taken = set(self._columns)
                classes = [f"{name} (probability)" if name in taken else name for name in self._classes]
                table: list[list[object]] = [[*self._columns, *classes]]
                for row in rows:
                    probabilities = row.get("probabilities", {})
                    cells = [_cell(row.get(name)) for name in self._columns]
                    table.append([*cells, *map(probabilities.get, self._classes)])
                _write(self._csv_path, csv_table(table))
            if self._features_path:
                atomic_write(Path(self._features_path), to_npz(rows, self._known, self._classes))
            if self._json_path:
                without = [{name: row[name] for name in row if name != "features"} for row in rows]
                _write(self._json_path, json.dumps(without, indent=1) + "\n")

    @property
    def has_features(self) -> bool:
        """Whether a file of features is written."""
        return self._features_path is not None

    def count_known(self) -> tuple[int, int]:
        """The numbers of images with features whose label, and whose group, are known."""
        rows = [row for row in self.rows if row.get("features") is not None]
        found = [find(row["file"], self._known, self._classes) for row in rows]
        return sum(bool(each.label) for each in found), sum(each.group != UNKNOWN for each in found)


def _cell(value: Any) -> Any:
    """A value in a cell of a CSV table: the classes of a prediction set are separated by " | "."""
    return " | ".join(value) if isinstance(value, tuple) else value


def _print(row: dict[str, Any]) -> None:
    if row["error"] is None:
        words = [printable(row["file"])]
        words += [f"{printable(name)}  {100 * share:6.2f} %" for name, share in row["top"]]
        if (names := row.get("prediction_set")) is not None:
            words.append(printable(f"set: {' | '.join(names)}"))
        if (score := row.get("ood_score")) is not None:
            words.append(f"ood {score:.3f}")
        console.log_text("  ".join(words))
    else:
        reason = row["error"].removeprefix(row["file"]).lstrip(": ")
        line = printable(f"{row['file']}  not read  {reason}")
        print(console.wrap_error(line), file=sys.stderr)


class _Image(NamedTuple):
    """A file's row, the network's input and what an overlay shows, at a readable size."""

    file: File
    row: dict[str, Any]
    input: np.ndarray
    view: np.ndarray


def _rows(
    predictor: Predictor, files: Sequence[File], gradcam_folder: Path | None, top: int, with_features: bool
) -> Iterator[dict[str, Any]]:
    """One row per file; those of a batch come together."""
    preprocess = predictor.preprocess
    for start in range(0, len(files), BATCH_SIZE):
        rows: list[dict[str, Any]] = []
        images: list[_Image] = []
        for file in files[start : start + BATCH_SIZE]:
            row: dict[str, Any] = {"file": file.path, "class": None, "confidence": None, "error": file.error}
            row["calibrated"] = predictor.temperature is not None
            rows.append(row)
            try:
                if file.error is None:
                    pixels = preprocess.pixels(file.path)
                    view = fitted = preprocess.fit(pixels)
                    if gradcam_folder is not None:
                        side = int(np.clip(min(pixels.shape[:2]), MIN_SIDE, MAX_SIDE))
                        view = preprocess.view(pixels, side)
                    images.append(_Image(file, row, fitted, view))
            except DataError as error:
                row["error"] = str(error)
        inputs = np.stack([image.input for image in images]) if images else None
        predictions = [] if inputs is None else predictor.classify(inputs, with_features=with_features)
        for image, prediction in zip(images, predictions, strict=True):
            image.row["class"], image.row["confidence"] = prediction.label, prediction.confidence
            image.row["probabilities"], image.row["top"] = prediction.probabilities, prediction.top(top)
            for name in ("prediction_set", "ood_score", "features"):
                if (value := getattr(prediction, name)) is not None:
                    image.row[name] = value
        if gradcam_folder is not None and images:
            _add_overlays(predictor, gradcam_folder, images)
        yield from rows


def _add_overlays(predictor: Predictor, folder: Path, images: Sequence[_Image]) -> None:
    labels = np.array([predictor.classes.index(image.row["class"]) for image in images])
    maps = predictor.gradcam(np.stack([image.input for image in images]), labels)
    for image, heat in zip(images, maps, strict=True):
        source = os.path.realpath(image.file.path).encode("utf-8", "backslashreplace").decode()
        path = _free_path(folder / image.file.name, source)
        path.parent.mkdir(parents=True, exist_ok=True)
        note, data = PngImagePlugin.PngInfo(), io.BytesIO()
        note.add_itxt(SOURCE_KEY, source)
        Image.fromarray(gradcam.overlay(image.view, heat)).save(data, "PNG", pnginfo=note)
        atomic_write(path, data.getvalue())
        image.row["gradcam"] = str(path)


def _free_path(wanted: Path, source: str) -> Path:
    """`NAME.gradcam.png`, numbered if that exists and is not an overlay of the same image."""
    name = wanted.name
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        name = os.fsencode(name)[:MAX_NAME_BYTES].decode(errors="ignore")
    suffixes = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    paths = (wanted.with_name(f"{name}{suffix}.gradcam.png") for suffix in suffixes)
    return next(path for path in paths if not path.exists() or _source_of(path) == source)


def _source_of(path: Path) -> str | None:
    """The source image of an overlay; None for other files."""
    try:
        with Image.open(path) as image:
            return image.info.get(SOURCE_KEY)
    except (OSError, SyntaxError, ValueError):
        return None


def _images_of(path: str) -> tuple[list[File], list[str]]:
    """The image `path`, or the images of a folder and its other files."""
    if not Path(path).is_dir():
        return [File(path, Path(path).name)], []
    try:
        names = sorted(visible_files(Path(path)), key=natural_order)
    except DataError as error:
        return [File(path, Path(path).name, str(error))], []
    found = [File(str(Path(path) / name), name) for name in names if is_image_name(name)]
    others = [str(Path(path) / name) for name in names if not is_image_name(name)]
    reason = f"{path} contains no image: JPEG, PNG, TIFF and WebP are read, hidden files are not"
    return found or [File(path, Path(path).name, reason)], others


def _check_outputs(paths: Mapping[str, str | None], files: Sequence[File]) -> None:
    """Raises ConfigError if an output would overwrite an image, a folder or another; makes their folders.

    `paths` are by flag.
    """
    given = {flag: path for flag, path in paths.items() if path}
    seen: dict[str, str] = {}
    images = {os.path.realpath(file.path) for file in files}  # Path.resolve raises for link loops
    for flag, path in given.items():
        place = path if path == "-" else os.path.realpath(path)
        if place in seen and path == "-":
            raise ConfigError(
                f"--{seen[place]}=- and --{flag}=- would both write to standard output: give a file"
            )
        if place in seen:
            raise ConfigError(f"--{seen[place]} and --{flag} would both write {path}: give two files")
        seen[place] = flag
        if path == "-":
            continue
        if is_image_name(path) or place in images:
            raise ConfigError(f"{path} is an image: give another file for the table")
        if Path(path).is_dir():
            raise ConfigError(f"{path} is a folder: give a file for the table")
        require_folder(Path(path).parent)


def _write(path: str, text: str) -> None:
    text = text.encode("utf-8", "backslashreplace").decode()  # file names may not be UTF-8
    if path == "-":
        print(text, end="")
    else:
        atomic_write(Path(path), text)
