"""The search as tasks whose results are atomic files, so that a killed search can resume."""

import functools
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.images import read_image
from jaxnets.data.near_duplicates import features, verification
from jaxnets.data.near_duplicates.candidates import candidate_copies, candidate_overlaps
from jaxnets.data.near_duplicates.features import Settings
from jaxnets.errors import DataError
from jaxnets.io import atomic_write

IMAGES, ROWS, PAIRS = 250, 500, 2_000
"""Sizes of a task: images to describe, images to find neighbours of, pairs to verify."""

Computed = tuple[np.ndarray, list[str]]
"""The result of a task, and the messages of images that cannot be read."""
Compute = Callable[..., Computed]


class TaskResult(NamedTuple):
    """The number of items of a task, its CPU seconds, and messages of images that cannot be read."""

    count: int
    seconds: float
    unreadable: list[str]


@dataclass(frozen=True)
class Task:
    """One part of a stage, with `count` items: saves the result of `compute(*arguments)` to `path`."""

    path: Path
    count: int
    compute: Compute
    arguments: tuple[Any, ...]

    def run(self) -> TaskResult:
        """Computes and saves the result; saves nothing if an image cannot be read."""
        start = time.thread_time()
        result, unreadable = self.compute(*self.arguments)
        if not unreadable:
            file = io.BytesIO()
            np.save(file, result)
            atomic_write(self.path, file.getvalue())
        return TaskResult(self.count, time.thread_time() - start, unreadable)


def describe_tasks(folder: Path, paths: Sequence[Path], max_pixels: int, settings: Settings) -> list[Task]:
    """The first stage, "features"."""
    return _tasks(folder, "features", IMAGES, _describe, paths, max_pixels, settings)


def neighbour_tasks(folder: Path, labels: np.ndarray, settings: Settings) -> list[Task]:
    """The second stage, "candidates"."""
    return _tasks(folder, "candidates", ROWS, _copies, np.arange(len(labels)), folder, labels, settings)


def word_tasks(
    folder: Path, members: Sequence[np.ndarray], labels: np.ndarray, settings: Settings
) -> list[Task]:
    """The one task that proposes overlaps between a few images of each original."""
    owners = np.repeat(np.arange(len(members)), [len(images) for images in members])
    images = np.concatenate(members)
    return _tasks(folder, "words", len(images), _overlaps, images, folder, owners, labels[images], settings)


def verify_tasks(folder: Path, stage: str, pairs: np.ndarray, settings: Settings) -> list[Task]:
    """A stage that verifies pairs of images, int32[P, 2]."""
    return _tasks(folder, stage, PAIRS, _verify, pairs, folder, settings)


def load_results(tasks: Sequence[Task], empty: np.ndarray) -> np.ndarray:
    """Concatenates the results of all tasks of a stage, starting from `empty`."""
    return np.concatenate([empty, *(np.load(task.path) for task in tasks)])


class FeatureFiles:
    """The features of all images by index, memory-mapped from the files of the first stage."""

    def __init__(self, folder: Path):
        self._parts = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("features-*.npy"))]

    def __getitem__(self, index: int) -> np.ndarray:
        return self._parts[index // IMAGES][index % IMAGES]

    def field(self, name: str) -> np.ndarray:
        """One field of all images: [N, ...]."""
        return np.concatenate([part[name] for part in self._parts])

    @functools.cached_property
    def spectra(self) -> np.ndarray:
        """float32[N, rings, frequencies]."""
        return self.field("spectrum")


def _tasks(
    folder: Path,
    stage: str,
    size: int,
    compute: Compute,
    items: Sequence[Path] | np.ndarray,
    *arguments: object,
) -> list[Task]:
    """One task for every `size` items."""
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    return [
        Task(folder / f"{stage}-{number:05d}.npy", len(chunk), compute, (chunk, *arguments))
        for number, chunk in enumerate(chunks)
    ]


# Each worker process opens the files of the one search that it works for.
_open_features = functools.lru_cache(maxsize=1)(FeatureFiles)


def _describe(paths: Sequence[Path], max_pixels: int, settings: Settings) -> Computed:
    records = np.zeros(len(paths), features.feature_type(settings))
    unreadable = []
    for row, path in enumerate(paths):
        try:
            records[row] = features.describe(read_image(path, max_pixels=max_pixels), settings)
        except DataError as error:
            unreadable.append(str(error))
    return records, unreadable


def _copies(rows: np.ndarray, folder: Path, labels: np.ndarray, settings: Settings) -> Computed:
    return candidate_copies(_open_features(folder).spectra, labels, rows, settings), []


def _overlaps(
    images: np.ndarray, folder: Path, owners: np.ndarray, labels: np.ndarray, settings: Settings
) -> Computed:
    """Candidate overlaps among `images`, int[M], of different originals `owners`, with classes `labels`."""
    records = _open_features(folder)
    chosen = np.array([records[image] for image in images.tolist()])
    pairs = images[candidate_overlaps(chosen, owners, labels, settings)]
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int32), []


def _verify(pairs: np.ndarray, folder: Path, settings: Settings) -> Computed:
    """Fits maps between pairs of images, int32[P, 2]: PAIR[V], those that were verified."""
    records = _open_features(folder)
    found = []
    for first, second in pairs.tolist():
        record = verification.verify(records[first], records[second], settings)
        if record is not None:
            record["first"], record["second"] = first, second
            found.append(record)
    return np.array(found, verification.PAIR), []
