"""Caches decoded images as one memory-mapped uint8 array for each source and size."""

import concurrent.futures
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL

from jaxnets.data.cached_memmap import cached_memmap
from jaxnets.data.images import PIXELS, all_unreadable, resize_image
from jaxnets.data.sources.base import FEATURES, Example, Source
from jaxnets.data.sources.image_folder import Progress
from jaxnets.errors import DataError, MachineError

Resize = Literal["crop", "stretch"]
ANY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class SourceWrapper:
    """Delegates to the wrapped source."""

    def __init__(self, source: Source):
        self._source = source

    @property
    def original(self) -> Source:
        """The wrapped source."""
        return self._source

    def __len__(self) -> int:
        return len(self._source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class CachedSource(SourceWrapper):
    """A source whose images are rows of a memory map and have one size."""

    def __init__(self, source: Source, images: np.ndarray):
        super().__init__(source)
        self._images = images
        self._labels = source.labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Example:
        return {
            "image": np.asarray(self._images[index]),
            "label": np.asarray(self._labels[index], np.int32),
            "index": np.asarray(index, np.int64),
        }

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Gathers examples: {"image": [B, H, W, C], "label": [B], "index": [B]}."""
        return {
            "image": self._images[indices],
            "label": self._labels[indices].astype(np.int32),
            "index": np.asarray(indices, np.int64),
        }

    @property
    def images(self) -> np.ndarray:
        """uint8[N, H, W, C], read-only."""
        return self._images


class FeatureSource(CachedSource):
    """A source with cached features of a frozen backbone: "features", float32, replaces "image"."""

    def __getitem__(self, index: int) -> Example:
        return _renamed(super().__getitem__(index))

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Gathers examples: {"features": [B, h, w, C], "label": [B], "index": [B]}."""
        return _renamed(super().gather(indices))


def _renamed(example: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {FEATURES if name == "image" else name: value for name, value in example.items()}


class ResizedSource(SourceWrapper):
    """A source that decodes and resizes images at every access; used without a cache."""

    def __init__(self, source: Source, size: int, resize: Resize):
        super().__init__(source)
        self._size, self._resize = size, resize

    def __getitem__(self, index: int) -> Example:
        example = self._source[index]
        return {**example, "image": resize_image(example["image"], self._size, self._resize)}


def cache_folder(root: Path, source: Source, size: int, resize: Resize) -> Path:
    """The folder of a source's cache under `root`."""
    return root / f"{source.name}-{source.fingerprint[:16]}-{size}-{resize}"


def writable_cache_root(preferred: Path, fallback: Path) -> Path:
    """Returns `preferred` if it is writable, else `fallback`; raises MachineError if neither is."""
    for folder in (preferred, fallback):
        if _is_read_only(folder):
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise MachineError(f"neither {preferred} nor {fallback} is writable: set --config.data.cache_root")


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

    A second process waits for the first; a killed process leaves no usable partial cache. The cache is
    rebuilt if its bytes have changed, or if another version of Pillow or of `jaxnets.data.images` created it.
    Raises DataError for images that cannot be read, and MachineError if the disk is full.
    """
    folder = cache_folder(root, source, size, resize)

    def fill(images: np.ndarray) -> None:
        unreadable = _decode_all(source, images, resize, threads, progress)
        if unreadable:
            raise all_unreadable(unreadable)

    images, _ = cached_memmap(
        folder,
        "images",
        fill,
        shape=(len(source), size, size, source[0]["image"].shape[-1]),
        dtype=np.uint8,
        about={
            "source": source.name,
            "fingerprint": source.fingerprint,
            "size": size,
            "resize": resize,
            "pixels": PIXELS,
            "pillow": PIL.__version__,  # decodes and resizes
        },
    )
    return CachedSource(source, images)


def _is_read_only(folder: Path) -> bool:
    """Whether the nearest existing folder has no write permission; root could write there anyway."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return not existing.stat().st_mode & ANY_WRITE


def _decode_all(
    source: Source,
    images: np.ndarray,
    resize: Resize,
    threads: int,
    progress: Progress | None,
) -> list[str]:
    """Fills `images`; returns the messages of images that cannot be read."""
    unreadable: list[str] = []

    def decode(index: int) -> None:
        try:
            images[index] = resize_image(source[index]["image"], images.shape[1], resize)
        except DataError as error:
            unreadable.append(str(error))

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for done, _ in enumerate(pool.map(decode, range(len(source))), 1):
            if progress is not None:
                progress(done, len(source))
    return unreadable


def gather(source: Source | CachedSource, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """Collates examples by index into one batch; all images must have the same shape."""
    indices = np.asarray(indices, np.int64)
    if isinstance(source, CachedSource):
        return source.gather(indices)
    examples = [source[int(index)] for index in indices]
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}
