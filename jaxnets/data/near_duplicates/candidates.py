"""Pairs of images that may be near-duplicates by their features.

Copies are found by spectra. A spectrum describes an image about its centre, so it cannot match photographs
that overlap partially; bags of visual words (Sivic and Zisserman, ICCV 2003) can. Their nearest neighbours
are ranked again by weak geometric consistency (Jegou, Douze and Schmid, ECCV 2008): the number of words in
common that agree on one rotation and translation.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array

from jaxnets.data.near_duplicates.features import Settings, mirrored, root_sift

MIN_PER_WORD, SAMPLE_PER_WORD, _ROUNDS = 4, 40, 5
_COLUMNS = 2_000  # images that a task compares at a time
_LEAST_LENGTH = np.float32(1e-6)  # of a spectrum
_ROTATIONS, _CELLS, _CELL = 12, 12, 0.25  # bins of votes; a cell's side is relative to the image's


def candidate_copies(
    spectra: np.ndarray,
    blocks: Iterable[np.ndarray],
    labels: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
) -> np.ndarray:
    """Pairs int32[P, 2] of the images `rows` and their nearest neighbours, in their class and in the others.

    `spectra` are those of `rows`, float32[R, rings, frequencies]; `blocks` has those of all N images, a part
    at a time, and `labels` their classes int[N]. Pairs are unique and have the smaller index first; an image
    is not paired with itself.
    """
    shifts = settings.ring_shifts
    here = [_unit_rings(spectra, shift) for shift in shifts]
    similarity = (
        functools.reduce(
            np.maximum,
            (mine @ _unit_rings(block, -shift).T for mine, shift in zip(here, shifts, strict=True)),
        )
        for block in blocks
    )
    pairs = most_similar(similarity, rows, labels, settings.neighbours, settings.neighbours_across)
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _unit_rings(spectra: np.ndarray, shift: int) -> np.ndarray:
    """float32[N, D], rows of length 1: the rings without the first `shift`, or without the last `-shift`."""
    rings = spectra[:, max(shift, 0) : spectra.shape[1] + min(shift, 0)].reshape(len(spectra), -1)
    return rings / np.maximum(np.linalg.norm(rings, axis=1, keepdims=True), _LEAST_LENGTH)


def word_type(settings: Settings) -> np.dtype:
    """The dtype of an image's visual words: those of its keypoints and of their mirror images, and geometry.

    Places are relative to the centre, in units of the square root of the image's area; angles are radians.
    Words are -1 beyond the image's number of keypoints.
    """
    size = (settings.keypoints,)
    return np.dtype(
        [
            ("plain", np.int16, size),
            ("mirror", np.int16, size),
            ("places", np.complex64, size),
            ("angles", np.float32, size),
            ("scales", np.float32, size),
        ]
    )


def make_vocabulary(descriptors: np.ndarray, size: int) -> np.ndarray:
    """The visual words float32[size, 128]: k-means centres of descriptors uint8[D, 128]."""
    from sklearn.cluster import MiniBatchKMeans  # slow to import

    options = {"init": "random", "n_init": 1, "max_iter": _ROUNDS, "random_state": 0}
    means = MiniBatchKMeans(size, batch_size=4 * size, **options).fit(root_sift(descriptors))
    return means.cluster_centers_.astype(np.float32)


def visual_words(records: Sequence[np.ndarray], vocabulary: np.ndarray, settings: Settings) -> np.ndarray:
    """The words of the features of M images: records of `word_type`."""
    words = np.zeros(len(records), word_type(settings))
    words["plain"] = words["mirror"] = -1
    half = (vocabulary**2).sum(1) / 2
    for row, record in zip(words, records, strict=True):
        used, side = slice(record["count"]), np.sqrt(record["size"].prod())
        descriptors = root_sift(record["descriptors"][used])
        for name, each in (("plain", descriptors), ("mirror", mirrored(descriptors))):
            row[name][used] = (each @ vocabulary.T - half).argmax(1)
        places = (record["places"][used] - (record["size"] - 1) / 2) / side
        row["places"][used] = places[:, 0] + 1j * places[:, 1]
        row["angles"][used] = np.deg2rad(record["angles"][used])
        row["scales"][used] = record["scales"][used] / side
    return words


@dataclasses.dataclass(frozen=True)
class WordIndex:
    """Visual words of M images, `owners` their originals and `labels` their classes, int[M]."""

    words: np.ndarray
    owners: np.ndarray
    labels: np.ndarray
    rarity: np.ndarray  # log inverse document frequency of each word
    vectors: csr_array  # unit rows

    @classmethod
    def build(cls, words: np.ndarray, owners: np.ndarray, labels: np.ndarray, size: int) -> "WordIndex":
        """The index of records of `word_type`; `size` is the number of visual words."""
        counts = _counts(words["plain"], size)
        frequency = np.bincount(counts.indices, minlength=size)
        rarity = np.log(len(words) / np.maximum(frequency, 1)).astype(np.float32)
        return cls(words, owners, labels, rarity, _tf_idf(counts, rarity))

    def candidates(self, rows: np.ndarray, settings: Settings) -> np.ndarray:
        """Pairs int32[P, 2] of the images `rows` and of the images of other originals that fit them best.

        Images are also compared mirrored. The result is deterministic.
        """
        within, across = neighbours(len(self.words), settings)
        pairs = most_similar(self._similarity(rows), rows, self.labels, within, across)
        chosen = [np.zeros((0, 2), np.int32)]
        for row in rows.tolist():
            others = pairs[pairs[:, 0] == row, 1]
            others = others[np.argsort(-self.votes(row, others), kind="stable")]
            same = self.labels[others] == self.labels[row]
            most = settings.overlap_verified
            best = np.concatenate([others[same][:most], others[~same][: most // 4]])
            chosen.append(np.stack([np.full(len(best), row, np.int32), best], 1))
        return np.concatenate(chosen)

    def _similarity(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The cosines of the images `rows`, mirrored or not, with a part of all images at a time."""
        queries = [
            _tf_idf(_counts(self.words[name][rows], len(self.rarity)), self.rarity)
            for name in ("plain", "mirror")
        ]
        columns = self.vectors.T.tocsc()
        for part in parts(len(self.words)):
            plain, mirror = ((query @ columns[:, part]).toarray() for query in queries)
            is_same = self.owners[rows, None] == self.owners[part]
            yield np.where(is_same, -np.inf, np.maximum(plain, mirror))

    def votes(self, row: int, others: np.ndarray) -> np.ndarray:
        """float32[C]: the weight of common words that agree on one map, from `row` to each of `others`."""
        query, words = self.words[row], self.words[others]
        flat = words["plain"].ravel()
        order = np.argsort(flat, kind="stable")
        bounds = np.searchsorted(flat[order], np.arange(len(self.rarity) + 1))
        image = np.repeat(np.arange(len(others)), words["plain"].shape[1])
        best = np.zeros(len(others), np.float32)
        for name in ("plain", "mirror"):
            here = np.flatnonzero(query[name] >= 0)
            starts, ends = bounds[query[name][here]], bounds[query[name][here] + 1]
            counts = ends - starts
            first = np.repeat(here, counts)  # keypoints of the query, and of the others, with equal words
            offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            second = order[np.repeat(starts, counts) + offsets]
            weights = self.rarity[query[name][first]] ** 2
            place, angle = query["places"][first], query["angles"][first]
            if name == "mirror":
                place, angle = place.conj(), -angle
            turn = words["angles"].ravel()[second] - angle
            zoom = words["scales"].ravel()[second] / query["scales"][first]
            centre = words["places"].ravel()[second] - zoom * np.exp(1j * turn) * place
            np.maximum(best, _peaks(image[second], turn, centre, weights, len(others)), out=best)
        return best


