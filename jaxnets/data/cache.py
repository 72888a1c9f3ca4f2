"""Arrays that are computed once and then memory-mapped, such as the decoded images of a source."""

import concurrent.futures
import contextlib
import functools
import gc
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL

from jaxnets.data.batch import FEATURES, Example
from jaxnets.data.images import PIXELS, all_unreadable, resize_image
from jaxnets.data.sources.base import Progress, Source
from jaxnets.errors import DataError, MachineError
from jaxnets.io import atomic_write, file_lock, file_sha256
from jaxnets.runtime.processes import worker_pool

FORMAT = 2
DRAWN_AT_A_TIME, FEWEST_DRAWN_BY_PROCESSES = 50, 500
"""Images of a call to a process that draws; for fewer images no processes are started."""
ZEROS = bytes(1 << 20)
DESCRIPTION, UNFINISHED = "cache.json", ".unfinished"
ANY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH

Resize = Literal["crop", "stretch"]
Fill = Callable[[np.ndarray], None]  # computes the values of an array in place


class CachedMemmap(NamedTuple):
    """A read-only memory map, and the seconds in which it was filled, by this or another process."""

    array: np.ndarray
    seconds: float


def cached_memmap(
    folder: Path, name: str, fill: Fill, *, shape: tuple[int, ...], dtype: Any, about: Mapping[str, Any]
) -> CachedMemmap:
    """Opens the array FOLDER/NAME.npy, computing it with `fill` if necessary.

    `about` lists everything the values depend on, as JSON: the array is rebuilt if it was made from anything
    else, or if its bytes, which every call hashes, have changed. A second process waits for the one that
    fills the array; a killed one leaves no usable partial array. Raises MachineError if the disk is full,
    and whatever `fill` raises.
    """
    file = folder / f"{name}.npy"
    lock = folder.with_name(f".{folder.name}.lock")
    about = json.loads(json.dumps({**about, "shape": shape, "dtype": np.dtype(dtype).name}))
    with file_lock(lock, shared=True):  # processes may hash at the same time
        found = _open_valid(file, about)
    if found is None:
        with file_lock(lock):  # another process may have filled it meanwhile
            found = _open_valid(file, about) or _build(file, fill, shape, dtype, about)
    return found


def _build(
    file: Path, fill: Fill, shape: tuple[int, ...], dtype: Any, about: Mapping[str, Any]
) -> CachedMemmap:
    """Replaces the folder of `file`."""
    folder = file.parent
    unfinished = folder.with_name(folder.name + UNFINISHED)
    _remove(folder)  # under the exclusive lock: no other process uses them
    _remove(unfinished)
    try:
        unfinished.mkdir(parents=True)
        target = unfinished / file.name
        array = np.lib.format.open_memmap(target, mode="w+", dtype=dtype, shape=shape)
        _allocate(target, array.offset, array.nbytes)
        start = time.perf_counter()
        fill(array)
        seconds = time.perf_counter() - start
        array.flush()
        description = {"format": FORMAT, "about": about, "seconds": seconds, "sha256": file_sha256(target)}
        atomic_write(unfinished / DESCRIPTION, json.dumps(description, indent=1) + "\n")
        unfinished.rename(folder)
        return CachedMemmap(np.load(file, mmap_mode="r"), seconds)
    except OSError as error:
        remedy = "free disk space, or set --config.data.cache_root"
        raise MachineError(f"the cache {folder} cannot be written ({error.strerror}): {remedy}") from error
    finally:
        _remove(unfinished)


def _allocate(file: Path, start: int, size: int) -> None:
    """Allocates `size` bytes: a full disk raises here, while writing to the map would kill the process."""
    with file.open("r+b") as opened:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, start + size)
            return
        opened.seek(start)  # macOS
        for position in range(0, size, len(ZEROS)):
            opened.write(ZEROS[: size - position])


