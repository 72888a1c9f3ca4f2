"""Classify files and folders of images: a line each, tables, and pictures of what the network looks at."""

import csv
import dataclasses
import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from jaxnets.data.sources.image_folder import is_image_name, natural_order, visible_files
from jaxnets.errors import ConfigError, DataError
from jaxnets.evaluation.gradcam import overlay
from jaxnets.experiment.predictor import BATCH_SIZE, Predictor, Regressor, open_network
from jaxnets.experiment.run_directory import print_warnings
from jaxnets.io import atomic_write, require_folder
from jaxnets.runtime import signals
from jaxnets.runtime.console import Reporter
from jaxnets.text import csv_cell, printable

GRADCAM = "gradcam"
"""The folder of a run directory where overlays go, unless another is named."""
VIEW = (224, 512)
"""An overlay's least and largest side in pixels; between them, it is the image's shorter side."""
SHOWN = 3
"""Names of files passed over; of more, how many there are."""
COARSE = 3
"""Places a side of a map below which an overlay says little."""
LONGEST = 230
"""Bytes of an image's name that its overlay's name begins with: file systems allow 255 in all."""
MARK = "jaxnets-gradcam-of"
"""The PNG text that names an overlay's image: what has none is not ours, and is never overwritten."""


@dataclasses.dataclass(frozen=True)
class File:
    """An image file, and where its overlay goes below the folder of overlays.

    A folder that gives no image stands for itself, with what is wrong as its `error`.
    """

    path: str
    name: str
    error: str | None = None


def predict_files(
    directory: str,
    paths: Sequence[str],
    *,
    csv_path: str | None = None,
    json_path: str | None = None,
    gradcam_folder: Path | None = None,
    ignore_damage: bool = False,
) -> None:
    """Predicts files and folders of images: a line each, and CSV, JSON or Grad-CAM overlays where asked for.

    Overlays are PNG files below `gradcam_folder`. Files that cannot be read, and folders without images, are
    named on standard error and the others answered; raises DataError at the end where there were any, or at
    once where no folder has an image, ConfigError where nothing is named or the network takes no images.
    """
    if not paths:
        raise ConfigError("name images or folders to predict, after --workdir=RUN")
    predictor, warnings = open_network(Path(directory), ignore_damage=ignore_damage)
    print_warnings(warnings)
    if csv_path == json_path == "-":
        raise ConfigError("--csv=- and --json=- would both go to standard output: name a file")
    if csv_path and json_path and os.path.realpath(csv_path) == os.path.realpath(json_path):
        raise ConfigError(f"--csv and --json would both write {csv_path}: name two files")
    if isinstance(predictor, Regressor):
        raise ConfigError(
            f"the network of {directory} takes vectors, not images: in Python, "
            f"jaxnets.load({directory!r}).predict(array)"
        )
    files: list[File] = []
    passed_over: list[str] = []
    for path in paths:
        images, others = _images_of(path)
        files += images
        passed_over += others
    if all(file.error for file in files):
        raise DataError("; ".join(str(file.error) for file in files))
    for table in (csv_path, json_path):
        _require_place(table, files)
    if gradcam_folder is not None:
        require_folder(gradcam_folder)
    reporter = Reporter(quiet="-" in (csv_path, json_path))
    if passed_over:
        message = ", ".join(passed_over[:SHOWN]) + (", ..." if len(passed_over) > SHOWN else "")
        reporter.line(
            "skipped", f"{len(passed_over)} files that are no images by their names: {message}"
        )
    tables = _Tables(
        predictor.classes, csv_path, json_path, with_gradcam=gradcam_folder is not None
    )
    with signals.clean_up(tables.write):
        try:
            with reporter.counter("predict") as progress:
                for row in _rows(predictor, files, gradcam_folder, progress):
                    tables.rows.append(row)
                    _print(row, reporter)
        finally:
            tables.write()
    if gradcam_folder is not None:
        reporter.line("gradcam", f"overlays are in {gradcam_folder}{_warn_coarse_map(predictor)}")
    bad = [row for row in tables.rows if row["error"] is not None]
    if bad:
        others = "; the others are answered" if len(bad) < len(tables.rows) else ""
        raise DataError(f"{len(bad)} of {len(tables.rows)} files could not be read{others}")


class _Tables:
    """The rows answered so far; tables of them are written once, also where a signal ends the process."""

    def __init__(
        self,
        classes: Sequence[str],
        csv_path: str | None,
        json_path: str | None,
        *,
        with_gradcam: bool,
    ):
        self.rows: list[dict[str, Any]] = []
        self._classes, self._csv_path, self._json_path = classes, csv_path, json_path
        self._with_gradcam = with_gradcam
        self._lock, self._written = threading.Lock(), False

    def write(self) -> None:
        """Writes them; a second call waits for the first one and does nothing."""
        with self._lock:
            if self._written:
                return
            self._written, rows = True, list(self.rows)
            if self._csv_path:
                table = _as_csv(rows, self._classes, with_gradcam=self._with_gradcam)
                _write(self._csv_path, table)
            if self._json_path:
                _write(self._json_path, json.dumps(rows, indent=1) + "\n")


def _print(row: dict[str, Any], reporter: Reporter) -> None:
    if row["error"] is None:
        share = f"{100 * row['confidence']:6.2f} %"
        reporter.print(f"{printable(row['file'])}  {printable(row['class'])}  {share}")
    else:
        reason = row["error"].removeprefix(row["file"]).lstrip(": ")
        print(printable(f"{row['file']}  not read  {reason}"), file=sys.stderr)


