"""Derives originals, and groups of overlapping originals, from verified pairs."""

import dataclasses
import itertools

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jaxnets.data.groups import in_order
from jaxnets.data.near_duplicates.features import Settings


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Two originals that may show the same tissue, with numbers `first` < `second`.

    `pairs` are the verified pairs of their images, strongest first; `joined` is whether they form one group.
    """

    first: int
    second: int
    joined: bool
    strong: int
    pairs: np.ndarray

    @property
    def inliers(self) -> int:
        """The most inliers of any pair."""
        return int(self.pairs["inliers"][0])

    @property
    def common_fraction(self) -> float:
        """The median fraction of the area that the pairs have in common."""
        return float(np.median(self.pairs["share"]))


@dataclasses.dataclass(frozen=True)
class Found:
    """Every image's original and group, int[N], and the evidence for them."""

    originals: np.ndarray
    groups: np.ndarray
    overlaps: list[Overlap]
    pairs: np.ndarray
    compared: int
    keypoints: np.ndarray


def is_same_original(pairs: np.ndarray, settings: Settings) -> np.ndarray:
    """bool[P]: pairs with strong maps that align the centres, as those between copies of one photograph."""
    strong = pairs["inliers"] >= settings.original_inliers
    return strong & (pairs["centre"] <= settings.original_centre)


def originals(pairs: np.ndarray, identical: np.ndarray, settings: Settings) -> np.ndarray:
    """int[N]: each image's original, numbered in order of appearance.

    `identical` is int[N], equal for images with the same pixels, which need no verification.
    """
    selected = pairs[is_same_original(pairs, settings)]
    _, first, inverse = np.unique(identical, return_index=True, return_inverse=True)
    same = np.stack([first[inverse], np.arange(len(identical))], 1)
    links = np.concatenate([np.stack([selected["first"], selected["second"]], 1), same])
    return connected(links, len(identical))


def connected(links: np.ndarray, count: int) -> np.ndarray:
    """int[count]: connected components of links int[L, 2], numbered in order of appearance."""
    ones = np.ones(len(links), bool)
    graph = coo_array((ones, (links[:, 0], links[:, 1])), shape=(count, count))
    return in_order(connected_components(graph, directed=False)[1].tolist())


def representatives(pairs: np.ndarray, labels: np.ndarray, most: int, settings: Settings) -> list[np.ndarray]:
    """For each original, up to `most` images with the most links to its other images."""
    links = pairs[is_same_original(pairs, settings)]
    degree = np.bincount(links["first"], minlength=len(labels))
    degree += np.bincount(links["second"], minlength=len(labels))
    order = np.lexsort((np.arange(len(labels)), -degree, labels))
    bounds = np.searchsorted(labels[order], np.arange(labels.max() + 2))
    return [order[a : min(b, a + most)] for a, b in itertools.pairwise(bounds)]


def cross_pairs(members: list[np.ndarray], found: list[Overlap]) -> np.ndarray:
    """int32[P, 2]: all unique pairs of images between the two originals of every overlap."""
    ends = ((members[overlap.first], members[overlap.second]) for overlap in found)
    pairs = [np.stack(np.meshgrid(first, second), -1).reshape(-1, 2) for first, second in ends]
    pairs = np.concatenate([np.zeros((0, 2), np.int32), *pairs])
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int32)


def exclude(pairs: np.ndarray, done: np.ndarray) -> np.ndarray:
    """The rows of int32[P, 2] that are not in `done`, int32[D, 2]; both are sorted within rows."""
    keys, known = (rows[:, 0].astype(np.int64) << 32 | rows[:, 1].astype(np.int64) for rows in (pairs, done))
    return pairs[~np.isin(keys, known)]


def overlaps(pairs: np.ndarray, labels: np.ndarray, settings: Settings) -> list[Overlap]:
    """Summarises the verified pairs between every two originals that have any, in order of their numbers."""
    ends = np.sort(np.stack([labels[pairs["first"]], labels[pairs["second"]]], 1), axis=1)
    apart = np.flatnonzero(ends[:, 0] != ends[:, 1])
    order = apart[np.lexsort((-pairs["inliers"][apart], ends[apart, 1], ends[apart, 0]))]
    starts = np.flatnonzero((np.diff(ends[order], axis=0, prepend=-1) != 0).any(1))
    sizes = np.bincount(labels)
    found = []
    for rows in np.split(order, starts[1:]) if len(order) else []:
        first, second = map(int, ends[rows[0]])
        strong = int((pairs["inliers"][rows] >= settings.overlap_inliers).sum())
        needed = min(settings.overlap_pairs, int(sizes[first] * sizes[second]))
        found.append(Overlap(first, second, strong >= needed, strong, pairs[rows]))
    return found


def groups(labels: np.ndarray, found: list[Overlap]) -> np.ndarray:
    """int[N]: each image's group, numbered in order of appearance."""
    links = [(overlap.first, overlap.second) for overlap in found if overlap.joined]
    return connected(np.array(links, np.int64).reshape(-1, 2), int(labels.max()) + 1)[labels]
