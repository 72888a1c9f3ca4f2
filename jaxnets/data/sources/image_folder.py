"""Sources of image files: a list of files, a folder with one subfolder per class, and any folder."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.batch import Example
from jaxnets.data.images import EXTENSIONS, MAX_PIXELS, read_image
from jaxnets.data.sources.base import Source, read_file
from jaxnets.errors import ConfigError, DataError
from jaxnets.io import command

_HASHING_THREADS = 4
SHOWN_CLASSES = 3  # in `describe_skipped`


class ImageFiles(Source):
    """Image files below one folder: kind "image", uint8[H, W, 3] with varying H and W.

    Args:
        root: the folder.
        class_of: the class of each file, by its path relative to `root` with forward slashes.
        classes: the class names, in the order of their labels.
        max_pixels: the maximum pixels of an image.

    Raises:
        DataError: a file name is not UTF-8, or an image cannot be decoded.
    """

    name = "images"
    kind = "image"
    official_split = None

    def __init__(self, root: Path, class_of: Mapping[str, str], classes: Sequence[str], max_pixels: int):
        self.root, self.max_pixels = root, max_pixels
        self.groups_remedy = (
            f"set --config.data.find_groups=True, or run {command('find_duplicates')} {root} and pass "
            "--config.data.groups=FILE"
        )
        self.files, self.classes = tuple(class_of), tuple(classes)
        number = {name: label for label, name in enumerate(classes)}
        self.labels = np.array([number[name] for name in class_of.values()], np.int32)
        for file in self.files:
            if (shown := file.encode("utf-8", "backslashreplace").decode()) != file:
                raise DataError(
                    f"{root}/{shown}: its name is not UTF-8, the encoding of all tables of files; rename it"
                )

    def _read(self, index: int) -> Example:
        image = read_image(self.root / self.files[index], max_pixels=self.max_pixels)
        return {"image": image, "label": self.labels[index]}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of every file's path, size and content, in order."""
        digest_of_all = hashlib.sha256()
        for file, digest in zip(self.files, self.digests, strict=True):
            digest_of_all.update(f"{file}\0{digest}\n".encode())
        return digest_of_all.hexdigest()

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Each file's size and sha256, equal for equal files."""
        with ThreadPoolExecutor(_HASHING_THREADS) as threads:
            return tuple(threads.map(self._size_and_digest, self.files))

    def content_hashes(self) -> np.ndarray:
        """The digests of the fingerprint."""
        return np.array(self.digests)

    def _size_and_digest(self, file: str) -> str:
        data = read_file(self.root / file, "fix its permissions or remove it")
        return f"{len(data)}\0{hashlib.sha256(data).hexdigest()}"


class ImageFolder(ImageFiles):
    """One folder per class with JPEG, PNG, TIFF and WebP files at any depth.

    Classes are the folders' sorted names. Files are in class order, then in natural order (tissue2 before
    tissue10). Hidden files are ignored; files of other types are counted by class and type in
    `skipped_files`. Links to folders are followed at the first level only. Raises DataError if there are
    fewer than two classes or a class without images. `groups` are what `group_pattern` captures in the paths.
    """

    name = "image_folder"

    def __init__(self, path: str | Path, max_pixels: int = MAX_PIXELS, group_pattern: str | None = None):
        root = Path(path)
        wanted = "give a folder with one subfolder of images per class"
        if root.suffix.lower() == ".csv":
            wanted += ", or set --config.data.name=table"
        found_in = _scan(root, wanted)
        beside = sum(map(is_image_name, found_in.pop("")))
        classes = sorted(found_in)
        if len(classes) < 2:
            only = f"one folder ({classes[0]})" if classes else "no folder"
            problem = f"{only} and {beside} images directly in it, but at least two classes are needed"
            raise DataError(f"{root}: {problem}; put each class's images into its own folder")
        class_of: dict[str, str] = {}
        self.skipped_files: dict[str, Counter[str]] = {}
        for name in classes:
            found = found_in[name]
            images = sorted(filter(is_image_name, found), key=natural_order)
            if not images:
                problem = f"this class's folder has no images and {len(found)} other files"
                remedy = f"add {', '.join(EXTENSIONS)} files, or remove the folder"
                raise DataError(f"{root / name}: {problem}; {remedy}")
            class_of |= dict.fromkeys(images, name)
            others = (Path(file).suffix[1:].upper() for file in found if not is_image_name(file))
            if kinds := Counter(kind or "without extension" for kind in others):
                self.skipped_files[name] = kinds
        super().__init__(root, class_of, classes, max_pixels)
        if group_pattern is not None:
            self.groups = groups_from_names(self.files, group_pattern)

    def describe_skipped(self) -> str:
        """A summary such as "2 files skipped: 1 BMP, 1 GIF in class a"; "" if none were skipped."""
        named = [
            ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items())) + f" in class {name}"
            for name, kinds in list(self.skipped_files.items())[:SHOWN_CLASSES]
        ]
        if more := len(self.skipped_files) - len(named):
            named.append(f"and more in {more:,} other classes")
        total = sum(map(Counter.total, self.skipped_files.values()))
        return f"{total:,} file{'s' * (total != 1)} skipped: {'; '.join(named)}" if total else ""


