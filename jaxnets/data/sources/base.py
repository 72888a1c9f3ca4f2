"""The interface of data sources: random access to examples, independent of the order of access."""

import abc
import hashlib
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.errors import DataError

Example = dict[str, Any]
"""Kind "image": {"image": uint8[H, W, C], "label": int32[], "index": int64[]}.
Kind "vector": {"input": float[D], "label": float[K], "index": int64[]}."""

FEATURES = "features"  # replaces "image" in examples with cached features of a frozen backbone, float32
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
    official_split: Mapping[str, np.ndarray] | None
    """Indices of the official split by name ("train", "test"); None if there is none."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A hex digest of all examples and labels in order."""

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
    """Base class of sources of kind "image" that hold all pixels in memory, train before test.

    `images` is uint8[N, H, W, C] and becomes read-only, `labels` int32[N]. `sizes` has the number of examples
    of each part; the last part is the official test split, the others are the train split.
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


def first_complete(
    layouts: Iterable[Sequence[Path]], count: int, incomplete: str, expected: str
) -> list[Path]:
    """The existing files of the first layout that has `count` of them; raises DataError if none has."""
    best: list[Path] = []
    for layout in layouts:
        found = [path for path in layout if path.is_file()]
        if len(found) == count:
            return found
        best = max(best, found, key=len)
    seen = ", ".join(sorted(path.name for path in best)) or "none"
    raise DataError(f"{incomplete} is incomplete, found {seen}; expected {expected}")
