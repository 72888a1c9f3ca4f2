"""Pairs of images that may be near-duplicates: copies by their spectra, overlaps by visual words.

The spectrum describes an image about its centre, so it cannot match photographs that overlap partially; bags
of visual words (Sivic and Zisserman, ICCV 2003) can.
"""

import numpy as np
from scipy.sparse import csr_array

from jaxnets.data.near_duplicates.features import Settings, mirrored, root_sift

_BLOCK, _ROWS = 20_000, 1_000
_MIN_PER_WORD, _SAMPLE_PER_WORD, _ROUNDS = 4, 40, 20


def candidate_copies(
    spectra: np.ndarray, labels: np.ndarray, rows: np.ndarray, settings: Settings
) -> np.ndarray:
    """Pairs int32[P, 2] of the images `rows` and their nearest neighbours, in their class and in the others.

    `spectra` is float32[N, rings, frequencies], `labels` the classes int[N]. Pairs are unique and have the
    smaller index first; an image is not paired with itself.
    """
    similarity = np.full((len(rows), len(spectra)), -np.inf, np.float32)
    rings = spectra.shape[1]
    for shift in settings.ring_shifts:
        here = spectra[rows, max(shift, 0) : rings + min(shift, 0)]
        there = spectra[:, max(-shift, 0) : rings + min(-shift, 0)]
        np.maximum(similarity, _unit_rows(here) @ _unit_rows(there).T, out=similarity)
    similarity[np.arange(len(rows)), rows] = -np.inf
    pairs = _most_similar(similarity, rows, labels, settings.neighbours, settings.neighbours_across)
    return np.unique(np.sort(pairs, axis=1), axis=0)


def candidate_overlaps(
    records: np.ndarray, owners: np.ndarray, labels: np.ndarray, settings: Settings
) -> np.ndarray:
    """Pairs int[P, 2] of indices in `records`, each with its nearest images of other originals.

    `records` are features [M], `owners` their originals int[M], `labels` their classes int[M]. Images are
    also compared mirrored. The result is deterministic.
    """
    used = np.arange(settings.keypoints) < records["count"][:, None]
    descriptors, places = records["descriptors"][used], np.nonzero(used)[0]
    size = min(settings.words, len(descriptors) // _MIN_PER_WORD)
    if size < 1:
        return np.zeros((0, 2), np.int32)
    vocabulary = _vocabulary(descriptors, size)
    ones, shape = np.ones(len(descriptors), np.float32), (len(records), size)
    plain, mirror = (
        csr_array((ones, (places, _words(descriptors, vocabulary, flip))), shape=shape)
        for flip in (False, True)
    )
    rarity = np.log(len(records) / np.maximum(np.bincount(plain.indices, minlength=size), 1))
    plain, mirror = (_tf_idf(counts, rarity) for counts in (plain, mirror))
    within, across = neighbours(len(records), settings)
    pairs = []
    for start in range(0, len(records), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(records)))
        block = plain[rows]
        similarity = np.maximum((block @ plain.T).toarray(), (block @ mirror.T).toarray())
        similarity[owners[rows][:, None] == owners] = -np.inf
        pairs.append(_most_similar(similarity, rows, labels, within, across))
    return np.concatenate(pairs)


def neighbours(images: int, settings: Settings) -> tuple[int, int]:
    """Numbers of neighbours per image, of its class and of the others; fewer for many images."""
    each = settings.overlap_budget // max(images, 1)
    within = max(settings.overlap_least, min(settings.overlap_neighbours, each))
    return within, within // 2


def _most_similar(
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
            columns = np.argpartition(-masked, count - 1, axis=1)[:, :count]
            finite = np.isfinite(np.take_along_axis(masked, columns, axis=1))
            first = np.repeat(rows, count)[finite.ravel()]
            pairs.append(np.stack([first, columns[finite]], 1).astype(np.int32))
    return np.concatenate(pairs)


def _unit_rows(spectra: np.ndarray) -> np.ndarray:
    flat = spectra.reshape(len(spectra), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


def _vocabulary(descriptors: np.ndarray, size: int) -> np.ndarray:
    """float32[size, 128]: k-means centres."""
    from sklearn.cluster import MiniBatchKMeans  # slow to import

    if len(descriptors) > _SAMPLE_PER_WORD * size:
        chosen = np.random.default_rng(0).choice(len(descriptors), _SAMPLE_PER_WORD * size, replace=False)
        descriptors = descriptors[np.sort(chosen)]
    means = MiniBatchKMeans(
        size, init="random", n_init=1, batch_size=8 * size, max_iter=_ROUNDS, random_state=0
    )
    return means.fit(root_sift(descriptors)).cluster_centers_.astype(np.float32)


def _words(descriptors: np.ndarray, vocabulary: np.ndarray, flip: bool) -> np.ndarray:
    """int[D]: the nearest centre of each descriptor uint8[D, 128], mirrored if `flip`."""
    half = (vocabulary**2).sum(1) / 2
    found = []
    for start in range(0, len(descriptors), _BLOCK):
        block = root_sift(descriptors[start : start + _BLOCK])
        found.append(((mirrored(block) if flip else block) @ vocabulary.T - half).argmax(1))
    return np.concatenate(found)


def _tf_idf(counts: csr_array, rarity: np.ndarray) -> csr_array:
    """Unit rows of square-root counts weighted by rarity."""
    values = np.sqrt(counts.data) * rarity[counts.indices]
    weighted = csr_array((values, counts.indices, counts.indptr), counts.shape)
    lengths = np.sqrt(weighted.multiply(weighted).sum(1))
    weighted.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(weighted.indptr))
    return weighted
