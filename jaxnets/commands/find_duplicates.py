"""Find near-duplicates in a folder of images: which are one photograph, which photographs overlap."""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxnets.commands import duplicates_report as report
from jaxnets.data.groups import Groups
from jaxnets.data.images import MAX_PIXELS, all_unreadable
from jaxnets.data.near_duplicates import grouping, montage, tasks
from jaxnets.data.near_duplicates.features import opencv
from jaxnets.data.near_duplicates.listing import list_images
from jaxnets.data.near_duplicates.settings import Settings
from jaxnets.data.near_duplicates.verification import PAIR
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.errors import ConfigError
from jaxnets.experiment import workdir
from jaxnets.io import atomic_replace, atomic_write
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.worker_pool import worker_pool

ALGORITHM_VERSION = 1
"""Raised whenever finished pieces of older versions must not be used."""

LARGEST, DOUBTFUL = "largest", "doubtful"
"""The montages."""


def find_duplicates(
    arguments: Sequence[str],
    *,
    out: str,
    work: str | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    settings: Settings | None = None,
) -> None:
    """Writes `out` (file,original,group), beside it what it rests on (.json) and two montages (.jpg).

    A search that was killed goes on from its finished pieces in `work`. Raises ConfigError for a wrong
    command or where OpenCV is missing, DataError for images that cannot be read, MachineError
    where `work` is in use or cannot be written.
    """
    if len(arguments) != 1:
        raise ConfigError("name one folder of images: find_duplicates.py DIR")
    opencv()
    target, settings = Path(out), settings or Settings()
    if target.suffix != ".csv":
        raise ConfigError(f"--out={out}: give a name that ends in .csv")
    place = Path(work) if work else target.with_name(f".{target.stem}.work")
    folder_of_images = Path(arguments[0])
    if target.resolve().is_relative_to(folder_of_images.resolve()):
        raise ConfigError(
            f"--out={out} lies in {folder_of_images}, whose images it is about: give a place outside"
        )
    reporter = Reporter()
    listing = list_images(folder_of_images, max_pixels=max_pixels)
    images = listing.images
    others = f", {listing.others:,} other files left out" if listing.others else ""
    if listing.beside:
        others += (
            f", {listing.beside:,} images beside the classes' folders left out, as in training"
        )
    reporter.line("images", f"{len(images):,} in {len(images.classes)} classes{others}")
    with workdir.lock_workdir(place, "--work" if work else "--out"):
        with reporter.phase("hash") as phase:
            folder = place / _identity(images, settings)
            phase.text = f"work files in {folder}"
        there = [path for path in _written(target) if path.exists()]
        if there and not folder.exists():
            raise ConfigError(f"{there[0]} is there already: name another --out, or remove it")
        folder.mkdir(exist_ok=True)
        processes = workers or os.cpu_count() or 1
        with worker_pool(processes, _be_single) as pool:
            run = Run(reporter, pool)
            found = search(images, folder, settings, run)
        _write(target, images, found, settings, run)


def _montage(target: Path, name: str) -> Path:
    return target.with_name(f"{target.stem}-{name}.jpg")


def _written(target: Path) -> tuple[Path, ...]:
    """All that is written at the end."""
    return (
        target,
        target.with_suffix(".json"),
        _montage(target, LARGEST),
        _montage(target, DOUBTFUL),
    )


class Run:
    """Has the pieces of each stage computed, and counts seconds."""

    def __init__(self, reporter: Reporter, pool: concurrent.futures.Executor):
        self.reporter, self.pool = reporter, pool
        self.seconds: dict[str, float] = {}
        self.processor_seconds = 0.0
        self.kept = 0

    def stage(self, name: str, work: Sequence[tasks.Task]) -> None:
        """Computes the pieces that are not there; raises DataError for images that cannot be read."""
        start = time.perf_counter()
        missing = [piece for piece in work if not piece.path.exists()]
        self.kept += len(work) - len(missing)
        total = sum(piece.count for piece in work)
        done = total - sum(piece.count for piece in missing)
        unreadable: list[str] = []
        with self.reporter.phase(name) as phase:
            with self.reporter.counter(name) as progress:
                progress(done, total)
                futures = [self.pool.submit(piece.run) for piece in missing]
                for future in concurrent.futures.as_completed(futures):
                    result = future.result()
                    done += result.count
                    self.processor_seconds += result.seconds
                    unreadable += result.unreadable
                    progress(done, total)
            if unreadable:
                raise all_unreadable(unreadable)
            kept = len(work) - len(missing)
            phase.text = f"{total:,}" + (f", {kept} of {len(work)} pieces kept" if kept else "")
        self.seconds[name] = round(time.perf_counter() - start, 1)


