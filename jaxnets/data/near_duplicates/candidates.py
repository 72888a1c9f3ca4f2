"""Pairs of images that may be near-duplicates by their features.

Copies are found by spectra. A spectrum describes an image about its centre, so it cannot match photographs
that overlap partially; bags of visual words (Sivic and Zisserman, ICCV 2003) can. Their nearest neighbours
are ranked again by weak geometric consistency (Jegou, Douze and Schmid, ECCV 2008): the number of words in
common that agree on one rotation and translation.
"""

import dataclasses

import numpy as np
from scipy.sparse import csr_array

from jaxnets.data.near_duplicates.features import Settings, mirrored, root_sift

MIN_PER_WORD, SAMPLE_PER_WORD, _ROUNDS = 4, 40, 20
_LEAST_ENERGY = 1e-12  # of a spectrum
_BLOCK = 20_000  # descriptors compared with all words at a time
_ROTATIONS, _CELLS, _CELL = 12, 12, 0.25  # bins of votes; a cell's side is relative to the image's


def candidate_copies(
    spectra: np.ndarray, labels: np.ndarray, rows: np.ndarray, settings: Settings
) -> np.ndarray:
    """Pairs int32[P, 2] of the images `rows` and their nearest neighbours, in their class and in the others.

    `spectra` is float32[N, rings, frequencies], `labels` the classes int[N]. Pairs are unique and have the
    smaller index first; an image is not paired with itself.
    """
    count, rings, frequencies = spectra.shape
    flat = spectra.reshape(count, -1)
    energy = np.cumsum((spectra.astype(np.float64) ** 2).sum(2), axis=1)
    energy = np.pad(energy, ((0, 0), (1, 0)))  # of the first rings
    similarity = np.full((len(rows), count), -np.inf, np.float32)
    for shift in settings.ring_shifts:
        (a, b), (c, d) = ((max(s, 0), rings + min(s, 0)) for s in (shift, -shift))
        product = flat[rows, a * frequencies : b * frequencies] @ flat[:, c * frequencies : d * frequencies].T
        lengths = (
            np.sqrt(np.maximum(energy[:, d] - energy[:, c], _LEAST_ENERGY)) for c, d in ((a, b), (c, d))
        )
        here, there = (values.astype(np.float32) for values in lengths)
        product /= here[rows, None]
        product /= there
        np.maximum(similarity, product, out=similarity)
    similarity[np.arange(len(rows)), rows] = -np.inf
    pairs = most_similar(similarity, rows, labels, settings.neighbours, settings.neighbours_across)
    return np.unique(np.sort(pairs, axis=1), axis=0)


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
    means = MiniBatchKMeans(size, batch_size=8 * size, **options).fit(root_sift(descriptors))
    return means.cluster_centers_.astype(np.float32)


def visual_words(records: np.ndarray, vocabulary: np.ndarray, settings: Settings) -> np.ndarray:
    """The words of features [M]: records of `word_type`."""
    words = np.zeros(len(records), word_type(settings))
    used = np.arange(settings.keypoints) < records["count"][:, None]
    for name, flip in (("plain", False), ("mirror", True)):
        words[name] = -1
        words[name][used] = _nearest_words(records["descriptors"][used], vocabulary, flip)
    side = np.sqrt(records["size"].prod(1))[:, None]
    places = (records["places"] - (records["size"][:, None] - 1) / 2) / side[..., None]
    words["places"] = places[..., 0] + 1j * places[..., 1]
    words["angles"] = np.deg2rad(records["angles"])
    words["scales"] = records["scales"] / side
    return words


def _nearest_words(descriptors: np.ndarray, vocabulary: np.ndarray, flip: bool) -> np.ndarray:
    """int[D]: the nearest centre of each descriptor uint8[D, 128], mirrored if `flip`."""
    half = (vocabulary**2).sum(1) / 2
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(descriptors), _BLOCK):
        block = root_sift(descriptors[start : start + _BLOCK])
        found.append(((mirrored(block) if flip else block) @ vocabulary.T - half).argmax(1))
    return np.concatenate(found)


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
        similarity = np.full((len(rows), len(self.words)), -np.inf, np.float32)
        for name in ("plain", "mirror"):
            block = _tf_idf(_counts(self.words[name][rows], len(self.rarity)), self.rarity)
            np.maximum(similarity, (block @ self.vectors.T).toarray(), out=similarity)
        similarity[self.owners[rows][:, None] == self.owners] = -np.inf
        within, across = neighbours(len(self.words), settings)
        pairs = most_similar(similarity, rows, self.labels, within, across)
        chosen = [np.zeros((0, 2), np.int32)]
        for row in rows.tolist():
            others = pairs[pairs[:, 0] == row, 1]
            others = others[np.argsort(-self.votes(row, others), kind="stable")]
            same = self.labels[others] == self.labels[row]
            most = settings.overlap_verified
            best = np.concatenate([others[same][:most], others[~same][: most // 4]])
            chosen.append(np.stack([np.full(len(best), row, np.int32), best], 1))
        return np.concatenate(chosen)

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
    similarity: np.ndarray, rows: np.ndarray, labels: np.ndarray, within: int, across: int
) -> np.ndarray:
    """int32[P, 2]: pairs each of `rows` with its most similar columns of its own class and of the others.

    `similarity` is float[len(rows), N], -inf for excluded columns; `labels` are the classes int[N].
    """
    own = labels[None, :] == labels[rows][:, None]
    pairs = [np.zeros((0, 2), np.int32)]
    for mask, wanted in ((own, within), (~own, across)):
        if count := min(wanted, similarity.shape[1]):
            masked = np.where(mask, similarity, -np.inf)
            columns = np.argpartition(masked, -count, axis=1)[:, -count:]
            finite = np.isfinite(np.take_along_axis(masked, columns, axis=1))
            first = np.repeat(rows, count)[finite.ravel()]
            pairs.append(np.stack([first, columns[finite]], 1).astype(np.int32))
    return np.concatenate(pairs)


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
