"""The sets of images: copies made from LC25000's photographs, LC25000 itself, and sets without copies.

Every set is a folder of PNG files, so that all finders read the same pixels. File names are numbers in a
random order, in one folder: a finder sees neither classes nor neighbours.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from benchmarks.duplicates.augment import HARDER, PUBLISHED, Augmentation
from benchmarks.duplicates.scored_pairs import list_images
from jaxnets.data.groups import in_order, read_groups, shipped_groups
from jaxnets.data.sources.mnist import MNIST
from jaxnets.errors import ConfigError, DataError
from jaxnets.io import atomic_write
from jaxnets.runtime import console

TUNING_CLASS = "lung_aca"
"""Thresholds are chosen on its images, by the human clusters."""
COPIES = 20
DIGITS = 500
PUBLISHED_SET, HARDER_SET, LUNG, PHOTOGRAPHS, MNIST_SET = (
    "published",
    "harder",
    "lung",
    "photographs",
    "mnist",
)
SETS = (LUNG, PUBLISHED_SET, HARDER_SET, PHOTOGRAPHS, MNIST_SET)
CONTROLS = (PHOTOGRAPHS, MNIST_SET)
"""Sets without copies."""
COPIES_TRUTH, HUMAN, ORIGINALS, GROUPS = "copies", "human", "originals", "groups"
"""Truths: by construction; for LC25000 the human clusters, our originals and our groups."""
_TRUTH = "truth.json"


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """A set of images with what is known about them.

    Attributes:
      name: One of `SETS`.
      folder: Its folder.
      sources: The file in LC25000 of each image; the index in MNIST.
      classes: The class of each image, str[N].
      truths: Groups int[N] by the name of the truth; equal for copies.
    """

    name: str
    folder: Path
    sources: list[str]
    classes: np.ndarray
    truths: Mapping[str, np.ndarray]

    @property
    def images(self) -> Path:
        """The folder of the PNG files."""
        return self.folder / "images"

    def __len__(self) -> int:
        return len(self.sources)


@dataclasses.dataclass(frozen=True)
class Lung:
    """LC25000's lung images with our groups and the human clusters.

    Attributes:
      root: The folder lung_image_sets.
      files: Files below it.
      originals: Our originals, int[N].
      groups: Our groups, int[N].
      human: The human clusters, int[N].
    """

    root: Path
    files: list[str]
    originals: np.ndarray
    groups: np.ndarray
    human: np.ndarray

    @functools.cached_property
    def classes(self) -> np.ndarray:
        """The class of each file, str[N]."""
        return np.array([file.split("/")[0] for file in self.files])

    @functools.cached_property
    def photographs(self) -> np.ndarray:
        """Connected components of our groups and the human clusters, int[N]: joined by neither of both."""
        count = len(self.files)
        offset = 1 + self.groups.max()
        ends = np.concatenate([self.groups, self.human + offset])
        size = count + offset + 1 + self.human.max()
        graph = coo_array(
            (np.ones(2 * count, bool), (np.tile(np.arange(count), 2), ends + count)), shape=(size, size)
        )
        return in_order(connected_components(graph, directed=False)[1][:count].tolist())


def open_lung(root: Path, human: Path) -> Lung:
    """Opens LC25000's lung images.

    Raises:
      ConfigError: A folder does not exist.
      DataError: Images are missing, or a table of groups has other files.
    """
    for flag, folder in (("--images", root), ("--human", human)):
        if not folder.is_dir():
            raise ConfigError(f"{flag}={folder} is not a folder")
    shipped = shipped_groups("lc25000_lung")
    files = list(shipped.members)
    if missing := next((file for file in files if not (root / file).is_file()), None):
        raise DataError(f"{root / missing} is missing: --images names LC25000's folder lung_image_sets")
    originals, groups = shipped.match(files)
    return Lung(root, files, originals, groups, read_groups(human).match(files)[0])


def build(name: str, folder: Path, lung: Lung, data_root: Path, per_class: int | None = None) -> ImageSet:
    """Builds a set in `folder / name`, or opens it if it is complete.

    Args:
      name: One of `SETS`.
      folder: Folder of all sets.
      lung: LC25000's lung images.
      data_root: Folder of MNIST.
      per_class: How many photographs of each class to use; all if None.
    """
    target = folder / name
    if not (target / _TRUTH).exists():
        with console.phase("images") as phase, console.counter("images") as progress:
            entries = list(_entries(name, lung, data_root, per_class))
            order = np.random.default_rng(1).permutation(len(entries))
            (target / "images").mkdir(parents=True, exist_ok=True)
            for number, place in enumerate(order):
                image = entries[place].open()
                image.save(target / "images" / f"{number:06d}.png", compress_level=1)
                progress(number + 1, len(entries))
            shuffled = [entries[place] for place in order]
            content = [[entry.source, entry.label, entry.truths] for entry in shuffled]
            atomic_write(target / _TRUTH, json.dumps(content))
            phase.text = f"{name}: {len(entries):,}"
    return read(target)


def read(folder: Path) -> ImageSet:
    """Opens a built set; raises DataError if its images are incomplete."""
    sources, labels, truths = zip(*json.loads((folder / _TRUTH).read_text()), strict=True)
    if (found := len(list_images(folder / "images"))) != len(sources):
        raise DataError(f"{folder} has {found:,} of its {len(sources):,} images: remove it, and run again")
    groups = {name: in_order([each[name] for each in truths]) for name in truths[0]}
    return ImageSet(folder.name, folder, list(sources), np.array(labels), groups)


@dataclasses.dataclass(frozen=True)
class _Entry:
    source: str
    label: str
    truths: dict[str, int]
    open: Callable[[], Image.Image]


def _entries(name: str, lung: Lung, data_root: Path, per_class: int | None) -> Iterator[_Entry]:
    """Yields the images of a set in a fixed order."""
    if name == MNIST_SET:
        source = MNIST(data_root / "mnist")
        for index in range(60_000, 60_000 + DIGITS):  # test images
            example = source[index]
            digit = Image.fromarray(np.repeat(example["image"], 3, axis=-1))
            yield _Entry(str(index), str(example["label"]), {COPIES_TRUTH: index}, lambda d=digit: d)
        return
    selected = _selected(lung, per_class)
    if name == LUNG:
        for place in np.flatnonzero(np.isin(lung.photographs, lung.photographs[selected])):
            truths = {HUMAN: lung.human, ORIGINALS: lung.originals, GROUPS: lung.groups}
            known = {truth: int(groups[place]) for truth, groups in truths.items()}
            yield _Entry(
                lung.files[place],
                lung.classes[place],
                known,
                lambda p=place: _open(lung.root / lung.files[p]),
            )
        return
    augmentation = {PUBLISHED_SET: PUBLISHED, HARDER_SET: HARDER}.get(name)
    for number, place in enumerate(selected):
        for copy in range(COPIES if augmentation else 1):
            make = functools.partial(_copy, lung.root / lung.files[place], augmentation, (number, copy))
            yield _Entry(lung.files[place], lung.classes[place], {COPIES_TRUTH: number}, make)


def _selected(lung: Lung, per_class: int | None) -> np.ndarray:
    """Returns one image of each of `per_class` photographs of every class."""
    order = np.random.default_rng(0).permutation(len(lung.files))
    _, first = np.unique(lung.photographs[order], return_index=True)
    one_each = order[np.sort(first)]
    of_class = (one_each[lung.classes[one_each] == name] for name in np.unique(lung.classes))
    return np.concatenate([images[:per_class] for images in of_class])


def _open(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def _copy(path: Path, augmentation: Augmentation | None, seed: tuple[int, int]) -> Image.Image:
    image = _open(path)
    return augmentation(image, np.random.default_rng(seed)) if augmentation else image
