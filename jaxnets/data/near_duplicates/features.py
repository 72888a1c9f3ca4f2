"""Features of images, and the pairs of images that may be near-duplicates by their features.

Copies are found by spectra. A spectrum describes an image about its centre, so it cannot match photographs
that overlap partially; bags of visual words (Sivic and Zisserman, ICCV 2003) can.
"""

import dataclasses
import hashlib
from types import ModuleType

import numpy as np
from scipy.sparse import csr_array

from jaxnets.errors import ConfigError

DESCRIPTOR = 128
_SMALLEST_RADIUS = 4.0
_BLOCK, _ROWS = 20_000, 1_000
_MIN_PER_WORD, _SAMPLE_PER_WORD, _ROUNDS = 4, 40, 20

# A SIFT descriptor is 4 rows x 4 columns of cells with 8 directions each, in the frame of its keypoint.
# Mirroring the patch about the keypoint's direction reverses rows and directions.
_MIRROR = np.arange(DESCRIPTOR).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()


@dataclasses.dataclass(frozen=True)
class Settings:
    """Chosen on LC25000's lung_aca; lengths are pixels of images with an area of `side` x `side` pixels.

    On lung_aca, centres of copies are at most 1.4 px apart, those of other overlaps at least 20. Comparing
    all originals exhaustively found no overlap that the visual words had missed.
    """

    side: int = 224
    keypoints: int = 300
    contrast: float = 0.01  # SIFT's threshold, low enough for keypoints in pale tissue

    # Candidate copies: log-polar rings, angles, and frequencies used of the spectrum along the angle.
    rings: int = 40
    angles: int = 128
    frequencies: int = 16
    ring_shifts: tuple[int, ...] = (-4, -2, 0, 2, 4)  # one ring is 9 % of zoom
    neighbours: int = 6
    neighbours_across: int = 2  # in other classes

    # Candidate overlaps: images per original, k-means centres, neighbours of each image in its class (half
    # as many in the others), the minimum per image and the maximum in total.
    representatives: int = 2
    words: int = 2048
    overlap_neighbours: int = 100  # the thinnest overlap of lung_aca was the 25th
    overlap_least: int = 10
    overlap_budget: int = 300_000

    # Verification: Lowe's ratio, RANSAC's tolerance and iterations, maximum zoom.
    ratio: float = 0.9
    tolerance: float = 2.0
    iterations: int = 250
    stretch: float = 4.0

    # Grouping: thresholds for recorded pairs, for copies, and for overlaps between originals.
    evidence_inliers: int = 8
    original_inliers: int = 12
    original_centre: float = 5.0
    overlap_members: int = 6  # images per original, compared exhaustively for linked originals
    overlap_inliers: int = 12
    overlap_pairs: int = 2


def opencv() -> ModuleType:
    """Imports OpenCV; raises ConfigError if it is missing."""
    try:
        import cv2
    except ImportError as error:
        packages = "opencv-python-headless threadpoolctl"
        raise ConfigError(f"finding duplicates needs OpenCV: pip install {packages}") from error
    return cv2


def feature_type(settings: Settings) -> np.dtype:
    """The dtype of an image's features: keypoints, strongest first, and global features.

    Places are (x, y) in pixels of the scaled image; angles are degrees.
    """
    return np.dtype(
        [
            ("descriptors", np.uint8, (settings.keypoints, DESCRIPTOR)),
            ("places", np.float32, (settings.keypoints, 2)),
            ("angles", np.float32, (settings.keypoints,)),
            ("count", np.int32),
            ("size", np.float32, (2,)),
            ("spectrum", np.float32, (settings.rings, settings.frequencies)),
            ("pixels", np.uint64, (2,)),  # a digest of shape and pixels
        ]
    )


def describe(image: np.ndarray, settings: Settings) -> np.ndarray:
    """The features of uint8[H, W, 3]: one record of `feature_type`."""
    cv2 = opencv()
    grey = scaled(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), settings)
    record = np.zeros((), feature_type(settings))
    record["size"] = grey.shape[::-1]
    record["spectrum"] = _spectrum(grey, settings)
    digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16)
    record["pixels"] = np.frombuffer(digest.digest(), np.uint64)
    sift = cv2.SIFT_create(nfeatures=settings.keypoints, contrastThreshold=settings.contrast)
    keypoints, descriptors = sift.detectAndCompute(grey, None)
    # OpenCV may return a few more keypoints with equal response.
    order = np.argsort([-keypoint.response for keypoint in keypoints], kind="stable")
    selected = order[: settings.keypoints]
    record["count"] = count = len(selected)
    if count:
        record["descriptors"][:count] = descriptors[selected]
        record["places"][:count] = [keypoints[place].pt for place in selected]
        record["angles"][:count] = [keypoints[place].angle for place in selected]
    return record


def scaled(image: np.ndarray, settings: Settings) -> np.ndarray:
    """Resizes an image to an area of `side` x `side` pixels, preserving its aspect ratio."""
    cv2 = opencv()
    height, width = image.shape[:2]
    zoom = settings.side / np.sqrt(height * width)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    if size == (width, height):
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)


def root_sift(descriptors: np.ndarray) -> np.ndarray:
    """RootSIFT of uint8[n, 128]: float32, rows of length 1 (Arandjelovic and Zisserman, CVPR 2012)."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1))


def mirrored(descriptors: np.ndarray) -> np.ndarray:
    """The descriptors [n, 128] of the mirrored image."""
    return descriptors[:, _MIRROR]


def _spectrum(grey: np.ndarray, settings: Settings) -> np.ndarray:
    """float32[rings, frequencies], invariant to rotation about the centre and to mirroring.

    Fourier magnitudes along the angle of the log-polar image; a zoom shifts the rings.
    """
    cv2 = opencv()
    height, width = grey.shape
    step = np.log(min(height, width) / 2 / _SMALLEST_RADIUS) / settings.rings
    rings = _SMALLEST_RADIUS * np.exp(step * (np.arange(settings.rings) + 0.5))
    angles = 2 * np.pi * np.arange(settings.angles) / settings.angles
    x = (width - 1) / 2 + rings[:, None] * np.cos(angles)
    y = (height - 1) / 2 + rings[:, None] * np.sin(angles)
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    polar = cv2.remap(smooth, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    magnitudes = np.abs(np.fft.rfft(polar.astype(np.float32), axis=1))
    return magnitudes[:, 1 : settings.frequencies + 1].astype(np.float32)


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
    words = (_words(descriptors, vocabulary, flip) for flip in (False, True))
    plain, mirror = (csr_array((ones, (places, word)), shape=shape) for word in words)
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
    options = {"init": "random", "n_init": 1, "max_iter": _ROUNDS, "random_state": 0}
    means = MiniBatchKMeans(size, batch_size=8 * size, **options).fit(root_sift(descriptors))
    return means.cluster_centers_.astype(np.float32)


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