def _rows(
    predictor: Predictor,
    files: Sequence[File],
    gradcam_folder: Path | None,
    progress: Callable[[int, int | None], None],
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(files), BATCH_SIZE):
        inputs: list[np.ndarray] = []
        views: list[np.ndarray] = []
        batch = files[start : start + BATCH_SIZE]
        rows: list[dict[str, Any]] = []
        for file in batch:
            row: dict[str, Any] = {
                "file": file.path,
                "class": None,
                "confidence": None,
                "error": None,
            }
            try:
                if file.error:
                    raise DataError(file.error)
                pixels = predictor.preprocess.pixels(file.path)
                inputs.append(predictor.preprocess.fit(pixels))
                if gradcam_folder is not None:
                    views.append(_view(predictor, pixels))
            except DataError as error:
                row["error"] = str(error)
            rows.append(row)
        answers = iter(predictor.predict(inputs))
        for row in rows:
            if row["error"] is None:
                answer = next(answers)
                row["class"], row["confidence"] = answer.label, answer.confidence
                row["probabilities"] = answer.probabilities
        if gradcam_folder is not None:
            answered = [
                (file, row) for file, row in zip(batch, rows, strict=True) if row["error"] is None
            ]
            _add_overlays(predictor, gradcam_folder, answered, inputs, views)
        yield from rows
        progress(start + len(rows), len(files))


def _add_overlays(
    predictor: Predictor,
    folder: Path,
    answered: Sequence[tuple[File, dict[str, Any]]],
    inputs: Sequence[np.ndarray],
    views: Sequence[np.ndarray],
) -> None:
    if not answered:
        return
    labels = np.array([predictor.classes.index(row["class"]) for _, row in answered])
    maps = predictor.gradcam(np.stack(inputs), labels)
    for (file, row), view, heat in zip(answered, views, maps, strict=True):
        source = os.path.realpath(file.path).encode("utf-8", "backslashreplace").decode()
        path = _free_path(folder / file.name, source)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, _as_png(overlay(view, heat), source))
        row["gradcam"] = str(path)


def _warn_coarse_map(predictor: Predictor) -> str:
    """Says where a network's last map has too few places to show where in the image something is."""
    height, width = predictor.map_size
    if min(height, width) >= COARSE:
        return ""
    return f"; the network's last map is {height}x{width}: they say little or nothing of where"


def _view(predictor: Predictor, pixels: np.ndarray) -> np.ndarray:
    """What the network sees of an image, at a size for people."""
    least, largest = VIEW
    return predictor.preprocess.view(pixels, min(max(least, min(pixels.shape[:2])), largest))


def _free_path(wanted: Path, source: str) -> Path:
    """`NAME.gradcam.png`, or with a number where that is another file than this image's own overlay."""
    number, name = 1, wanted.name
    if len(os.fsencode(name)) > LONGEST:
        name = os.fsencode(name)[:LONGEST].decode(errors="ignore")
    while True:
        counted = name if number == 1 else f"{name}-{number}"
        path = wanted.with_name(f"{counted}.gradcam.png")
        if not path.exists() or _source_of(path) == source:
            return path
        number += 1


def _source_of(path: Path) -> str | None:
    """The image that an overlay was made of; None for a file that is no overlay of ours."""
    try:
        with Image.open(path) as image:
            return image.info.get(MARK)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        return None


def _as_png(pixels: np.ndarray, source: str) -> bytes:
    note = PngImagePlugin.PngInfo()
    note.add_itxt(MARK, source)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", pnginfo=note)
    return data.getvalue()


def _images_of(path: str) -> tuple[list[File], list[str]]:
    """The images of a folder, or the one named; and the folder's files that are none by their names."""
    if not Path(path).is_dir():
        return [File(path, Path(path).name)], []
    try:
        names = list(visible_files(Path(path)))
    except DataError as error:
        return [File(path, Path(path).name, str(error))], []
    found = sorted(filter(is_image_name, names), key=natural_order)
    others = [str(Path(path) / name) for name in names if not is_image_name(name)]
    if not found:
        reason = f"{path} holds no image: JPEG, PNG, TIFF and WebP are read, hidden files are not"
        return [File(path, Path(path).name, reason)], others
    return [File(str(Path(path) / name), name) for name in found], others


def _as_csv(rows: Sequence[dict[str, Any]], classes: Sequence[str], *, with_gradcam: bool) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["file", "class", "confidence", "error", *(["gradcam"] if with_gradcam else [])]
    writer.writerow(map(csv_cell, [*columns, *classes]))
    for row in rows:
        shares = row.get("probabilities", {})
        cells = [row.get(name) for name in columns] + [shares.get(name) for name in classes]
        writer.writerow(map(csv_cell, cells))
    return text.getvalue()


def _require_place(path: str | None, files: Sequence[File]) -> None:
    """Raises ConfigError where a table would take the place of an image, MachineError without a folder."""
    if path in (None, "-"):
        return
    # Not Path.resolve, which raises an error at a link to itself.
    taken = {os.path.realpath(file.path) for file in files}
    if is_image_name(path) or os.path.realpath(path) in taken:
        raise ConfigError(f"{path} is an image: name another file for the table")
    if Path(path).is_dir():
        raise ConfigError(f"{path} is a folder: name a file for the table")
    require_folder(Path(path).parent)


def _write(path: str, text: str) -> None:
    text = text.encode("utf-8", "backslashreplace").decode()  # of names that are not UTF-8
    if path == "-":
        print(text, end="")
        return
    atomic_write(Path(path), text)