def _peaks(
    image: np.ndarray, turn: np.ndarray, centre: np.ndarray, weights: np.ndarray, count: int
) -> np.ndarray:
    """float32[count]: the largest weight of votes in neighbouring bins of rotation and translation."""
    rotation = (turn / (2 * np.pi) * _ROTATIONS).astype(int) % _ROTATIONS
    cells = [
        np.clip((side / _CELL + _CELLS // 2).astype(int), 0, _CELLS - 1)
        for side in (centre.real, centre.imag)
    ]
    shape = (count, _ROTATIONS, _CELLS, _CELLS)
    bins = np.ravel_multi_index((image, rotation, *cells), shape)
    votes = np.bincount(bins, weights, int(np.prod(shape))).reshape(shape).astype(np.float32)
    votes += np.roll(votes, 1, 1)
    votes[:, :, 1:] += votes[:, :, :-1].copy()
    votes[:, :, :, 1:] += votes[:, :, :, :-1].copy()
    return votes.max((1, 2, 3))


def neighbours(images: int, settings: Settings) -> tuple[int, int]:
    """Numbers of neighbours per image, of its class and of the others; fewer for many images."""
    each = settings.overlap_budget // max(images, 1)
    within = max(settings.overlap_least, min(settings.overlap_neighbours, each))
    return within, within // 2


def most_similar(
    similarity: Iterable[np.ndarray], rows: np.ndarray, labels: np.ndarray, within: int, across: int
) -> np.ndarray:
    """int32[P, 2]: pairs each of `rows` with its most similar columns of its own class and of the others.

    `similarity` has consecutive columns of float32[len(rows), N], a part at a time, with -inf for excluded
    ones; `labels` are the classes int[N]. An image is not paired with itself.
    """
    best = [(np.zeros((len(rows), 0), np.float32), np.zeros((len(rows), 0), np.int32))] * 2
    first = 0
    for part in similarity:
        columns = np.arange(first, first + part.shape[1], dtype=np.int32)
        first += len(columns)
        own = labels[columns] == labels[rows, None]
        allowed = (own & (columns != rows[:, None]), ~own)
        for which, (mask, wanted) in enumerate(zip(allowed, (within, across), strict=True)):
            values, found = best[which]
            values = np.concatenate([values, np.where(mask, part, -np.inf)], 1)
            found = np.concatenate([found, np.broadcast_to(columns, part.shape)], 1)
            last = min(wanted, values.shape[1] - 1)
            order = np.argpartition(-values, last, axis=1)[:, :wanted]
            best[which] = (np.take_along_axis(values, order, 1), np.take_along_axis(found, order, 1))
    pairs = []
    for values, found in best:
        row, place = np.nonzero(np.isfinite(values))
        pairs.append(np.stack([rows[row], found[row, place]], 1).astype(np.int32))
    return np.concatenate(pairs)


def parts(count: int) -> Iterator[slice]:
    """Slices of up to _COLUMNS of `count` images, to compare a part of them at a time."""
    return (slice(first, first + _COLUMNS) for first in range(0, count, _COLUMNS))


def _counts(words: np.ndarray, size: int) -> csr_array:
    """How often each image has each word, [M, size], of words int16[M, K]."""
    images, keypoints = np.nonzero(words >= 0)
    ones = np.ones(len(images), np.float32)
    return csr_array((ones, (images, words[images, keypoints])), shape=(len(words), size))


def _tf_idf(counts: csr_array, rarity: np.ndarray) -> csr_array:
    """Unit rows of square-root counts weighted by rarity."""
    values = np.sqrt(counts.data) * rarity[counts.indices]
    weighted = csr_array((values, counts.indices, counts.indptr), counts.shape)
    lengths = np.sqrt(weighted.multiply(weighted).sum(1))
    weighted.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(weighted.indptr))
    return weighted