def _open_valid(file: Path, about: Mapping[str, Any]) -> CachedMemmap | None:
    """The array; None if it was not made from `about` or its bytes have changed."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads((file.parent / DESCRIPTION).read_text())
        same = found["format"] == FORMAT and found["about"] == about
        if same and found["seconds"] >= 0 and file_sha256(file) == found["sha256"]:
            return CachedMemmap(np.load(file, mmap_mode="r"), found["seconds"])
    return None


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


class SourceWrapper(Source):
    """Delegates to the wrapped source, `original`."""

    def __init__(self, source: Source):
        self.original = source
        self.ships_groups, self.groups = source.ships_groups, source.groups
        self.groups_remedy, self.split_remedy = source.groups_remedy, source.split_remedy
        self.is_drawn = source.is_drawn

    @property
    def fingerprint(self) -> str:
        return self.original.fingerprint

    def content_hashes(self) -> np.ndarray | None:
        return self.original.content_hashes()

    def describe_skipped(self) -> str:
        return self.original.describe_skipped()

    def locate_example(self, index: int) -> str:
        return self.original.locate_example(index)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


class ResizedSource(SourceWrapper):
    """A source that decodes and resizes images at every access."""

    def __init__(self, source: Source, size: int, resize: Resize):
        super().__init__(source)
        self._size, self._resize = size, resize

    def _read(self, index: int) -> Example:
        example = self.original[index]
        return {**example, "image": resize_image(example["image"], self._size, self._resize)}


class CachedSource(SourceWrapper):
    """A source whose images are rows of a memory map, uint8[N, H, W, C], and have one size."""

    field = "image"

    def __init__(self, source: Source, images: np.ndarray):
        super().__init__(source)
        self.images = images

    def _read(self, index: int) -> Example:
        return {self.field: np.asarray(self.images[index]), "label": self.labels[index]}

    def content_hashes(self) -> np.ndarray:
        """The original's digests or, if it has none, those of the cached pixels."""
        hashes = super().content_hashes()
        if hashes is None:
            hashes = np.array([hashlib.blake2b(row, digest_size=16).hexdigest() for row in self.images])
        return hashes


class FeatureSource(CachedSource):
    """A source with cached features of a frozen backbone: "features", float32, replaces "image"."""

    field = FEATURES


def gather(source: Source, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """Collates examples by index into one batch; all images must have the same shape."""
    indices = np.asarray(indices, np.int64)
    if isinstance(source, CachedSource):
        return {source.field: source.images[indices], "label": source.labels[indices], "index": indices}
    examples = [source[int(index)] for index in indices]
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def cache_folder(root: Path, source: Source, size: int, resize: Resize) -> Path:
    """The folder of a source's cache under `root`."""
    return root / f"{source.name}-{source.fingerprint[:16]}-{size}-{resize}"


def open_cache(
    source: Source,
    root: Path,
    size: int,
    *,
    resize: Resize = "crop",
    threads: int = 1,
    progress: Progress | None = None,
) -> CachedSource:
    """Opens the cache of a source's images at `size` x `size` pixels, creating it if necessary.

    The cache is rebuilt if its bytes have changed, or if another version of Pillow or of
    `jaxnets.data.images` created it. Raises DataError for images that cannot be read, and MachineError if the
    disk is full.
    """

    def fill(images: np.ndarray) -> None:
        if source.is_drawn and len(source) >= FEWEST_DRAWN_BY_PROCESSES:
            _draw_in_processes(source, images, resize, threads, progress)
            return
        unreadable: list[str] = []

        def decode(index: int) -> None:
            try:
                images[index] = resize_image(source[index]["image"], size, resize)
            except DataError as error:
                unreadable.append(str(error))

        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            for done, _ in enumerate(pool.map(decode, range(len(source))), 1):
                if progress is not None:
                    progress(done, len(source))
        if unreadable:
            raise all_unreadable(unreadable)

    folder = cache_folder(root, source, size, resize)
    shape = (len(source), size, size, source[0]["image"].shape[-1])
    about = {"source": source.name, "fingerprint": source.fingerprint, "size": size, "resize": resize}
    about |= {"pixels": PIXELS, "pillow": PIL.__version__}  # what decodes and resizes
    images, _ = cached_memmap(folder, "images", fill, shape=shape, dtype=np.uint8, about=about)
    return CachedSource(source, images)


def _draw_in_processes(
    source: Source, images: np.ndarray, resize: Resize, workers: int, progress: Progress | None
) -> None:
    """Fills `images` with drawn ones, which threads would draw one at a time: Python's lock is held."""
    parts = np.array_split(np.arange(len(source)), len(source) // DRAWN_AT_A_TIME)
    with worker_pool(workers, gc.freeze) as pool:
        for part, drawn in zip(parts, pool.map(functools.partial(gather, source), parts), strict=True):
            images[part] = [resize_image(image, images.shape[1], resize) for image in drawn["image"]]
            if progress is not None:
                progress(int(part[-1]) + 1, len(source))


def writable_cache_root(preferred: Path, fallback: Path) -> Path:
    """Returns `preferred` if it is writable, else `fallback`; raises MachineError if neither is."""
    for folder in (preferred, fallback):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not existing.stat().st_mode & ANY_WRITE:
            continue  # root could write there anyway
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise MachineError(f"neither {preferred} nor {fallback} is writable: set --config.data.cache_root")
