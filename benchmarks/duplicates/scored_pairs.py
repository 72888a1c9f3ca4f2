"""The output of a finder: scored pairs of images, or groups. Programs of other environments import this."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MOST_PAIRS = 2_000_000
"""A finder may report so many pairs, its best ones; levels of equal scores are never divided."""
ROWS = 256


class ScoredPairs(NamedTuple):
    """Pairs of images by number, int32[P], first < second, with scores float32[P]; larger is more similar."""

    first: np.ndarray
    second: np.ndarray
    score: np.ndarray

    def best(self, count: int = MOST_PAIRS) -> "ScoredPairs":
        """Returns the best pairs, at most `count`, without a level of equal scores that does not fit."""
        if len(self.score) <= count:
            return self
        excluded = np.partition(self.score, -count - 1)[-count - 1]
        selected = self.score > excluded
        return ScoredPairs(*(values[selected] for values in self))


def list_images(folder: Path) -> list[Path]:
    """Returns the images of a set; an image's number is its place in this list."""
    return sorted(folder.glob("*.png"))


def arguments() -> tuple[list[Path], Path]:
    """Returns the images and the output file from the command line: PROGRAM IMAGES OUTPUT SETTING."""
    return list_images(Path(sys.argv[1])), Path(sys.argv[2])


def setting() -> str:
    """Returns the third argument, of which each program has its own form."""
    return sys.argv[3]


def save_pairs(path: Path, pairs: ScoredPairs, version: str) -> None:
    """Writes the best pairs."""
    _save(path, version, **pairs.best()._asdict())


def save_groups(path: Path, groups: np.ndarray, version: str) -> None:
    """Writes groups int[N], equal for images that the finder takes for copies, or int[2, N].

    Two rows are the groups of copies and the groups of images that share content.
    """
    _save(path, version, groups=np.atleast_2d(groups))


def _save(path: Path, version: str, **arrays: Any) -> None:
    path.with_suffix(".version.json").write_text(json.dumps(version))
    np.savez_compressed(path, **arrays)


def numbered(images: Iterable[Path]) -> dict[str, int]:
    """Returns the number of each image by its absolute path."""
    return {str(image.resolve()): number for number, image in enumerate(images)}


def pairs_of(found: Iterable[tuple[int, int, float]]) -> ScoredPairs:
    """Returns pairs in any order as arrays; a pair that occurs twice has its better score."""
    best: dict[tuple[int, int], float] = {}
    for first, second, score in found:
        key = (min(first, second), max(first, second))
        if first != second:
            best[key] = max(score, best.get(key, score))
    ends = np.array(list(best), np.int32).reshape(-1, 2)
    return ScoredPairs(ends[:, 0], ends[:, 1], np.array(list(best.values()), np.float32))


def groups_of(count: int, found: Iterable[Iterable[int]]) -> np.ndarray:
    """Returns groups int[count] of sets of images that may overlap: their connected components.

    A split must not divide any of the sets, so that sets with a common image are one group. Images in no set
    are alone.
    """
    parents = list(range(count))

    def root(image: int) -> int:
        while parents[image] != image:
            parents[image] = image = parents[parents[image]]
        return image

    for members in found:
        first, *others = members
        for other in others:
            parents[root(other)] = root(first)
    return np.unique([root(image) for image in range(count)], return_inverse=True)[1]


def all_pairs(count: int, similarity: Callable[[np.ndarray], np.ndarray]) -> ScoredPairs:
    """Returns the best of all pairs of `count` images.

    Args:
      count: Number of images.
      similarity: Maps rows int[R] to the similarity of these images to all images, [R, count].
    """
    found = ScoredPairs(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    least = -np.inf
    for start in range(0, count, ROWS):
        rows = np.arange(start, min(start + ROWS, count))
        scores = np.asarray(similarity(rows), np.float32)
        scores[np.arange(count) <= rows[:, None]] = -np.inf
        row, column = np.nonzero(scores > least)
        block = ScoredPairs(rows[row].astype(np.int32), column.astype(np.int32), scores[row, column])
        found = ScoredPairs(*map(np.concatenate, zip(found, block, strict=True)))
        if len(found.score) > 2 * MOST_PAIRS:
            least = np.partition(found.score, -MOST_PAIRS - 1)[-MOST_PAIRS - 1]
            found = found.best()
    return found.best()


def cosines(features: np.ndarray) -> ScoredPairs:
    """Returns the pairs of features float[N, D] by cosine similarity."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return all_pairs(len(unit), lambda rows: unit[rows] @ unit.T)


def hamming(bits: np.ndarray) -> ScoredPairs:
    """Returns the pairs of hashes by minus the Hamming distance.

    `bits` is bool[N, V, B]: the hashes of V variants of each image, the first of the image itself. The
    distance of two images is the smallest between the first one and a variant of the second one.
    """
    count, variants, length = bits.shape
    words = np.packbits(bits, axis=-1).view(np.uint64)  # [N, V, B / 64]

    def similarity(rows: np.ndarray) -> np.ndarray:
        best = np.full((len(rows), count), length, np.int32)
        for variant in range(variants):
            different = sum(
                np.bitwise_count(words[rows, 0, None, word] ^ words[None, :, variant, word]).astype(np.int32)
                for word in range(length // 64)
            )
            np.minimum(best, different, out=best)
        return -best

    return all_pairs(count, similarity)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discards what a library prints."""
    with open("/dev/null", "w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield
