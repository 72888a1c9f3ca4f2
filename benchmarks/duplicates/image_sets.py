"""The sets of images: copies made from LC25000's photographs, LC25000 itself, and sets without copies.

Every set is a folder of PNG files, so that all finders read the same pixels. File names are numbers in a
random order, in one folder: a finder sees neither classes nor neighbours.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from benchmarks.duplicates import augment
from benchmarks.duplicates.augment import HARDER, PUBLISHED, Augmentation
from benchmarks.duplicates.scored_pairs import list_images
from jaxnets.data.groups import in_order, read_groups, shipped_groups
from jaxnets.data.sources.mnist import MNIST
from jaxnets.errors import ConfigError, DataError
from jaxnets.io import atomic_write, file_sha256
from jaxnets.runtime import console

TUNING_CLASS = "lung_aca"
"""Settings and thresholds are chosen on its images, by the human clusters."""
SELECTION_SEED = 0
"""Seed that selects the photographs, and the image of each photograph that is copied."""
COPIES = 20
DIGITS = 500
PUBLISHED_SET, HARDER_SET, LUNG, PHOTOGRAPHS, MNIST_SET = (
    "published",
    "harder",
    "lung",
    "photographs",
    "mnist",
)
TUNING = "tuning"
SETS = (LUNG, PUBLISHED_SET, HARDER_SET, PHOTOGRAPHS, MNIST_SET)
"""The sets that are measured; `TUNING` has LUNG's images of `TUNING_CLASS`."""
CONTROLS = (PHOTOGRAPHS, MNIST_SET)
"""Sets without copies."""
COPIES_TRUTH, HUMAN, ORIGINALS, GROUPS = "copies", "human", "originals", "groups"
"""Truths: by construction; for LC25000 the human clusters, our originals and our groups."""
_TRUTH = "truth.json"


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """A set of images with what is known about them.

    Attributes:
      name: `TUNING` or one of `SETS`.
      folder: Its folder, whose name has a digest of its definition.
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


def build(name: str, folder: Path, lung: Lung, data_root: Path, photographs: int | None = None) -> ImageSet:
    """Builds a set in `folder`, or opens it if a set of the same definition is complete.

    Args:
      name: `TUNING` or one of `SETS`.
      folder: Folder of all sets.
      lung: LC25000's lung images.
      data_root: Folder of MNIST.
      photographs: How many photographs to use; all if None.
    """
    entries = list(_entries(name, lung, data_root, photographs))
    target = folder / f"{name}-{_digest(name, entries)}"
    if not (target / _TRUTH).exists():
        with console.phase("images") as phase, console.counter("images") as progress:
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
    name, _, _ = folder.name.partition("-")
    return ImageSet(name, folder, list(sources), np.array(labels), groups)


@dataclasses.dataclass(frozen=True)
class _Entry:
    source: str
    size: int  # of the file, in bytes
    label: str
    truths: dict[str, int]
    open: Callable[[], Image.Image]


_AUGMENTATIONS = {PUBLISHED_SET: PUBLISHED, HARDER_SET: HARDER}


def _digest(name: str, entries: Sequence[_Entry]) -> str:
    """Returns a digest of all that the images and the truth depend on."""
    definition = (
        file_sha256(Path(augment.__file__)),
        repr(_AUGMENTATIONS.get(name)),
        PIL.__version__,
        *((entry.source, entry.size, entry.label, sorted(entry.truths.items())) for entry in entries),
    )
    return hashlib.sha256(repr(definition).encode()).hexdigest()[:12]


def _entries(name: str, lung: Lung, data_root: Path, photographs: int | None) -> Iterator[_Entry]:
    """Yields the images of a set in a fixed order."""
    if name == MNIST_SET:
        source = MNIST(data_root / "mnist")
        for index in range(60_000, 60_000 + DIGITS):  # test images
            example = source[index]
            digit = Image.fromarray(np.repeat(example["image"], 3, axis=-1))
            size = len(example["image"].tobytes())
            yield _Entry(str(index), size, str(example["label"]), {COPIES_TRUTH: index}, lambda d=digit: d)
        return
    selected = _selected(lung, photographs)
    if name in (LUNG, TUNING):
        for place in np.flatnonzero(np.isin(lung.photographs, lung.photographs[selected])).tolist():
            if name == LUNG or lung.classes[place] == TUNING_CLASS:
                truths = {HUMAN: lung.human, ORIGINALS: lung.originals, GROUPS: lung.groups}
                known = {truth: int(groups[place]) for truth, groups in truths.items()}
                yield _entry(lung, place, known, functools.partial(_open, lung.root / lung.files[place]))
        return
    augmentation = _AUGMENTATIONS.get(name)
    for number, place in enumerate(selected.tolist()):
        for copy in range(COPIES if augmentation else 1):
            make = functools.partial(_copy, lung.root / lung.files[place], augmentation, (number, copy))
            yield _entry(lung, place, {COPIES_TRUTH: number}, make)


def _entry(lung: Lung, place: int, truths: dict[str, int], make: Callable[[], Image.Image]) -> _Entry:
    size = (lung.root / lung.files[place]).stat().st_size
    return _Entry(lung.files[place], size, str(lung.classes[place]), truths, make)


def _selected(lung: Lung, photographs: int | None) -> np.ndarray:
    """Returns one image of each of `photographs` random photographs, as many of each class as possible.

    A larger number adds photographs to those of a smaller one.
    """
    order = np.random.default_rng(SELECTION_SEED).permutation(len(lung.files))
    _, first = np.unique(lung.photographs[order], return_index=True)
    one_each = order[np.sort(first)]
    by_class = [one_each[lung.classes[one_each] == name] for name in np.unique(lung.classes)]
    rounds = itertools.zip_longest(*(images.tolist() for images in by_class))
    in_turn = [place for places in rounds for place in places if place is not None]
    return np.array(in_turn[:photographs])


def _open(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def _copy(path: Path, augmentation: Augmentation | None, seed: tuple[int, int]) -> Image.Image:
    image = _open(path)
    return augmentation(image, np.random.default_rng(seed)) if augmentation else image
