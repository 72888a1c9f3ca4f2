"""Small images, with too few keypoints: candidates and verification by correlation of details.

Details are what remains of an image without its coarse brightness: two photographs of a bright object on a
dark background correlate, their details do not. An affine map is fitted by maximising the correlation (ECC:
Evangelidis and Psarakis, IEEE TPAMI 2008).
"""

from typing import NamedTuple

import numpy as np

from jaxnets.data.near_duplicates.candidates import most_similar, parts
from jaxnets.data.near_duplicates.features import SMALL, SMALL_CELLS, Settings, opencv
from jaxnets.data.near_duplicates.features import SMALL_SIDE as SIDE
from jaxnets.data.near_duplicates.verification import PAIR, centre_distance, common_fraction, to_scaled

_CELL = SIDE // SMALL_CELLS  # pixels along a side
_COARSE, _BLUR = 4.0, 1.2  # standard deviations in pixels: what is removed, and what is smoothed
_FINE_COARSE, _FINE_BLUR = 3.0, 0.7
_LEVELS = 8  # of grey in each bin; a plain background is within two bins
_BORDER = 2  # pixels of a border that are not compared
_INNER = np.pad(np.ones((SIDE - 2 * _BORDER,) * 2, np.float32), _BORDER)
_LEAST_COMMON = 1 / 3  # of the area
_ITERATIONS = 8  # of 292 judged copies in CIFAR-10, all reach with 6 the correlation that they have with 30


def describe_small(image: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The SMALL record of uint8[H, W, 3]; `size` is (width, height) of the scaled image, for maps."""
    cv2 = opencv()
    pixels = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    record = np.zeros((), SMALL)
    record["size"] = size
    record["grey"] = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    levels = np.bincount(record["grey"].ravel() // _LEVELS, minlength=256 // _LEVELS + 1)
    record["background"] = (levels[:-1] + levels[1:]).max() / SIDE**2
    details = _details(pixels.astype(np.float32), _COARSE, _BLUR)
    for row, view in enumerate((details, details[:, ::-1])):
        cells = view.reshape(SMALL_CELLS, _CELL, SMALL_CELLS, _CELL, 3).mean((1, 3)).reshape(-1, 3)
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
    blocks = (np.maximum(plain[rows] @ plain[part].T, mirror @ plain[part].T) for part in parts(len(plain)))
    similarity = (np.where(block < settings.small_similarity, -np.inf, block) for block in blocks)
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
    to_first, to_second = (to_scaled(size, SIDE) for size in sizes)
    record["correlation"] = max(0.0, _detail_correlation(first.details, second.details, matrix[:2]))
    record["matrix"] = (to_second @ matrix @ np.linalg.inv(to_first))[:2]
    record["centre"] = centre_distance(record["matrix"], *sizes)
    record["share"] = common_fraction(record["matrix"], *sizes)
    return record


def next_correlations(compared: np.ndarray, records: np.ndarray, settings: Settings) -> np.ndarray:
    """float32[M]: the correlation of each small image with its candidate of rank `small_rank`.

    `compared` are PAIR records of pairs of `records`, SMALL[M]. It is 0 with fewer candidates, and at least
    `small_drawings` for an image that is mostly a plain background: drawings correlate by chance, and a
    candidate whose map is refused has correlation 0.
    """
    image = np.concatenate([compared["first"], compared["second"]])
    values = np.concatenate([compared["correlation"]] * 2)
    order = np.lexsort((-values, image))
    starts = np.searchsorted(image[order], np.arange(len(records) + 1))
    place = starts[:-1] + settings.small_rank
    found = np.where(records["background"] >= settings.small_background, settings.small_drawings, 0.0)
    has_next = place < starts[1:]
    found[has_next] = np.maximum(found[has_next], values[order[place[has_next]]])
    return found.astype(np.float32)


def draw_pairs(components: np.ndarray, chosen: np.ndarray, settings: Settings) -> np.ndarray:
    """Pairs int32[P, 2] of random small images of each of the components int[M] that has `chosen` images."""
    generator = np.random.default_rng(0)
    pairs = [np.zeros((0, 2), np.int32)]
    for component in np.unique(components[chosen]).tolist():
        members = generator.permutation(np.flatnonzero(components == component))[: settings.small_drawn]
        pairs += [np.stack([members, np.roll(members, shift)], 1) for shift in range(1, 4)]
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0).astype(np.int32)


def select_copies(
    compared: np.ndarray, drawn: np.ndarray, components: np.ndarray, others: np.ndarray, settings: Settings
) -> np.ndarray:
    """The pairs of copies among all compared PAIR records.

    Drawings such as digits correlate with many others. So the details of a pair have to correlate much more
    than with the next candidates (`others`, from `next_correlations`), unless these are copies too: then most
    pairs that were `drawn` from their component, PAIR records too, correlate.
    """
    other = np.maximum(others[compared["first"]], others[compared["second"]])
    is_alone = 1 - compared["correlation"] <= settings.small_ratio * (1 - other)
    component = components[drawn["first"]]
    size = int(components.max()) + 1
    agreeing = np.bincount(component, drawn["correlation"] >= settings.small_correlation, size)
    needed = np.maximum(1, settings.small_agreeing * np.bincount(component, minlength=size))
    are_copies = (agreeing >= needed)[components[compared["first"]]]
    is_strong = compared["correlation"] >= settings.small_correlation
    return compared[is_strong & (is_alone | are_copies)]


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
