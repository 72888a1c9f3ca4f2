"""Small images, with too few keypoints: candidates and verification by correlation of details.

Details are what remains of an image without its coarse brightness: two photographs of a bright object on a
dark ground correlate, their details do not. An affine map is fitted by maximising the correlation (ECC:
Evangelidis and Psarakis, IEEE TPAMI 2008).
"""

from typing import NamedTuple

import numpy as np

from jaxnets.data.near_duplicates.candidates import most_similar
from jaxnets.data.near_duplicates.features import Settings, opencv
from jaxnets.data.near_duplicates.verification import PAIR, centre_distance, common_fraction

SIDE = 32
"""The images are compared at SIDE x SIDE pixels."""
_CELLS = 8  # of the descriptor, along a side
_COARSE, _BLUR = 4.0, 1.2  # standard deviations in pixels: what is removed, and what is smoothed
_FINE_COARSE, _FINE_BLUR = 3.0, 0.7
_BORDER = 2  # pixels of a border that are not compared
_INNER = np.pad(np.ones((SIDE - 2 * _BORDER,) * 2, np.float32), _BORDER)
_LEAST_COMMON = 1 / 3  # of the area
_ITERATIONS = 8  # of 292 judged copies in CIFAR-10, all reach with 6 the correlation that they have with 30

SMALL = np.dtype(
    [
        ("index", np.int32),
        ("size", np.float32, (2,)),  # width and height in pixels of the scaled image
        ("grey", np.uint8, (SIDE, SIDE)),
        ("descriptor", np.float32, (2, 3 * _CELLS**2)),  # of the image, and of its mirror image
    ]
)


