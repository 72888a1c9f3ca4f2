"""Train/test leakage: near-duplicates and exact duplicates across the splits."""

import dataclasses
import hashlib

import numpy as np

from jaxnets.data.cache import CachedSource, SourceWrapper
from jaxnets.data.sources.base import Source
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.data.splits import Split

HELD_OUT = ("validation", "test")


def leaked_fractions(split: Split, group_ids: np.ndarray | None) -> dict[str, float | None]:
    """For validation and test, the fraction of examples with a near-duplicate in training.

    `group_ids` is int64[N] over the source, equal for near-duplicates. A fraction is None if the group ids
    are unknown or the split is empty.
    """
    fractions: dict[str, float | None] = {}
    for name in HELD_OUT:
        indices = split.parts()[name]
        fractions[name] = None
        if group_ids is not None and len(indices):
            fractions[name] = float(np.isin(group_ids[indices], group_ids[split.train]).mean())
    return fractions


@dataclasses.dataclass(frozen=True)
class ExactDuplicates:
    """Numbers of validation and test examples with an exact copy in another split, and the first pair."""

    validation: int
    test: int
    pair: tuple[int, int] | None

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return self.pair is not None


def find_exact_duplicates(split: Split, contents: np.ndarray) -> ExactDuplicates:
    """Finds exact copies of validation examples in training, and of test examples in either.

    `contents` is [N] over the source, equal for equal examples.
    """
    validation = _copies(contents, split.validation, split.train)
    test = _copies(contents, split.test, np.concatenate([split.train, split.validation]))
    pairs = [*test, *validation]
    return ExactDuplicates(len(validation), len(test), pairs[0] if pairs else None)


@dataclasses.dataclass(frozen=True)
class LabelConflicts:
    """Number of examples that equal one with another label, and the first such pair."""

    count: int
    pair: tuple[int, int]


def find_label_conflicts(labels: np.ndarray, contents: np.ndarray) -> LabelConflicts | None:
    """Finds equal examples with different labels in any split; None if there are none.

    `labels` and `contents` are [N]; contents are equal for equal examples.
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
    """Pairs (held, seen) of different indices with equal contents, at most one per held index."""
    first = {contents[index]: int(index) for index in reversed(seen.tolist())}
    pairs = [(index, first.get(contents[index], index)) for index in held.tolist()]
    return [(index, other) for index, other in pairs if index != other]


def content_hashes(source: Source | CachedSource) -> np.ndarray | None:
    """Digests [N], equal for equal examples; None if this would require decoding all images.

    For image files they are the digests of the fingerprint, else digests of the cached pixels.
    """
    original = source.original if isinstance(source, SourceWrapper) else source
    if isinstance(original, ImageFiles):
        return np.array(original.digests)
    if isinstance(source, CachedSource):
        return np.array([hashlib.blake2b(row, digest_size=16).hexdigest() for row in source.images])
    return None
