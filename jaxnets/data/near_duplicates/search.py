"""The search in stages of tasks for a pool of processes; their results are files, so that it can resume."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxnets.data.images import all_unreadable, read_image
from jaxnets.data.near_duplicates import features, grouping
from jaxnets.data.near_duplicates.features import Settings
from jaxnets.data.near_duplicates.verification import PAIR, verify
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.errors import DataError
from jaxnets.io import atomic_write
from jaxnets.runtime.console import Reporter

ALGORITHM_VERSION = 1  # incremented when results of earlier versions must not be reused
IMAGES, ROWS, PAIRS = 250, 500, 2_000  # per task: images to describe or compare, pairs to verify

Computed = tuple[np.ndarray, list[str]]
"""The result of a task, and messages of images that cannot be read."""


class TaskRunner:
    """Runs the tasks of each stage in a process pool, saves results in `folder` and measures the time."""

    def __init__(self, reporter: Reporter, pool: concurrent.futures.Executor, folder: Path):
        self.reporter, self.pool, self.folder = reporter, pool, folder
        self.seconds: dict[str, float] = {}
        self.processor_seconds = 0.0
        self.reused = 0

    def stage(
        self,
        name: str,
        size: int,
        compute: Callable[..., Computed],
        items: Sequence[Path] | np.ndarray,
        *arguments: object,
    ) -> list[np.ndarray]:
        """The results of `compute(chunk, *arguments)` for chunks of `size` items; reuses stored ones.

        Raises DataError for unreadable images.
        """
        start = time.perf_counter()
        chunks = [items[first : first + size] for first in range(0, len(items), size)]
        paths = [self.folder / f"{name}-{number:05d}.npy" for number in range(len(chunks))]
        missing = [(path, chunk) for path, chunk in zip(paths, chunks, strict=True) if not path.exists()]
        reused = len(chunks) - len(missing)
        self.reused += reused
        done = len(items) - sum(len(chunk) for _, chunk in missing)
        unreadable: list[str] = []
        with self.reporter.phase(name) as phase:
            with self.reporter.counter(name) as progress:
                progress(done, len(items))
                submit = functools.partial(self.pool.submit, run_task, compute)
                sizes = {submit(path, chunk, *arguments): len(chunk) for path, chunk in missing}
                for future in concurrent.futures.as_completed(sizes):
                    seconds, messages = future.result()
                    done += sizes[future]
                    self.processor_seconds += seconds
                    unreadable += messages
                    progress(done, len(items))
            if unreadable:
                raise all_unreadable(unreadable)
            phase.text = f"{len(items):,}"
            if reused:
                phase.text += f", {reused} of {len(chunks)} tasks reused"
        self.seconds[name] = round(time.perf_counter() - start, 1)
        return [np.load(path, mmap_mode="r") for path in paths]


def run_task(
    compute: Callable[..., Computed], path: Path, items: Sequence[Path] | np.ndarray, *arguments: object
) -> tuple[float, list[str]]:
    """Saves the result, unless an image cannot be read; returns CPU seconds and messages of such images."""
    start = time.thread_time()
    result, unreadable = compute(items, *arguments)
    if not unreadable:
        file = io.BytesIO()
        np.save(file, result)
        atomic_write(path, file.getvalue())
    return time.thread_time() - start, unreadable


def search(images: ImageFiles, settings: Settings, runner: TaskRunner) -> grouping.Found:
    """Finds copies, then overlaps among a few images per original, then verifies these with more images."""
    folder, stage, labels = runner.folder, runner.stage, images.labels
    paths = [images.root / file for file in images.files]
    stage("describe", IMAGES, describe_images, paths, images.max_pixels, settings)
    records = FeatureFiles(folder)
    _, identical = np.unique(records.field("pixels"), axis=0, return_inverse=True)

    def verified(name: str, pairs: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros(0, PAIR), *stage(name, PAIRS, _verify, pairs, folder, settings)])

    near = stage("compare", ROWS, _copies, np.arange(len(images)), folder, labels, settings)
    tried = np.unique(np.concatenate(near), axis=0)
    pairs = verified("copies", tried)
    originals = grouping.originals(pairs, identical, settings)
    few = grouping.representatives(pairs, originals, settings.representatives, settings)
    chosen = np.concatenate(few)
    alike = stage("words", len(chosen), _overlaps, chosen, folder, originals, labels, settings)
    new = grouping.exclude(np.concatenate(alike), tried)
    pairs, tried = np.concatenate([pairs, verified("overlaps", new)]), np.concatenate([tried, new])
    originals = grouping.originals(pairs, identical, settings)
    more = grouping.representatives(pairs, originals, settings.overlap_members, settings)
    new = grouping.cross_pairs(more, grouping.overlaps(pairs, originals, settings))
    new = grouping.exclude(new, tried)
    pairs = np.concatenate([pairs, verified("certain", new)])
    originals = grouping.originals(pairs, identical, settings)
    overlaps = grouping.overlaps(pairs, originals, settings)
    groups = grouping.groups(originals, overlaps)
    counts = records.field("count")
    return grouping.Found(originals, groups, overlaps, pairs, len(tried) + len(new), counts)


class FeatureFiles:
    """The features of all images by index, memory-mapped from the files of the first stage."""

    def __init__(self, folder: Path):
        self._parts = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("describe-*.npy"))]

    def __getitem__(self, index: int) -> np.ndarray:
        return self._parts[index // IMAGES][index % IMAGES]

    def field(self, name: str) -> np.ndarray:
        """One field of all images: [N, ...]."""
        return np.concatenate([part[name] for part in self._parts])

    @functools.cached_property
    def spectra(self) -> np.ndarray:
        """float32[N, rings, frequencies]."""
        return self.field("spectrum")


# A worker process opens the files of the one search that it works for once.
_open_features = functools.lru_cache(maxsize=1)(FeatureFiles)


def describe_images(paths: Sequence[Path], max_pixels: int, settings: Settings) -> Computed:
    """The features of images: records of `feature_type`."""
    records = np.zeros(len(paths), features.feature_type(settings))
    unreadable = []
    for row, path in enumerate(paths):
        try:
            records[row] = features.describe(read_image(path, max_pixels=max_pixels), settings)
        except DataError as error:
            unreadable.append(str(error))
    return records, unreadable


def _copies(rows: np.ndarray, folder: Path, labels: np.ndarray, settings: Settings) -> Computed:
    return features.candidate_copies(_open_features(folder).spectra, labels, rows, settings), []


def _overlaps(
    images: np.ndarray, folder: Path, originals: np.ndarray, labels: np.ndarray, settings: Settings
) -> Computed:
    records = _open_features(folder)
    chosen = np.array([records[image] for image in images.tolist()])
    pairs = images[features.candidate_overlaps(chosen, originals[images], labels[images], settings)]
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int32), []


def _verify(pairs: np.ndarray, folder: Path, settings: Settings) -> Computed:
    """PAIR[V]: maps between pairs of images, int32[P, 2], without those that have none."""
    records = _open_features(folder)
    found = []
    for first, second in pairs.tolist():
        record = verify(records[first], records[second], settings)
        if record is not None:
            record["first"], record["second"] = first, second
            found.append(record)
    return np.array(found, PAIR), []


def cache_key(images: ImageFiles, settings: Settings) -> str:
    """A hash of everything that the results depend on."""
    key = [ALGORITHM_VERSION, images.fingerprint, dataclasses.asdict(settings), features.opencv().__version__]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def use_one_thread() -> None:
    """The worker processes provide the parallelism."""
    import threadpoolctl

    features.opencv().setNumThreads(1)
    threadpoolctl.threadpool_limits(1)
