"""Features of images: keypoints with SIFT descriptors, and a spectrum about the centre."""

import dataclasses
import hashlib
from types import ModuleType

import numpy as np

from jaxnets.errors import ConfigError

DESCRIPTOR = 128
DETAILS_SIDE = 48  # pixels along a side
_DETAILS_COARSE, _DETAILS_FINE = 3.0, 0.7  # standard deviations: what is removed, and what is smoothed
SMALL_SIDE, SMALL_CELLS = 32, 8  # pixels along a side of a small image, cells of its descriptor
_SMALLEST_RADIUS = 4.0

# A SIFT descriptor is 4 rows x 4 columns of cells with 8 directions each, in the frame of its keypoint.
# Mirroring the patch about the keypoint's direction reverses rows and directions.
_MIRROR = np.arange(DESCRIPTOR).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()

SMALL = np.dtype(
    [
        ("size", np.float32, (2,)),  # width and height in pixels of the scaled image
        ("grey", np.uint8, (SMALL_SIDE, SMALL_SIDE)),
        ("descriptor", np.float32, (2, 3 * SMALL_CELLS**2)),  # of the image, and of its mirror image
        ("background", np.float32),  # the fraction of pixels that have nearly the most common grey
    ]
)
"""What `correlation` compares of a small image."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Chosen on LC25000's lung_aca; lengths are pixels of images with an area of `side` x `side` pixels.

    On lung_aca, centres of copies are at most 1.4 px apart, those of other overlaps at least 20. Comparing
    all originals exhaustively found no overlap that the visual words had missed.
    """

    side: int = 224
    keypoints: int = 300
    contrast: float = 0.01  # SIFT's threshold, low enough for keypoints in pale tissue
    keypoint_zoom: float = 0.75  # of the image that SIFT looks at, in half the time, with a blur of sigma
    keypoint_sigma: float = 1.2  # pixels: that of 1.6 in the image itself, SIFT's default

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
    overlap_neighbours: int = 300  # by words
    overlap_verified: int = 50  # of these, by votes for one map; a quarter as many in the other classes
    overlap_least: int = 10
    overlap_budget: int = 300_000

    # Verification: Lowe's ratio, RANSAC's tolerance and iterations, maximum zoom.
    ratio: float = 0.9
    tolerance: float = 2.0
    iterations: int = 250
    stretch: float = 4.0
    agreement: float = 0.5  # the least median correlation of details by cells; 0.78 or more in lung_aca

    # Small images: the shorter side in pixels of the image file, candidates per image in its class (half as
    # many in the others) and their minimum similarity, maximum zoom and ratio of the zooms along two axes (a
    # silhouette can be stretched onto another), minimum correlation of details. Chosen on part of CIFAR-10.
    small: int = 64
    small_neighbours: int = 10
    small_similarity: float = 0.45
    small_stretch: float = 1.35
    small_unequal: float = 1.2
    small_correlation: float = 0.9
    small_rank: int = 10  # of the candidate that copies must correlate better than, and by which ratio
    small_ratio: float = 0.25
    small_background: float = 0.6  # the fraction of plain background from which an image is a drawing
    small_drawings: float = 0.95  # the correlation of details that drawings reach by chance
    small_drawn: int = 50  # images compared at random among more copies than small_rank
    small_agreeing: float = 0.8  # the fraction of these pairs that must correlate

    # Grouping: thresholds for recorded pairs, for copies, and for overlaps between originals.
    evidence_inliers: int = 8
    certain_inliers: int = 36  # no further attempts at this pair
    original_inliers: int = 12
    original_centre: float = 5.0
    overlap_members: int = 6  # images per original, compared exhaustively for linked originals
    overlap_inliers: int = 10
    overlap_pairs: int = 2


def opencv() -> ModuleType:
    """Imports OpenCV; raises ConfigError if it is missing."""
    try:
        import cv2
    except ImportError as error:
        packages = "opencv-python-headless threadpoolctl"
        raise ConfigError(f"finding duplicates needs OpenCV: pip install {packages}") from error
    return cv2


def feature_type(settings: Settings, keypoints: int, small: int = 1) -> np.dtype:
    """The dtype of an image's features: up to `keypoints`, strongest first, and global features.

    Places are (x, y) in pixels of the scaled image; angles are degrees, scales diameters in pixels. `small`
    is 0 for records of large images only.
    """
    return np.dtype(
        [
            ("descriptors", np.uint8, (keypoints, DESCRIPTOR)),
            ("places", np.float32, (keypoints, 2)),
            ("angles", np.float32, (keypoints,)),
            ("scales", np.float32, (keypoints,)),
            ("count", np.int32),
            ("is_small", np.bool_),
            ("small", SMALL, (small,)),
            ("size", np.float32, (2,)),
            ("spectrum", np.float32, (settings.rings, settings.frequencies)),
            ("details", np.int8, (DETAILS_SIDE, DETAILS_SIDE)),  # of a thumbnail, see `_details`
            ("pixels", np.uint64, (2,)),  # a digest of shape and pixels
        ]
    )


def describe(image: np.ndarray, settings: Settings) -> np.ndarray:
    """The features of uint8[H, W, 3]: one record of `feature_type`."""
    cv2 = opencv()
    grey = scaled(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), settings)
    record = np.zeros((), feature_type(settings, settings.keypoints))
    record["size"] = grey.shape[::-1]
    digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16)
    record["pixels"] = np.frombuffer(digest.digest(), np.uint64)
    record["is_small"] = min(image.shape[:2]) < settings.small
    if record["is_small"]:
        return record
    record["spectrum"] = _spectrum(grey, settings)
    record["details"] = _details(grey)
    sift = cv2.SIFT_create(settings.keypoints, 3, settings.contrast, sigma=settings.keypoint_sigma)
    size = tuple(max(1, round(settings.keypoint_zoom * side)) for side in grey.shape[::-1])
    smaller = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    keypoints, descriptors = sift.detectAndCompute(smaller, None)
    # OpenCV may return a few more keypoints with equal response.
    order = np.argsort([-keypoint.response for keypoint in keypoints], kind="stable")
    selected = order[: settings.keypoints]
    record["count"] = count = len(selected)
    if count:
        record["descriptors"][:count] = descriptors[selected]
        zoom = record["size"] / size
        places = np.array([keypoints[place].pt for place in selected])
        record["places"][:count] = (places + 0.5) * zoom - 0.5
        record["angles"][:count] = [keypoints[place].angle for place in selected]
        record["scales"][:count] = [keypoints[place].size * zoom[0] for place in selected]
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


def halves(descriptors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The parts of RootSIFT, float32[n, 64] each, that mirroring preserves and negates.

    With the halves (e, o) and (f, p), the cosine of two descriptors is e f + o p, and e f - o p if one image
    is mirrored.
    """
    values = root_sift(descriptors) * np.float32(np.sqrt(0.5))
    here, there = values[:, : DESCRIPTOR // 2], values[:, _MIRROR[: DESCRIPTOR // 2]]
    return here + there, here - there


def _details(grey: np.ndarray) -> np.ndarray:
    """int8[DETAILS_SIDE, DETAILS_SIDE]: a thumbnail in grey levels, without its coarse brightness.

    It is square whatever the aspect ratio.
    """
    cv2 = opencv()
    small = cv2.resize(grey, (DETAILS_SIDE,) * 2, interpolation=cv2.INTER_AREA).astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(small, (0, 0), sigma) for sigma in (_DETAILS_FINE, _DETAILS_COARSE))
    return np.rint(fine - coarse).clip(-127, 127).astype(np.int8)


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
