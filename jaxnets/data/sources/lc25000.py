"""LC25000: the 15,000 images of lung tissue (Borkowski et al., arXiv:1912.12142)."""

import os
from collections.abc import Iterator
from pathlib import Path

from jaxnets.data.images import MAX_PIXELS
from jaxnets.data.sources.image_folder import ImageFiles, is_image_name, natural_order
from jaxnets.errors import DataError

CLASSES = ("adenocarcinoma", "benign", "squamous cell carcinoma")
FOLDERS = {"lung_aca": "lungaca", "lung_n": "lungn", "lung_scc": "lungscc"}
"""Each class's folder, and how its files' names begin, by label."""

IMAGES_PER_CLASS = 5_000

_DEPTH = 3  # of the official zip: lung_colon_image_set/lung_image_sets/lung_aca


class LC25000Lung(ImageFiles):
    """The lung images, by class and then by number: lungaca1 to lungaca5000, lungn1, ...

    `root` holds the folders lung_aca, lung_n and lung_scc, at most three folders down. The
    official files (768 px) and copies of other sizes are both taken; `files` are relative to
    the folder that holds the three. Raises DataError unless the set is complete.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        images_per_class: int = IMAGES_PER_CLASS,
        max_pixels: int = MAX_PIXELS,
    ):
        place = find_complete(Path(root), images_per_class)
        files = [
            f"{folder}/{name}"
            for folder, stem in FOLDERS.items()
            for name in _wanted_names(stem, images_per_class)
        ]
        labels = [label for label in range(len(FOLDERS)) for _ in range(images_per_class)]
        super().__init__("lc25000_lung", place, files, labels, CLASSES, max_pixels=max_pixels)


def find_complete(root: Path, images_per_class: int = IMAGES_PER_CLASS) -> Path:
    """Returns the folder that holds a complete set; lists names only, reads no image.

    Raises DataError that says what was found and what is wanted.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; {_WANTED.format(images_per_class)}")
    most = -1
    nearest = f"{root}: none of the folders {', '.join(FOLDERS)} in it"
    for place in _places(root, _DEPTH):
        found, fault = _compare(place, images_per_class)
        if fault is None:
            return place
        if found > most:
            most, nearest = found, f"{place}: {fault}"
    raise DataError(f"{nearest}; {_WANTED.format(images_per_class)}")


_WANTED = (
    "wanted is all of LC25000's lung_image_sets, {:,} images a class; copy it again, or run: "
    "python scripts/prepare_data.py lc25000_lung --from=PATH (or --kaggle)"
)


def _places(root: Path, depth: int) -> Iterator[Path]:
    """Yields the folders that hold at least one class's folder, nearest first."""
    level = [root]
    for _ in range(depth):
        below = []
        for folder in level:
            names = _subfolders(folder)
            if any(name in FOLDERS for name in names):
                yield folder
            below += [folder / name for name in names if name not in FOLDERS]
        level = below


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except PermissionError:
        return []


def _compare(place: Path, images_per_class: int) -> tuple[int, str | None]:
    """Counts a set's images and says what it lacks or has too much, None where it is complete."""
    total = 0
    faults = []
    for folder, stem in FOLDERS.items():
        wanted = set(_wanted_names(stem, images_per_class))
        found = _image_names(place / folder)
        total += len(found & wanted)
        count = f"{folder} has {len(found & wanted):,} of {images_per_class:,} images"
        if wanted - found:
            faults.append(f"{count} ({min(wanted - found, key=natural_order)} is missing)")
        elif found - wanted:
            faults.append(f"{folder} has {min(found - wanted)}, which is not of the set")
    return total, ", ".join(faults) or None


def _image_names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    return {name for name in names if is_image_name(name) and not name.startswith(".")}


def _wanted_names(stem: str, images_per_class: int) -> list[str]:
    return [f"{stem}{number}.jpeg" for number in range(1, images_per_class + 1)]
