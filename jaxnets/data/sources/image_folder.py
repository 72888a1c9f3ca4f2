"""Sources of image files: a list of files, and a folder with one subfolder per class."""

import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from jaxnets.data.images import EXTENSIONS, MAX_PIXELS, read_image
from jaxnets.data.sources.base import Example, checked_index
from jaxnets.errors import DataError
from jaxnets.io import read_regular

Progress = Callable[[int, int | None], None]
"""Called with the number done and the total, None if the total is unknown."""

_HASHING_THREADS = 4
SHOWN_CLASSES = 3
"""The most classes that `describe_skipped` names."""


class ImageFiles:
    """Image files below one folder: kind "image", uint8[H, W, 3] with varying H and W.

    `files` are paths relative to `root` with forward slashes, `labels` their classes. Files are read only
    on access, which raises DataError as `decode_image` does.
    """

    kind = "image"
    official_split = None

    def __init__(
        self,
        name: str,
        root: Path,
        files: Sequence[str],
        labels: Sequence[int] | np.ndarray,
        classes: Sequence[str],
        *,
        max_pixels: int = MAX_PIXELS,
    ):
        self.name = name
        self.root = root
        self.files = tuple(files)
        _check_utf8(root, self.files)
        self.labels = np.asarray(labels, np.int32)
        self.classes = tuple(classes)
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        index = checked_index(index, len(self))
        return {
            "image": read_image(self.root / self.files[index], max_pixels=self.max_pixels),
            "label": self.labels[index],
            "index": np.int64(index),
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of every file's path, size and content, in order; cached."""
        return self._hash_list(self.digests)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Each file's size and sha256, equal for equal files; cached."""
        return self._read_digests(None)

    def hash_files(self, progress: Progress | None = None) -> str:
        """Computes `fingerprint` without the cache; `progress` counts files."""
        return self._hash_list(self._read_digests(progress))

    def _read_digests(self, progress: Progress | None) -> tuple[str, ...]:
        digests = []
        with ThreadPoolExecutor(_HASHING_THREADS) as threads:
            for digest in threads.map(self._size_and_digest, self.files):
                digests.append(digest)
                if progress:
                    progress(len(digests), len(self))
        return tuple(digests)

    def _hash_list(self, digests: Sequence[str]) -> str:
        digest_of_all = hashlib.sha256()
        for file, digest in zip(self.files, digests, strict=True):
            digest_of_all.update(f"{file}\0{digest}\n".encode())
        return digest_of_all.hexdigest()

    def _size_and_digest(self, file: str) -> str:
        try:
            data = read_regular(self.root / file)
        except OSError as error:
            raise DataError(
                f"{self.root / file}: cannot be read ({error.strerror}); fix its permissions or remove it"
            ) from error
        return f"{len(data)}\0{hashlib.sha256(data).hexdigest()}"


def _check_utf8(root: Path, files: Sequence[str]) -> None:
    for file in files:
        try:
            file.encode()
        except UnicodeEncodeError as error:
            shown = file.encode("utf-8", "backslashreplace").decode()
            raise DataError(
                f"{root}/{shown}: its name is not UTF-8, the encoding of all tables of files; rename it"
            ) from error


class ImageFolder(ImageFiles):
    """One folder per class with JPEG, PNG, TIFF and WebP files at any depth.

    Classes are the folders' sorted names. Files are in class order, then in natural order (tissue2 before
    tissue10). Hidden files are ignored; files of other types are counted by class and type in
    `skipped_files`. Links to folders are followed at the first level only. Raises DataError if there are
    fewer than two classes or a class without images.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        name: str = "image_folder",
        *,
        max_pixels: int = MAX_PIXELS,
    ):
        root = Path(path)
        folders = _class_folders(root)
        files: list[str] = []
        labels: list[int] = []
        self.skipped_files: dict[str, Counter[str]] = {}
        for label, folder in enumerate(folders):
            found = list(visible_files(root / folder))
            images = sorted((file for file in found if is_image_name(file)), key=natural_order)
            if not images:
                raise DataError(
                    f"{root / folder}: this class's folder has no images and {len(found)} other "
                    f"files; add {', '.join(EXTENSIONS)} files, or remove the folder"
                )
            others = Counter(_file_type(file) for file in found if not is_image_name(file))
            if others:
                self.skipped_files[folder] = others
            files += [f"{folder}/{image}" for image in images]
            labels += [label] * len(images)
        super().__init__(name, root, files, labels, folders, max_pixels=max_pixels)

    def describe_skipped(self) -> str:
        """A summary such as "2 files skipped: 1 BMP, 1 GIF in class a"; "" if none were skipped."""
        if not self.skipped_files:
            return ""
        total = sum(map(Counter.total, self.skipped_files.values()))
        named = [
            ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items())) + f" in class {name}"
            for name, kinds in itertools.islice(self.skipped_files.items(), SHOWN_CLASSES)
        ]
        more = len(self.skipped_files) - len(named)
        named += [f"and more in {more:,} other classes"] if more else []
        return f"{total:,} file{'s' * (total != 1)} skipped: {'; '.join(named)}"


def natural_order(name: str) -> tuple[list[str | int], str]:
    """A sort key that compares runs of digits as numbers; ties such as 1 and 01 compare as text."""
    # Splitting on a group alternates text and digits, so equal positions have equal types.
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if position % 2 else part for position, part in enumerate(parts)], name


def _file_type(name: str) -> str:
    """The type of a file by its name: "GIF", or "without extension"."""
    return Path(name).suffix[1:].upper() or "without extension"


def is_image_name(name: str) -> bool:
    """Whether the name has the extension of a supported image format, ignoring case."""
    return name.lower().endswith(EXTENSIONS)


def _class_folders(root: Path) -> list[str]:
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root}: {what}; give a folder with one subfolder of images per class")
    visible = [path for path in root.iterdir() if not path.name.startswith(".")]
    folders = sorted(path.name for path in visible if path.is_dir())
    if len(folders) < 2:
        images = sum(is_image_name(path.name) for path in visible if not path.is_dir())
        found = f"one folder ({folders[0]})" if folders else "no folder"
        raise DataError(
            f"{root}: {found} and {images} images directly in it, but at least two classes are "
            "needed; put each class's images into its own folder"
        )
    return folders


def visible_files(folder: Path) -> Iterator[str]:
    """Yields files that are not hidden, at any depth, relative to the folder, with forward slashes."""

    def fail(error: OSError) -> None:
        raise DataError(
            f"{error.filename}: cannot be listed ({error.strerror}); fix its permissions"
        ) from error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder).as_posix()
