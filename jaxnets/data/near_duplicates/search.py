"""The search in stages; each is a list of tasks for a pool of processes, which reuses finished ones."""

import concurrent.futures
import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnets.data.images import all_unreadable
from jaxnets.data.near_duplicates import grouping, tasks
from jaxnets.data.near_duplicates.features import opencv
from jaxnets.data.near_duplicates.settings import Settings
from jaxnets.data.near_duplicates.verification import PAIR
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.runtime.console import Reporter

ALGORITHM_VERSION = 1
"""Incremented when results of earlier versions must not be reused."""


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


def cache_key(images: ImageFiles, settings: Settings) -> str:
    """A hash of everything that the results depend on."""
    version = opencv().__version__
    key = [ALGORITHM_VERSION, images.fingerprint, dataclasses.asdict(settings), version]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def use_one_thread() -> None:
    """The worker processes provide the parallelism."""
    import threadpoolctl

    opencv().setNumThreads(1)
    threadpoolctl.threadpool_limits(1)
