"""Candidate overlaps by bags of visual words (Sivic and Zisserman, ICCV 2003).

The spectrum describes an image about its centre, so it cannot match photographs that overlap partially.
"""

import numpy as np
from scipy.sparse import csr_array

from jaxnets.data.near_duplicates.candidates import most_similar
from jaxnets.data.near_duplicates.features import mirrored, root_sift
from jaxnets.data.near_duplicates.settings import Settings

_BLOCK, _ROWS = 20_000, 1_000
_MIN_PER_WORD = 4
_SAMPLE_PER_WORD, _ROUNDS = 40, 20


def candidate_pairs(
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
    plain, mirror = (
        _histograms(_words(descriptors, vocabulary, turned), places, len(records), size)
        for turned in (False, True)
    )
    frequency = np.bincount(plain.indices, minlength=size)
    rarity = np.log(len(records) / np.maximum(frequency, 1))
    plain, mirror = (_tf_idf(counts, rarity) for counts in (plain, mirror))
    within, across = neighbours(len(records), settings)
    pairs = []
    for start in range(0, len(records), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(records)))
        block = plain[rows]
        similarity = np.maximum((block @ plain.T).toarray(), (block @ mirror.T).toarray())
        similarity[owners[rows][:, None] == owners] = -np.inf
        pairs.append(most_similar(similarity, rows, labels, within, across))
    return np.concatenate(pairs)


def neighbours(images: int, settings: Settings) -> tuple[int, int]:
    """Numbers of neighbours per image, of its class and of the others; fewer for many images."""
    each = settings.overlap_budget // max(images, 1)
    within = max(settings.overlap_least, min(settings.overlap_neighbours, each))
    return within, within // 2


def _vocabulary(descriptors: np.ndarray, size: int) -> np.ndarray:
    """float32[size, 128]: k-means centres."""
    from sklearn.cluster import MiniBatchKMeans

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


def _histograms(words: np.ndarray, places: np.ndarray, images: int, size: int) -> csr_array:
    """float32[images, size]: the counts of each word in each image."""
    ones = np.ones(len(words), np.float32)
    return csr_array((ones, (places, words)), shape=(images, size))


def _tf_idf(counts: csr_array, rarity: np.ndarray) -> csr_array:
    """Unit rows of square-root counts weighted by rarity."""
    weighted = csr_array(
        (np.sqrt(counts.data) * rarity[counts.indices], counts.indices, counts.indptr), counts.shape
    )
    lengths = np.sqrt(weighted.multiply(weighted).sum(1))
    weighted.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(weighted.indptr))
    return weighted
