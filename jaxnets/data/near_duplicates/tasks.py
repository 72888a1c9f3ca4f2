"""The search as tasks whose results are atomic files, so that a killed search can resume."""

import abc
import dataclasses
import functools
import io
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnets.data.images import read_image
from jaxnets.data.near_duplicates import candidates, features, verification, visual_words
from jaxnets.data.near_duplicates.settings import Settings
from jaxnets.errors import DataError
from jaxnets.io import atomic_write

IMAGES, ROWS, PAIRS = 250, 500, 2_000
"""Sizes of a task: images to describe, images to find neighbours of, pairs to verify."""


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The number of items of a task, its CPU seconds, and messages of images that cannot be read."""

    count: int
    seconds: float
    unreadable: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """One part of a stage with `count` items; `run` computes it and writes `path`."""

    folder: Path
    stage: str
    number: int
    settings: Settings
    count: int

    @property
    def path(self) -> Path:
        """The file of the result."""
        return self.folder / f"{self.stage}-{self.number:05d}.npy"

    def run(self) -> TaskResult:
        """Computes and saves the result; saves nothing if an image cannot be read."""
        start = time.thread_time()
        result, unreadable = self._compute()
        if not unreadable:
            file = io.BytesIO()
            np.save(file, result)
            atomic_write(self.path, file.getvalue())
        return TaskResult(self.count, time.thread_time() - start, tuple(unreadable))

    @abc.abstractmethod
    def _compute(self) -> tuple[np.ndarray, list[str]]:
        """The result, and messages of images that cannot be read."""


@dataclasses.dataclass(frozen=True)
class Describe(Task):
    """Extracts the features of images; needs OpenCV."""

    paths: tuple[Path, ...]
    max_pixels: int

    def _compute(self) -> tuple[np.ndarray, list[str]]:
        records = np.zeros(len(self.paths), features.feature_type(self.settings))
        unreadable = []
        for row, path in enumerate(self.paths):
            try:
                image = read_image(path, max_pixels=self.max_pixels)
                records[row] = features.describe(image, self.settings)
            except DataError as error:
                unreadable.append(str(error))
        return records, unreadable


@dataclasses.dataclass(frozen=True)
class Neighbours(Task):
    """Candidate copies of `count` images from `start` on."""

    start: int
    labels: np.ndarray

    def _compute(self) -> tuple[np.ndarray, list[str]]:
        rows = np.arange(self.start, self.start + self.count)
        spectra = _spectra(self.folder)
        return candidates.nearest(spectra, self.labels, rows, self.settings), []


@dataclasses.dataclass(frozen=True)
class Words(Task):
    """Candidate overlaps among `images`, int[M], of different originals `owners`, with classes `labels`."""

    images: np.ndarray
    owners: np.ndarray
    labels: np.ndarray

    def _compute(self) -> tuple[np.ndarray, list[str]]:
        records = open_features(self.folder)
        chosen = np.array([records[image] for image in self.images.tolist()])
        pairs = self.images[visual_words.candidate_pairs(chosen, self.owners, self.labels, self.settings)]
        return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int32), []


@dataclasses.dataclass(frozen=True)
class Verify(Task):
    """Fits maps between pairs of images, int32[P, 2]."""

    pairs: np.ndarray

    def _compute(self) -> tuple[np.ndarray, list[str]]:
        records = open_features(self.folder)
        found = []
        for first, second in self.pairs.tolist():
            record = verification.verify(records[first], records[second], self.settings)
            if record is not None:
                record["first"], record["second"] = first, second
                found.append(record)
        return np.array(found, verification.PAIR), []


def describe_tasks(folder: Path, paths: Sequence[Path], max_pixels: int, settings: Settings) -> list[Task]:
    """The first stage, "features"."""
    chunks = [tuple(paths[start : start + IMAGES]) for start in range(0, len(paths), IMAGES)]
    return [
        Describe(folder, "features", number, settings, len(chunk), chunk, max_pixels)
        for number, chunk in enumerate(chunks)
    ]


def neighbour_tasks(folder: Path, labels: np.ndarray, settings: Settings) -> list[Task]:
    """The second stage, "candidates"."""
    total = len(labels)
    return [
        Neighbours(folder, "candidates", number, settings, min(ROWS, total - start), start, labels)
        for number, start in enumerate(range(0, total, ROWS))
    ]


def word_tasks(
    folder: Path, members: Sequence[np.ndarray], labels: np.ndarray, settings: Settings
) -> list[Task]:
    """The one task that proposes overlaps between a few images of each original."""
    owners = np.repeat(np.arange(len(members)), [len(images) for images in members])
    images = np.concatenate(members)
    return [Words(folder, "words", 0, settings, len(images), images, owners, labels[images])]


def verify_tasks(folder: Path, stage: str, pairs: np.ndarray, settings: Settings) -> list[Task]:
    """A stage that verifies pairs of images, int32[P, 2]."""
    chunks = [pairs[start : start + PAIRS] for start in range(0, len(pairs), PAIRS)]
    return [Verify(folder, stage, number, settings, len(chunk), chunk) for number, chunk in enumerate(chunks)]


def load_results(tasks: Sequence[Task], empty: np.ndarray) -> np.ndarray:
    """Concatenates the results of all tasks of a stage, starting from `empty`."""
    return np.concatenate([empty, *(np.load(task.path) for task in tasks)])


class FeatureFiles:
    """The features of all images by index, memory-mapped from the files of the first stage."""

    def __init__(self, folder: Path):
        paths = sorted(folder.glob("features-*.npy"))
        self._parts = [np.load(path, mmap_mode="r") for path in paths]

    def __getitem__(self, index: int) -> np.ndarray:
        return self._parts[index // IMAGES][index % IMAGES]

    def field(self, name: str) -> np.ndarray:
        """One field of all images: [N, ...]."""
        return np.concatenate([part[name] for part in self._parts])


@functools.lru_cache(maxsize=1)
def open_features(folder: Path) -> FeatureFiles:
    """The features of all images, after the first stage."""
    return FeatureFiles(folder)


@functools.lru_cache(maxsize=1)
def _spectra(folder: Path) -> np.ndarray:
    return open_features(folder).field("spectrum")
