"""Stages of tasks for a pool of processes, whose results are files so that a search can resume."""

import concurrent.futures
import functools
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxnets.data.images import all_unreadable
from jaxnets.io import atomic_write
from jaxnets.runtime import console

Computed = tuple[np.ndarray, list[str]]
"""The result of a task, and messages of images that cannot be read."""


class TaskRunner:
    """Runs the tasks of each stage in a process pool, saves results in `folder` and measures the time."""

    def __init__(self, pool: concurrent.futures.Executor, folder: Path):
        self.pool, self.folder = pool, folder
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
        with console.phase(name) as phase:
            with console.counter(name) as progress:
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
