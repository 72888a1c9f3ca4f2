"""Decoded images as one memory-mapped uint8 array, made once for each source and size."""

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


class CachedSource:
    """A source whose images are rows of a memory map, all of one size; everything else is the original's."""

    def __init__(self, source: Source, images: np.ndarray):
        self._source = source
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
        """Many examples in one copy: {"image": [B, H, W, C], "label": [B], "index": [B]}."""
        return {
            "image": self._images[indices],
            "label": self._labels[indices].astype(np.int32),
            "index": np.asarray(indices, np.int64),
        }

    @property
    def original(self) -> Source:
        """The source that was decoded."""
        return self._source

    @property
    def images(self) -> np.ndarray:
        """uint8[N, H, W, C], read-only."""
        return self._images

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class FeatureSource(CachedSource):
    """A source whose images a frozen body has seen: examples have float32 "features" in the images' place."""

    def __init__(self, source: Source, features: np.ndarray):
        super().__init__(source, features)

    def __getitem__(self, index: int) -> Example:
        return _renamed(super().__getitem__(index))

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Many examples in one copy: {"features": [B, h, w, C], "label": [B], "index": [B]}."""
        return _renamed(super().gather(indices))


def _renamed(example: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {FEATURES if name == "image" else name: value for name, value in example.items()}


class ResizedSource:
    """A source whose images are decoded and resized at every access, for recipes without a cache."""

    def __init__(self, source: Source, size: int, resize: Resize):
        self._source, self._size, self._resize = source, size, resize

    @property
    def original(self) -> Source:
        """The source that is decoded."""
        return self._source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        example = self._source[index]
        return {**example, "image": resize_image(example["image"], self._size, self._resize)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def cache_folder(root: Path, source: Source, size: int, resize: Resize) -> Path:
    """Where the cache of a source lies under `root`."""
    return root / f"{source.name}-{source.fingerprint[:16]}-{size}-{resize}"


def writable_cache_root(preferred: Path, fallback: Path) -> Path:
    """`preferred` where it can be written, else `fallback`; raises MachineError where neither can."""
    for folder in (preferred, fallback):
        if _is_read_only(folder):
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise MachineError(
        f"neither {preferred} nor {fallback} can be written: set --config.data.cache_root"
    )


def open_cache(
    source: Source,
    root: Path,
    size: int,
    *,
    resize: Resize = "crop",
    threads: int = 1,
    progress: Progress | None = None,
) -> CachedSource:
    """The cache of a source of images at `size` pixels a side, made where it is not there yet.

    A second process waits for the first; a process that is killed leaves nothing that counts. A cache
    whose bytes have changed since, or that another version of Pillow or of `jaxnets.data.images` made, is
    made again. Raises DataError for images that cannot be read, and
    MachineError where the disk is full.
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
            "pillow": PIL.__version__,  # which decodes and resizes
        },
    )
    return CachedSource(source, images)


def _is_read_only(folder: Path) -> bool:
    """True below a folder that nobody may write, which the superuser could but is not meant to."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return not there.stat().st_mode & ANY_WRITE


def _decode_all(
    source: Source,
    images: np.ndarray,
    resize: Resize,
    threads: int,
    progress: Progress | None,
) -> list[str]:
    """Fills `images`; what could not be read, in words."""
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


def gather(
    source: Source | CachedSource, indices: Sequence[int] | np.ndarray
) -> dict[str, np.ndarray]:
    """Examples by index as one batch; images that are read one by one must share a shape."""
    indices = np.asarray(indices, np.int64)
    if isinstance(source, CachedSource):
        return source.gather(indices)
    examples = [source[int(index)] for index in indices]
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}
