"""The interface of data sources: random access to examples, independent of the order of access."""

import abc
import contextlib
import hashlib
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from jaxnets.data.batch import Example
from jaxnets.errors import DataError
from jaxnets.io import read_regular

MARKER = "prepared.json"  # written last into the folder of a prepared data set, when its files are checked
Progress = Callable[[int, int | None], None]  # the number done, and the total or None if it is unknown


class Source(abc.ABC):
    """Examples by index; an example's `index` never changes."""

    name: str
    """The value of data.name in configs."""
    kind: str
    """Either "image" or "vector"."""
    classes: tuple[str, ...]
    """The class names by label; empty if labels are vectors."""
    labels: np.ndarray
    """int32[N], known without reading the examples; zeros if labels are vectors."""
    files: tuple[str, ...]
    """A name of each example for split.csv and reports: a relative path, or a made-up name."""
    ships_groups = False
    """Whether jaxnets/data has a table of its near-duplicates, for `jaxnets.data.groups`."""
    is_drawn = False
    """Whether images are computed in Python, of the size that the config asks for, and not decoded."""
    official_split: Mapping[str, np.ndarray] | None
    """Indices of the official split by name ("train", "test", "validation"); None if there is none."""
    groups: np.ndarray | None = None
    """int64[N], equal for examples of one patient, slide or photograph; None if the source has no groups."""
    groups_remedy = ""
    """How groups can be given, for errors; "" if unknown."""
    split_remedy = ""
    """How an official split can be given, for errors; "" if it cannot."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A hex digest of all examples and labels in order."""

    def content_hashes(self) -> np.ndarray | None:
        """Digests [N], equal for equal examples; None if this would require decoding all images."""
        return None

    def describe_skipped(self) -> str:
        """A summary of the files that are not used; "" if all are."""
        return ""

    def locate_example(self, index: int) -> str:
        """Where an example is found, for errors: its name, and its row in a table."""
        return self.files[index]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        """Reads an example; raises IndexError outside [0, len), also for negative indices."""
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} is not in [0, {len(self)})")
        return {**self._read(index), "index": np.int64(index)}

    @abc.abstractmethod
    def _read(self, index: int) -> Example:
        """The fields of an example except "index"."""


class InMemoryImages(Source):
    """Images uint8[N, H, W, C] in memory, which become read-only, and labels int32[N].

    `sizes` has the number of examples of each part; the last part is the official test split, the others are
    the train split.
    """

    kind = "image"

    def __init__(self, images: np.ndarray, labels: np.ndarray, sizes: Mapping[str, int]):
        self.images, self.labels = images, labels
        images.setflags(write=False)  # examples are views of it
        self.files = tuple(f"{part}/{i:05d}" for part, size in sizes.items() for i in range(size))
        train, test = np.split(np.arange(len(labels)), [len(labels) - list(sizes.values())[-1]])
        self.official_split = {"train": train, "test": test}

    def _read(self, index: int) -> Example:
        return {"image": self.images[index], "label": self.labels[index]}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the name, all pixels and labels; independent of how the files are packed."""
        digest = hashlib.sha256(self.name.encode())
        digest.update(self.images.data)
        digest.update(self.labels.data)
        return digest.hexdigest()


class Download(NamedTuple):
    """A file's addresses, in the order to try, and its digest, such as "sha256:440fc..."."""

    urls: tuple[str, ...]
    digest: str


class PreparedSource(Source):
    """A data set with known files, which `jaxnets.data.acquire` puts into ROOT/NAME."""

    downloads: tuple[Download, ...] = ()
    member_pattern: str
    """Matches the ends of the paths in archives that may be files of the data set."""

    @abc.abstractmethod
    def __init__(self, root: str | Path): ...

    @classmethod
    @abc.abstractmethod
    def find_members(cls, root: Path) -> list[tuple[str, Path]]:
        """The data set's files in a folder, each with its path in a prepared one; raises DataError."""

    @classmethod
    def is_member(cls, path: str) -> bool:
        """Whether a file in an archive may belong to the data set."""
        return re.search(f"(^|/)({cls.member_pattern})$", path) is not None

    @classmethod
    def locate(cls, root: Path) -> Path | None:
        """ROOT/NAME or, for a data set that was never marked, ROOT; None if it is in neither."""
        folder = root / cls.name
        # A marked data set with missing files raises an error when it is opened.
        if (folder / MARKER).is_file():
            return folder
        for candidate in (folder, root):
            with contextlib.suppress(DataError):
                cls.find_members(candidate)
                return candidate
        return None

    @classmethod
    def describe_problem(cls, root: Path) -> str | None:
        """Why the files in ROOT/NAME are not the data set; None if they are, or if there are no files."""
        if cls.locate(root) is None and any(root.glob(f"{cls.name}/*")):
            try:
                cls.find_members(root / cls.name)
            except DataError as error:
                return str(error)
        return None

    @classmethod
    def open(cls, root: Path) -> Self:
        """Opens the data set that `locate` finds; raises DataError with the command that prepares it."""
        return cls(cls.locate(root) or root)  # opening ROOT gives the best error


def read_file(path: Path, remedy: str) -> bytes:
    """The bytes of a regular file; raises DataError with the `remedy`."""
    try:
        return read_regular(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error


def first_complete(layouts: Iterable[Sequence[Path]], incomplete: str, expected: str) -> list[Path]:
    """The first layout whose files all exist; raises DataError if there is none."""
    best: list[Path] = []
    for layout in layouts:
        found = [path for path in layout if path.is_file()]
        if len(found) == len(layout):
            return found
        best = max(best, found, key=len)
    seen = ", ".join(sorted(path.name for path in best)) or "none"
    raise DataError(f"{incomplete} is incomplete, found {seen}; expected {expected}")