def describe_small(image: np.ndarray, index: int, size: np.ndarray) -> np.ndarray:
    """The SMALL record of uint8[H, W, 3]; `size` is (width, height) of the scaled image, for maps."""
    cv2 = opencv()
    pixels = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    record = np.zeros((), SMALL)
    record["index"], record["size"] = index, size
    record["grey"] = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    details = _details(pixels.astype(np.float32), _COARSE, _BLUR)
    for row, view in enumerate((details, details[:, ::-1])):
        cells = view.reshape(_CELLS, SIDE // _CELLS, _CELLS, SIDE // _CELLS, 3).mean((1, 3)).reshape(-1, 3)
        vector = (cells - cells.mean(0)).ravel()
        record["descriptor"][row] = vector / max(float(np.linalg.norm(vector)), 1e-6)
    return record


def _details(pixels: np.ndarray, coarse: float, blur: float) -> np.ndarray:
    cv2 = opencv()
    return cv2.GaussianBlur(pixels - cv2.GaussianBlur(pixels, (0, 0), coarse), (0, 0), blur)


def small_candidates(
    records: np.ndarray, labels: np.ndarray, rows: np.ndarray, settings: Settings
) -> np.ndarray:
    """Pairs int32[P, 2] of positions in `records`: `rows` and the images most similar to them.

    `records` are SMALL [M], `labels` their classes int[M].
    """
    plain, mirror = records["descriptor"][:, 0], records["descriptor"][rows, 1]
    similarity = np.maximum(plain[rows] @ plain.T, mirror @ plain.T)
    similarity[np.arange(len(rows)), rows] = -np.inf
    similarity[similarity < settings.small_similarity] = -np.inf
    neighbours = settings.small_neighbours
    pairs = most_similar(similarity, rows, labels, neighbours, neighbours // 2)
    return np.unique(np.sort(pairs, axis=1), axis=0)


class Views(NamedTuple):
    """A SMALL record, and its grey image blurred, and its fine details: float32[SIDE, SIDE]."""

    record: np.ndarray
    blurred: np.ndarray
    details: np.ndarray


def views(record: np.ndarray) -> Views:
    """The views of a SMALL record that `correlate` compares."""
    grey = record["grey"].astype(np.float32)
    return Views(record, opencv().GaussianBlur(grey, (0, 0), 1.0), _details(grey, _FINE_COARSE, _FINE_BLUR))


def correlate(first: Views, second: Views, settings: Settings) -> np.ndarray:
    """Fits an affine map between two small images, mirrored or not.

    Returns a PAIR record without the indices, with the correlation of details; 0 if there is no map, or one
    that zooms or cuts off too much.
    """
    here, there = first.record["descriptor"], second.record["descriptor"][0]
    flip = here[1] @ there > here[0] @ there
    record = np.zeros((), PAIR)
    matrix = _fit(first.blurred, second.blurred[:, ::-1] if flip else second.blurred)
    if matrix is None:
        return record
    if flip:
        matrix = np.array([[-1, 0, SIDE - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    zooms = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    if zooms[0] > min(settings.small_stretch, settings.small_unequal * zooms[1]):
        return record
    if zooms[1] < 1 / settings.small_stretch:
        return record
    sizes = [view.record["size"] for view in (first, second)]
    to_first, to_second = map(_to_scaled, sizes)
    record["correlation"] = max(0.0, _detail_correlation(first.details, second.details, matrix[:2]))
    record["matrix"] = (to_second @ matrix @ np.linalg.inv(to_first))[:2]
    record["centre"] = centre_distance(record["matrix"], *sizes)
    record["share"] = common_fraction(record["matrix"], *sizes)
    return record


def distinct(pairs: np.ndarray, images: int, settings: Settings) -> np.ndarray:
    """The pairs of copies among all compared PAIR records of `images` small images.

    Drawings such as digits correlate with many others. A pair counts only if the details of both images
    correlate much less with their next candidates: with those of rank `small_rank`.
    """
    image = np.concatenate([pairs["first"], pairs["second"]])
    values = np.concatenate([pairs["correlation"]] * 2)
    order = np.lexsort((-values, image))
    starts = np.searchsorted(image[order], np.arange(images + 1))
    place = starts[:-1] + settings.small_rank
    others = np.zeros(images, np.float32)
    has_others = place < starts[1:]
    others[has_others] = values[order[place[has_others]]]
    other = np.maximum(others[pairs["first"]], others[pairs["second"]])
    is_strong = pairs["correlation"] >= settings.small_correlation
    return pairs[is_strong & (1 - pairs["correlation"] <= settings.small_ratio * (1 - other))]


def _fit(here: np.ndarray, there: np.ndarray) -> np.ndarray | None:
    """The affine map, float64[3, 3], of the largest correlation near the identity; None if there is none."""
    cv2 = opencv()
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, 1e-4)
    start = np.eye(2, 3, dtype=np.float32)
    try:
        _, found = cv2.findTransformECC(here, there, start, cv2.MOTION_AFFINE, criteria, None, 1)
    except cv2.error:  # it does not converge
        return None
    return np.concatenate([found.astype(np.float64), [[0, 0, 1]]])


def _detail_correlation(first: np.ndarray, second: np.ndarray, matrix: np.ndarray) -> float:
    """The correlation of details, float32[SIDE, SIDE], the second ones mapped onto the first."""
    cv2 = opencv()
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    mapped = cv2.warpAffine(second, matrix, (SIDE, SIDE), flags=flags)
    common = (cv2.warpAffine(_INNER, matrix, (SIDE, SIDE), flags=flags) > 0.99) & (_INNER > 0)
    if common.mean() < _LEAST_COMMON:
        return 0.0
    a, b = first[common], mapped[common]
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6)


def _to_scaled(size: np.ndarray) -> np.ndarray:
    """float64[3, 3]: from pixels of SIDE x SIDE to those of `size`; the centres of pixels are integers."""
    zoom = np.asarray(size, np.float64) / SIDE
    return np.array([[zoom[0], 0, (zoom[0] - 1) / 2], [0, zoom[1], (zoom[1] - 1) / 2], [0, 0, 1]])