def _be_single() -> None:
    """One thread a worker: the workers are what fills the cores."""
    import threadpoolctl

    opencv().setNumThreads(1)
    threadpoolctl.threadpool_limits(1)


def search(images: ImageFiles, folder: Path, settings: Settings, run: Run) -> grouping.Found:
    """Describe, find copies, then overlaps among a few images of each original, then follow these up."""
    none, nothing = np.zeros((0, 2), np.int32), np.zeros(0, PAIR)
    paths = [images.root / file for file in images.files]
    run.stage("describe", tasks.describe_tasks(folder, paths, images.max_pixels, settings))
    records = tasks.FeatureFiles(folder)
    _, identical = np.unique(records.field("pixels"), axis=0, return_inverse=True)

    def verify(stage: str, pairs: np.ndarray) -> np.ndarray:
        work = tasks.verify_tasks(folder, stage, pairs, settings)
        run.stage(stage, work)
        return tasks.load_results(work, nothing)

    near = tasks.neighbour_tasks(folder, images.labels, settings)
    run.stage("compare", near)
    tried = np.unique(tasks.load_results(near, none), axis=0)
    pairs = verify("copies", tried)
    originals = grouping.originals(pairs, identical, settings)
    few = grouping.representatives(pairs, originals, settings.representatives, settings)
    alike = tasks.word_tasks(folder, few, images.labels, settings)
    run.stage("words", alike)
    new = grouping.exclude(tasks.load_results(alike, none), tried)
    pairs, tried = np.concatenate([pairs, verify("overlaps", new)]), np.concatenate([tried, new])
    originals = grouping.originals(pairs, identical, settings)
    more = grouping.representatives(pairs, originals, settings.overlap_members, settings)
    new = grouping.cross_pairs(more, grouping.linked_originals(pairs, originals))
    new = grouping.exclude(new, tried)
    pairs = np.concatenate([pairs, verify("certain", new)])
    originals = grouping.originals(pairs, identical, settings)
    overlaps = grouping.overlaps(pairs, originals, settings)
    groups = grouping.groups(originals, overlaps)
    counts = records.field("count")
    return grouping.Found(originals, groups, overlaps, pairs, len(tried) + len(new), counts)


def _identity(images: ImageFiles, settings: Settings) -> str:
    """Names the work by all that its results depend on."""
    message = [
        ALGORITHM_VERSION,
        images.fingerprint,
        dataclasses.asdict(settings),
        opencv().__version__,
    ]
    return hashlib.sha256(json.dumps(message).encode()).hexdigest()[:16]


def _write(
    target: Path, images: ImageFiles, found: grouping.Found, settings: Settings, run: Run
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    message = report.summary(images, found, settings)
    message["run"] = {
        "seconds": run.seconds,
        "total_seconds": round(sum(run.seconds.values()), 1),
        "processor_seconds": round(run.processor_seconds + time.thread_time(), 1),
        "pieces_done_before": run.kept,
        "versions": {"opencv": opencv().__version__, "numpy": np.__version__},
        "python": platform.python_version(),
    }
    montages = []
    for name, rows in (
        (LARGEST, report.largest(images, found, settings)),
        (DOUBTFUL, report.doubtful(images, found, settings)),
    ):
        path = _montage(target, name)
        if rows:
            picture = Image.fromarray(montage.montage(rows, settings))
            with atomic_replace(path) as temporary:
                picture.save(temporary, "JPEG", quality=85)
            montages.append(path)
    atomic_write(target.with_suffix(".json"), json.dumps(message, indent=1) + "\n")
    labels = zip(found.originals, found.groups, strict=True)
    members = {
        file: (str(original), str(group))
        for file, (original, group) in zip(images.files, labels, strict=True)
    }
    Groups(str(target), members).write(target)
    report.print_report(run.reporter, target, message, montages)
