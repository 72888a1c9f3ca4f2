"""Searches folders for near-duplicates, with intermediate results in a locked folder."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxnets.data.groups import Groups, read_groups
from jaxnets.data.images import MAX_PIXELS
from jaxnets.data.near_duplicates import search
from jaxnets.data.near_duplicates.features import Settings, opencv
from jaxnets.data.sources.base import Source
from jaxnets.data.sources.image_folder import ImageFiles, ImageListing, list_images
from jaxnets.errors import ConfigError
from jaxnets.experiment.workdir import lock_workdir
from jaxnets.runtime import console, xla
from jaxnets.runtime.processes import worker_pool


def find_duplicates(
    paths: Sequence[str | os.PathLike[str]],
    *,
    against: Sequence[str | os.PathLike[str]] = (),
    workdir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    settings: Settings | None = None,
) -> search.Duplicates:
    """As `jaxnets.find_duplicates`, for a sequence of paths."""
    opencv()
    listing = list_images([*map(Path, paths), *map(Path, against)], max_pixels=max_pixels)
    log_listing(listing)
    is_test = is_below(listing.images, [Path(path) for path in against])
    with contextlib.ExitStack() as stack:
        folder = workdir or stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxnets-"))
        settings = settings or Settings()
        runner = stack.enter_context(task_runner(listing.images, Path(folder), workers, settings))
        return search.search(listing.images, settings, runner, is_test)


@contextlib.contextmanager
def task_runner(
    images: ImageFiles, workdir: Path, workers: int | None, settings: Settings, *, flag: str = "workdir"
) -> Iterator[search.TaskRunner]:
    """Runs tasks of a search of `images` in a pool of processes, and stores results below `workdir`.

    The folder is locked; `flag` is the option to name in errors about it. Raises ConfigError if `workers` is
    less than 1.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers}: give at least 1, or None for one per CPU")
    with lock_workdir(workdir, flag):
        with console.phase("hash") as phase:
            folder = workdir / search.cache_key(images, settings)
            phase.text = f"intermediate results in {folder}"
        with worker_pool(workers or xla.cpu_threads(), search.use_one_thread) as pool:
            yield search.TaskRunner(pool, folder)


def find_groups(source: Source, cache: Path) -> Groups:
    """The groups of a source of image files: found once, then read from a table in the folder `cache`.

    Raises ConfigError for other sources or if OpenCV is missing, DataError for unreadable images.
    """
    if not isinstance(source, ImageFiles):
        raise ConfigError(
            f"--config.data.find_groups=True searches image files, but {source.name} is not made of them: "
            "leave it out"
        )
    opencv()
    settings = Settings()
    key = search.cache_key(source, settings)
    table = cache / f"groups-{key}.csv"
    if not table.exists():
        with task_runner(source, cache / key, None, settings, flag="--config.data.cache_root") as runner:
            search.search(source, settings, runner).to_groups(str(table)).write(table)
            shutil.rmtree(runner.folder)
    return read_groups(table)


def is_below(images: ImageFiles, paths: Sequence[Path]) -> np.ndarray:
    """bool[N]: the images that are one of `paths` or in one of them."""
    given = {os.path.abspath(path) for path in paths}
    folders = tuple(os.path.join(path, "") for path in given)
    files = map(os.path.abspath, images.files)
    return np.array([file in given or file.startswith(folders) for file in files])


def log_listing(listing: ImageListing) -> None:
    """Logs the numbers of images and of skipped files."""
    images = listing.images
    others = f", {listing.others:,} other files skipped" if listing.others else ""
    if listing.beside:
        others += f", {listing.beside:,} images outside of class folders skipped, as in training"
    console.log("images", f"{len(images):,} in {len(images.classes)} classes{others}")
