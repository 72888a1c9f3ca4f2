"""Work in pieces, each a file that is whole or not there, so that a killed search goes on."""

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
"""How much one piece holds: images described, images whose neighbours are sought, pairs verified."""


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """What a piece was: how many, the processor's seconds, and images that cannot be read."""

    count: int
    seconds: float
    unreadable: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """One piece of a stage; `run` computes it and writes `path`."""

    folder: Path
    stage: str
    number: int
    settings: Settings

    @property
    def path(self) -> Path:
        """Where its result lies."""
        return task_path(self.folder, self.stage, self.number)

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """How many things it is about."""

    def run(self) -> TaskResult:
        """Computes and keeps the piece; unreadable images are told, and then nothing is kept."""
        start = time.thread_time()
        result, unreadable = self._compute()
        if not unreadable:
            file = io.BytesIO()
            np.save(file, result)
            atomic_write(self.path, file.getvalue())
        return TaskResult(self.count, time.thread_time() - start, tuple(unreadable))

    @abc.abstractmethod
    def _compute(self) -> tuple[np.ndarray, list[str]]:
        """The result, and what is told of images that cannot be read."""


@dataclasses.dataclass(frozen=True)
class Describe(Task):
    """Features of images; needs OpenCV."""

    paths: tuple[Path, ...]
    max_pixels: int

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.paths)

    def _compute(self) -> tuple[np.ndarray, list[str]]:
        records = np.zeros(len(self.paths), features.feature_type(self.settings))
        unreadable = []
        for place, path in enumerate(self.paths):
            try:
                image = read_image(path, max_pixels=self.max_pixels)
                records[place] = features.describe(image, self.settings)
            except DataError as error:
                unreadable.append(str(error))
        return records, unreadable


@dataclasses.dataclass(frozen=True)
class Neighbours(Task):
    """Candidates for the images `start` to `stop`."""

    start: int
    stop: int
    labels: np.ndarray

    @property
    def count(self) -> int:
        """How many images."""
        return self.stop - self.start

    def _compute(self) -> tuple[np.ndarray, list[str]]:
        rows = np.arange(self.start, self.stop)
        spectra = _spectra(self.folder)
        return candidates.nearest(spectra, self.labels, rows, self.settings), []


@dataclasses.dataclass(frozen=True)
class Words(Task):
    """Candidates among `images`, int[M], of different `owners`, int[M]; `labels` are their classes."""

    images: np.ndarray
    owners: np.ndarray
    labels: np.ndarray

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.images)

    def _compute(self) -> tuple[np.ndarray, list[str]]:
        records = open_features(self.folder)
        chosen = np.array([records[image] for image in self.images.tolist()])
        pairs = self.images[
            visual_words.candidate_pairs(chosen, self.owners, self.labels, self.settings)
        ]
        return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int32), []


@dataclasses.dataclass(frozen=True)
class Verify(Task):
    """Maps between pairs of images, int32[P, 2]."""

    pairs: np.ndarray

    @property
    def count(self) -> int:
        """How many pairs."""
        return len(self.pairs)

    def _compute(self) -> tuple[np.ndarray, list[str]]:
        records = open_features(self.folder)
        found = []
        for first, second in self.pairs.tolist():
            record = verification.verify(records[first], records[second], self.settings)
            if record is not None:
                record["first"], record["second"] = first, second
                found.append(record)
        return np.array(found, verification.PAIR), []


def describe_tasks(
    folder: Path, paths: Sequence[Path], max_pixels: int, settings: Settings
) -> list[Task]:
    """The pieces of the first stage, "features"."""
    return [
        Describe(
            folder, "features", number, settings, tuple(paths[start : start + IMAGES]), max_pixels
        )
        for number, start in enumerate(range(0, len(paths), IMAGES))
    ]


def neighbour_tasks(folder: Path, labels: np.ndarray, settings: Settings) -> list[Task]:
    """The pieces of the second, "candidates"."""
    total = len(labels)
    return [
        Neighbours(folder, "candidates", number, settings, start, min(start + ROWS, total), labels)
        for number, start in enumerate(range(0, total, ROWS))
    ]


def word_tasks(
    folder: Path, members: Sequence[np.ndarray], labels: np.ndarray, settings: Settings
) -> list[Task]:
    """The one piece that seeks, for a few images of each original, those of others that may overlap."""
    owners = np.repeat(np.arange(len(members)), [len(images) for images in members])
    images = np.concatenate(members)
    return [Words(folder, "words", 0, settings, images, owners, labels[images])]


def verify_tasks(folder: Path, stage: str, pairs: np.ndarray, settings: Settings) -> list[Task]:
    """The pieces of a stage that verifies pairs of images, int32[P, 2]."""
    return [
        Verify(folder, stage, number, settings, pairs[start : start + PAIRS])
        for number, start in enumerate(range(0, len(pairs), PAIRS))
    ]


def collected(pieces: Sequence[Task], empty: np.ndarray) -> np.ndarray:
    """The results of all pieces of a stage, one after the other; `empty` where there is none."""
    return np.concatenate([empty, *(np.load(piece.path) for piece in pieces)])


def task_path(folder: Path, stage: str, number: int) -> Path:
    """Where a piece's result lies."""
    return folder / f"{stage}-{number:05d}.npy"


class FeatureFiles:
    """The records of all images by index, read from the files of the first stage when asked for."""

    def __init__(self, folder: Path):
        paths = sorted(folder.glob("features-*.npy"))
        self._parts = [np.load(path, mmap_mode="r") for path in paths]

    def __getitem__(self, index: int) -> np.ndarray:
        return self._parts[index // IMAGES][index % IMAGES]

    def field(self, name: str) -> np.ndarray:
        """One field of all records: [N, ...]."""
        return np.concatenate([part[name] for part in self._parts])


@functools.lru_cache(maxsize=1)
def open_features(folder: Path) -> FeatureFiles:
    """The features of all images, once the first stage is done."""
    return FeatureFiles(folder)


@functools.lru_cache(maxsize=1)
def _spectra(folder: Path) -> np.ndarray:
    return open_features(folder).field("spectrum")
