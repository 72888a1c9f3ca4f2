"""Find near-duplicates in a folder of images: copies of a photograph, and overlapping photographs."""

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
from jaxnets.runtime.processes import worker_pool

ALGORITHM_VERSION = 1
"""Incremented when results of earlier versions must not be reused."""

LARGEST, DOUBTFUL = "largest", "doubtful"
"""Names of the montages."""


def find_duplicates(
    arguments: Sequence[str],
    *,
    out: str,
    work: str | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    settings: Settings | None = None,
) -> None:
    """Writes `out` (file,original,group), a .json with statistics and two .jpg montages.

    A search that was killed resumes from the finished tasks in `work`. Raises ConfigError for wrong arguments
    or if OpenCV is missing, DataError for unreadable images, MachineError if `work` is locked or read-only.
    """
    if len(arguments) != 1:
        raise ConfigError("give one folder of images: find_duplicates.py DIR")
    target, settings = Path(out), settings or Settings()
    if target.suffix != ".csv":
        raise ConfigError(f"--out={out} must end in .csv")
    workdir_path = Path(work) if work else target.with_name(f".{target.stem}.work")
    folder_of_images = Path(arguments[0])
    if target.resolve().is_relative_to(folder_of_images.resolve()):
        raise ConfigError(
            f"--out={out} is inside {folder_of_images}: give a path outside of the images' folder"
        )
    opencv()
    reporter = Reporter()
    listing = list_images(folder_of_images, max_pixels=max_pixels)
    images = listing.images
    others = f", {listing.others:,} other files skipped" if listing.others else ""
    if listing.beside:
        others += f", {listing.beside:,} images outside of class folders skipped, as in training"
    reporter.line("images", f"{len(images):,} in {len(images.classes)} classes{others}")
    with workdir.lock_workdir(workdir_path, "--work" if work else "--out"):
        with reporter.phase("hash") as phase:
            folder = workdir_path / _cache_key(images, settings)
            phase.text = f"work files in {folder}"
        existing = [path for path in _output_files(target) if path.exists()]
        if existing and not folder.exists():
            raise ConfigError(f"{existing[0]} exists: give another --out, or remove it")
        folder.mkdir(exist_ok=True)
        processes = workers or os.cpu_count() or 1
        with worker_pool(processes, _use_one_thread) as pool:
            runner = TaskRunner(reporter, pool)
            found = search(images, folder, settings, runner)
        _write(target, images, found, settings, runner)


def _montage(target: Path, name: str) -> Path:
    return target.with_name(f"{target.stem}-{name}.jpg")


def _output_files(target: Path) -> tuple[Path, ...]:
    montages = (_montage(target, name) for name in (LARGEST, DOUBTFUL))
    return (target, target.with_suffix(".json"), *montages)


class TaskRunner:
    """Runs the tasks of each stage in a process pool and measures their time."""

    def __init__(self, reporter: Reporter, pool: concurrent.futures.Executor):
        self.reporter, self.pool = reporter, pool
        self.seconds: dict[str, float] = {}
        self.processor_seconds = 0.0
        self.reused = 0

    def stage(self, name: str, work: Sequence[tasks.Task]) -> None:
        """Runs the tasks without a stored result; raises DataError for unreadable images."""
        start = time.perf_counter()
        missing = [task for task in work if not task.path.exists()]
        reused = len(work) - len(missing)
        self.reused += reused
        total = sum(task.count for task in work)
        done = total - sum(task.count for task in missing)
        unreadable: list[str] = []
        with self.reporter.phase(name) as phase:
            with self.reporter.counter(name) as progress:
                progress(done, total)
                futures = [self.pool.submit(task.run) for task in missing]
                for future in concurrent.futures.as_completed(futures):
                    result = future.result()
                    done += result.count
                    self.processor_seconds += result.seconds
                    unreadable += result.unreadable
                    progress(done, total)
            if unreadable:
                raise all_unreadable(unreadable)
            phase.text = f"{total:,}"
            if reused:
                phase.text += f", {reused} of {len(work)} tasks reused"
        self.seconds[name] = round(time.perf_counter() - start, 1)


def _use_one_thread() -> None:
    """The worker processes provide the parallelism."""
    import threadpoolctl

    opencv().setNumThreads(1)
    threadpoolctl.threadpool_limits(1)


def search(images: ImageFiles, folder: Path, settings: Settings, runner: TaskRunner) -> grouping.Found:
    """Finds copies, then overlaps among a few images per original, then verifies these with more images."""
    none, nothing = np.zeros((0, 2), np.int32), np.zeros(0, PAIR)
    paths = [images.root / file for file in images.files]
    runner.stage("describe", tasks.describe_tasks(folder, paths, images.max_pixels, settings))
    records = tasks.FeatureFiles(folder)
    _, identical = np.unique(records.field("pixels"), axis=0, return_inverse=True)

    def verify(stage: str, pairs: np.ndarray) -> np.ndarray:
        work = tasks.verify_tasks(folder, stage, pairs, settings)
        runner.stage(stage, work)
        return tasks.load_results(work, nothing)

    near = tasks.neighbour_tasks(folder, images.labels, settings)
    runner.stage("compare", near)
    tried = np.unique(tasks.load_results(near, none), axis=0)
    pairs = verify("copies", tried)
    originals = grouping.originals(pairs, identical, settings)
    few = grouping.representatives(pairs, originals, settings.representatives, settings)
    alike = tasks.word_tasks(folder, few, images.labels, settings)
    runner.stage("words", alike)
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


def _cache_key(images: ImageFiles, settings: Settings) -> str:
    """A hash of everything that the results depend on."""
    version = opencv().__version__
    key = [ALGORITHM_VERSION, images.fingerprint, dataclasses.asdict(settings), version]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def _write(
    target: Path, images: ImageFiles, found: grouping.Found, settings: Settings, runner: TaskRunner
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    summary = report.summary(images, found, settings)
    summary["run"] = {
        "seconds": runner.seconds,
        "total_seconds": round(sum(runner.seconds.values()), 1),
        "processor_seconds": round(runner.processor_seconds + time.thread_time(), 1),
        "pieces_done_before": runner.reused,
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
    atomic_write(target.with_suffix(".json"), json.dumps(summary, indent=1) + "\n")
    members = {
        file: (str(original), str(group))
        for file, original, group in zip(images.files, found.originals, found.groups, strict=True)
    }
    Groups(str(target), members).write(target)
    report.print_report(runner.reporter, target, summary, montages)