class ImageListing(NamedTuple):
    """The images, and the numbers of skipped files: other types, and images beside the class folders."""

    images: ImageFiles
    others: int
    beside: int


def list_images(paths: Sequence[Path], *, max_pixels: int = MAX_PIXELS) -> ImageListing:
    """Lists image files, and the images in folders at any depth; links are followed only at the first level.

    Names are relative to the folder if there is one folder, else they begin with the given paths. A class is
    a direct subfolder, of the same name in all folders. If at least two subfolders of a folder contain
    images, its images outside of them are skipped as in training. Raises DataError if there are fewer than
    two images or one is listed twice.
    """
    root = paths[0] if len(paths) == 1 and not paths[0].is_file() else Path()
    class_of: dict[str, str] = {}
    listed_in: dict[Path, Path] = {}
    others = skipped = 0
    for path in paths:
        if path.is_file():
            found, beside, places = {path.as_posix(): ""}, 0, [path.resolve()]
        else:
            found, count, beside = _list_folder(path)
            others += count
            folder = path.resolve()
            places = [folder / file for file in found]
            if path is not root:
                found = {(path / file).as_posix(): name for file, name in found.items()}
        for place in places:
            if (other := listed_in.setdefault(place, path)) is not path:
                raise DataError(
                    f"{place} is listed twice, in {other} and in {path}: give each folder or file once, and "
                    "test images in a folder outside of the training folders"
                )
        class_of |= found
        skipped += beside
    if len(class_of) < 2:
        total = len(class_of) + others + skipped
        where = ", ".join(map(str, paths)) or "no paths"
        problem = f"{len(class_of)} images among {total} files"
        raise DataError(f"{where}: {problem}; at least two are needed: JPEG, PNG, TIFF and WebP are read")
    source = ImageFiles(root, class_of, sorted(set(class_of.values())), max_pixels)
    return ImageListing(source, others, skipped)


def _list_folder(folder: Path) -> tuple[dict[str, str], int, int]:
    """The class of each image of a folder in natural order, and the numbers of skipped files."""
    found_in = _scan(folder, "give the folder that contains the images")
    class_of = {file: name for name, files in found_in.items() for file in files if is_image_name(file)}
    total = sum(map(len, found_in.values()))
    outside = [file for file, name in class_of.items() if not name]
    beside = outside if len({name for name in class_of.values() if name}) >= 2 else []
    used = {file: class_of[file] for file in sorted(class_of.keys() - beside, key=natural_order)}
    return used, total - len(class_of), len(beside)


def groups_from_names(files: Sequence[str], pattern: str) -> np.ndarray:
    """Groups of files, int64[N]: equal where all capturing groups of a regular expression match equal text.

    The pattern may match anywhere in a path. Raises ConfigError for a pattern that is invalid or captures
    nothing, DataError if it captures nothing in a path.
    """
    flag = f"--config.data.group_pattern={pattern}"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{flag} is not a regular expression ({error})") from error
    if not compiled.groups:
        raise ConfigError(f"{flag} captures nothing: put brackets around the part that names the group")
    matches = [compiled.search(file) for file in files]
    found = [match is not None and any(match.groups()) for match in matches]
    if unmatched := [file for file, is_found in zip(files, found, strict=True) if not is_found]:
        others = f" and {len(unmatched) - 1:,} others" if len(unmatched) > 1 else ""
        raise DataError(f"{flag} does not match {unmatched[0]}{others}; correct it, or rename these files")
    captured = ["\0".join(text or "" for text in match.groups()) for match in matches if match is not None]
    return np.unique(captured, return_inverse=True)[1].astype(np.int64)


def natural_order(name: str) -> tuple[list[str | int], str]:
    """A sort key that compares runs of digits as numbers; ties such as 1 and 01 compare as text."""
    # Splitting on a group alternates text and digits, so equal positions have equal types.
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if position % 2 else part for position, part in enumerate(parts)], name


def is_image_name(name: str) -> bool:
    """Whether the name has the extension of a supported image format, ignoring case."""
    return name.lower().endswith(EXTENSIONS)


def visible_files(folder: Path) -> Iterator[str]:
    """Yields files that are not hidden, at any depth, relative to the folder, with forward slashes."""

    def fail(error: OSError) -> None:
        raise _cannot_list(error) from error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder).as_posix()


def _scan(folder: Path, wanted: str) -> dict[str, list[str]]:
    """Visible files, relative to `folder`, by direct subfolder; "" has those in none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is a file' if folder.exists() else 'does not exist'}; {wanted}")
    try:
        visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise _cannot_list(error) from error
    subfolders = [path for path in visible if path.is_dir()]
    found = {path.name: [f"{path.name}/{file}" for file in visible_files(path)] for path in subfolders}
    return {"": [path.name for path in visible if not path.is_dir()]} | found


def _cannot_list(error: OSError) -> DataError:
    return DataError(f"{error.filename}: cannot be listed ({error.strerror}); fix its permissions")
