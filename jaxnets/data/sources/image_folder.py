"""Sources that decode one file an example, and the user's own: a folder of images a class."""

import hashlib
import itertools
import operator
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from jaxnets.data.images import EXTENSIONS, MAX_PIXELS, read_image
from jaxnets.data.sources.base import Example
from jaxnets.errors import DataError
from jaxnets.io import read_regular

Progress = Callable[[int, int | None], None]
"""Called with what is done and what there is in all, None where that is not known."""

_HASHING_THREADS = 4
SHOWN_CLASSES = 3
"""Classes that are named with what was left out of them; of more, how many there are."""


class ImageFiles:
    """Examples that are image files below one folder: kind "image", uint8[H, W, 3], H and W vary.

    `files` are paths relative to `root` with forward slashes, `labels` their classes. Nothing
    is read until it is asked for. Reading an example raises DataError where `decode_image` does.
    """

    kind = "image"
    official_split = None

    def __init__(
        self,
        name: str,
        root: Path,
        files: Sequence[str],
        labels: Sequence[int],
        classes: Sequence[str],
        *,
        max_pixels: int = MAX_PIXELS,
    ):
        self.name = name
        self.root = root
        self.files = tuple(files)
        _require_utf8(root, self.files)
        self.labels = np.asarray(labels, np.int32)
        self.classes = tuple(classes)
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        place = checked_index(index, len(self))
        return {
            "image": read_image(self.root / self.files[place], max_pixels=self.max_pixels),
            "label": self.labels[place],
            "index": np.int64(place),
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over every file's path, size and content, in order; read once, then kept."""
        return self._listed(self.digests)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Each file's size and sha256, equal where files are the same; read once, then kept."""
        return self._read_digests(None)

    def hash_files(self, progress: Progress | None = None) -> str:
        """Computes `fingerprint` anew; `progress` counts files."""
        return self._listed(self._read_digests(progress))

    def _read_digests(self, progress: Progress | None) -> tuple[str, ...]:
        digests = []
        with ThreadPoolExecutor(_HASHING_THREADS) as threads:
            for digest in threads.map(self._size_and_digest, self.files):
                digests.append(digest)
                if progress:
                    progress(len(digests), len(self))
        return tuple(digests)

    def _listed(self, digests: Sequence[str]) -> str:
        hashes = hashlib.sha256()
        for file, digest in zip(self.files, digests, strict=True):
            hashes.update(f"{file}\0{digest}\n".encode())
        return hashes.hexdigest()

    def _size_and_digest(self, file: str) -> str:
        try:
            data = read_regular(self.root / file)
        except OSError as error:
            raise DataError(
                f"{self.root / file}: cannot be read ({error.strerror}); mend or remove it"
            ) from error
        return f"{len(data)}\0{hashlib.sha256(data).hexdigest()}"


def _require_utf8(root: Path, files: Sequence[str]) -> None:
    for file in files:
        try:
            file.encode()
        except UnicodeEncodeError as error:
            shown = file.encode("utf-8", "backslashreplace").decode()
            raise DataError(
                f"{root}/{shown}: its name is not UTF-8, which tables of files are written in; rename it"
            ) from error


class ImageFolder(ImageFiles):
    """A folder a class: JPEG, PNG, TIFF and WebP files, also in folders within a class's own.

    Classes are the folders' names, sorted. Files follow class by class, numbers in their names
    counted as numbers (tissue2 before tissue10). What begins with a dot is not seen; files of
    other kinds are left out, and counted by class and kind in `left_out`. Links to folders are
    followed at the first level only. Raises DataError when there is nothing to train on.
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
        self.skipped_aux_heads_note: dict[str, Counter[str]] = {}
        for label, folder in enumerate(folders):
            found = list(visible_files(root / folder))
            images = sorted((file for file in found if is_image_name(file)), key=natural_order)
            if not images:
                raise DataError(
                    f"{root / folder}: no image in this class's folder, {len(found)} other "
                    f"files; add {_KINDS} files, or remove the folder"
                )
            others = Counter(kind_of(file) for file in found if not is_image_name(file))
            if others:
                self.skipped_aux_heads_note[folder] = others
            files += [f"{folder}/{image}" for image in images]
            labels += [label] * len(images)
        super().__init__(name, root, files, labels, folders, max_pixels=max_pixels)

    def describe_left_out(self) -> str:
        """What was left out, such as "2 files left out: 1 BMP, 1 GIF in class a"; "" if nothing was."""
        if not self.skipped_aux_heads_note:
            return ""
        total = sum(map(Counter.total, self.skipped_aux_heads_note.values()))
        named = [
            ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
            + f" in class {name}"
            for name, kinds in itertools.islice(self.skipped_aux_heads_note.items(), SHOWN_CLASSES)
        ]
        more = len(self.skipped_aux_heads_note) - len(named)
        named += [f"and more in {more:,} other classes"] if more else []
        return f"{total:,} file{'s' * (total != 1)} left out: {'; '.join(named)}"


def checked_index(index: int, length: int) -> int:
    """Returns `index` as an int; IndexError outside [0, length), for an index is a name here."""
    place = operator.index(index)
    if not 0 <= place < length:
        raise IndexError(f"example {place} of {length}")
    return place


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sorts runs of digits as numbers; the name itself decides between 1 and 01."""
    # Splitting on a group gives text and digits in turn, so that like is compared with like.
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def kind_of(name: str) -> str:
    """The kind of a file by its name: "GIF", or "without extension"."""
    return Path(name).suffix[1:].upper() or "without extension"


def is_image_name(name: str) -> bool:
    """Whether the name ends as one of the image formats' does, in any case of letters."""
    return name.lower().endswith(EXTENSIONS)


_KINDS = ", ".join(EXTENSIONS)


def _class_folders(root: Path) -> list[str]:
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root}: {what}; give the folder that holds a folder of images a class")
    visible = [path for path in root.iterdir() if not path.name.startswith(".")]
    folders = sorted(path.name for path in visible if path.is_dir())
    if len(folders) < 2:
        images = sum(is_image_name(path.name) for path in visible if not path.is_dir())
        seen = f"one folder ({folders[0]})" if folders else "no folder"
        raise DataError(
            f"{root}: {seen} and {images} images directly in it, but at least two classes are "
            "needed; put each class's images into a folder of its own"
        )
    return folders


def visible_files(folder: Path) -> Iterator[str]:
    """Yields the files at any depth, relative to the folder, with forward slashes."""

    def refuse(error: OSError) -> None:
        raise DataError(
            f"{error.filename}: cannot be listed ({error.strerror}); mend its permissions"
        ) from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder).as_posix()
