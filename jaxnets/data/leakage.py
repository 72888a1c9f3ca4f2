"""How much of what validates and tests has been trained on: siblings, and copies byte for byte."""

import dataclasses
import hashlib

import numpy as np

from jaxnets.data.cache import CachedSource, ResizedSource
from jaxnets.data.sources.base import Source
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.data.splits import Split

HELD_OUT = ("validation", "test")


def leaked_fractions(split: Split, group_ids: np.ndarray | None) -> dict[str, float | None]:
    """By part that is held out, the share of its examples with a sibling in training.

    `group_ids` is int64[N] over the source, alike for siblings. None where nothing is known of them or
    the part is empty.
    """
    shares: dict[str, float | None] = {}
    for part in HELD_OUT:
        indices = split.parts()[part]
        shares[part] = None
        if group_ids is not None and len(indices):
            shares[part] = float(np.isin(group_ids[indices], group_ids[split.train]).mean())
    return shares


@dataclasses.dataclass(frozen=True)
class ExactDuplicates:
    """Held-out examples that another part has, too: how many of each part, and the first pair."""

    validation: int
    test: int
    pair: tuple[int, int] | None

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return self.pair is not None


def find_exact_duplicates(split: Split, contents: np.ndarray) -> ExactDuplicates:
    """Exact copies across the parts: of validation in training, of test in training or validation.

    `contents` is [N] over the source, equal where examples are.
    """
    validation = _copies(contents, split.validation, split.train)
    test = _copies(contents, split.test, np.concatenate([split.train, split.validation]))
    pairs = [*test, *validation]
    return ExactDuplicates(len(validation), len(test), pairs[0] if pairs else None)


@dataclasses.dataclass(frozen=True)
class LabelConflicts:
    """Examples that are the same as one of another class: how many, and the first pair."""

    count: int
    pair: tuple[int, int]


def find_label_conflicts(labels: np.ndarray, contents: np.ndarray) -> LabelConflicts | None:
    """Same examples under several labels, on whatever sides of a split; None if there are none.

    `labels` and `contents` are [N]; contents are equal if examples are.
    """
    _, inverse = np.unique(contents, return_inverse=True)
    order = np.lexsort((labels, inverse))
    same = np.diff(inverse[order]) == 0
    differ = np.flatnonzero(same & (np.diff(labels[order]) != 0))
    if not len(differ):
        return None
    members = np.isin(inverse, inverse[order[differ]])
    first = np.flatnonzero(inverse == inverse[np.flatnonzero(members)[0]])
    other = first[labels[first] != labels[first[0]]][0]
    return LabelConflicts(int(members.sum()), (int(first[0]), int(other)))


def _copies(contents: np.ndarray, held: np.ndarray, seen: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (held, seen) with equal contents, one for each held index; none of an index with itself."""
    first = {contents[index]: int(index) for index in reversed(seen.tolist())}
    pairs = [(index, first.get(contents[index], index)) for index in held.tolist()]
    return [(index, other) for index, other in pairs if index != other]


def content_hashes(source: Source | CachedSource) -> np.ndarray | None:
    """Digests [N] that are equal where examples are the same; None where that would cost a pass of decoding.

    Of files it is their bytes, which the fingerprint has read already; else the pixels in the cache.
    """
    original = source.original if isinstance(source, CachedSource | ResizedSource) else source
    if isinstance(original, ImageFiles):
        return np.array(original.digests)
    if isinstance(source, CachedSource):
        rows = (hashlib.blake2b(row, digest_size=16).hexdigest() for row in source.images)
        return np.array(list(rows))
    return None
