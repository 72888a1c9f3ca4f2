"""Verifies pairs of images: matches keypoints, fits an affine map, and renders both images by it."""

from typing import NamedTuple

import numpy as np

from jaxnets.data.near_duplicates.features import DETAILS_SIDE, Settings, halves, opencv, scaled

PAIR = np.dtype(
    [
        ("first", np.int32),
        ("second", np.int32),
        ("inliers", np.int32),
        ("correlation", np.float32),  # of details, for small images; else 0
        ("matrix", np.float64, (2, 3)),  # from the first image's pixels to the second's
        ("centre", np.float32),  # distance of the mapped centres, pixels
        ("share", np.float32),  # fraction of the smaller image's area in both
        ("agreement", np.float32),  # from `agreement`; 0 for small images
    ]
)
_BIN, _BINS, _WINDOW = 15, 24, 5  # of rotations: degrees per bin, bins, and bins of consistent matches
_STRONGEST = 128  # keypoints that are tried first
_TILES = 8  # of the checkerboard along a side
_CELL = 8  # pixels of `details` along a side
_CELL_MEANS = np.kron(np.eye(DETAILS_SIDE // _CELL, dtype=np.float32), np.full(_CELL, 1 / _CELL, np.float32))
_BLURRED_ZOOM = 1.5  # from which the finer image is blurred before it is scaled down
_LEAST_COMMON = 0.75  # of a cell's pixels in both images
_LEAST_DETAIL = 1.5  # grey levels: the least standard deviation in a cell of either image


class Matchable(NamedTuple):
    """An image's features, and the halves of its descriptors: float32[K, 64] each, from `halves`."""

    features: np.ndarray
    even: np.ndarray
    odd: np.ndarray


def matchable(image: np.ndarray) -> Matchable:
    """What `verify` needs of an image's features."""
    return Matchable(image, *halves(image["descriptors"][: image["count"]]))


def verify(
    first: Matchable, second: Matchable, settings: Settings, *, quick: bool = True
) -> np.ndarray | None:
    """Fits the best affine map from one image's features to another's, with or without mirroring.

    Returns a PAIR record without the indices, or None for fewer than `evidence_inliers`. With `quick` the
    strongest keypoints are tried first: for most copies they suffice.
    """
    if min(len(first.even), len(second.even)) < settings.evidence_inliers:
        return None
    record = None
    for most in (_STRONGEST, settings.keypoints) if quick else (settings.keypoints,):
        record = _verify(first, second, most, settings)
        if record is not None and record["inliers"] >= settings.certain_inliers:
            break
    return record


def _verify(first: Matchable, second: Matchable, most: int, settings: Settings) -> np.ndarray | None:
    """As `verify`, with the `most` strongest keypoints of each image."""
    even = first.even[:most] @ second.even[:most].T
    odd = first.odd[:most] @ second.odd[:most].T
    candidates = []
    for cosine, handedness in ((even + odd, 1), (even - odd, -1)):
        found = _matches(cosine, settings.ratio)
        rotations = (
            second.features["angles"][found[:, 1]] - handedness * first.features["angles"][found[:, 0]]
        )
        candidates.append((found[_consistent(rotations)], handedness))
    found, handedness = max(candidates, key=lambda candidate: len(candidate[0]))
    return _fit(first.features, second.features, found, handedness, settings)


def _matches(cosine: np.ndarray, ratio: float) -> np.ndarray:
    """int[M, 2]: mutual nearest neighbours that pass Lowe's ratio test; overwrites `cosine`."""
    rows, columns = np.arange(len(cosine)), cosine.argmax(1)
    nearest = cosine[rows, columns]
    is_mutual = nearest == cosine.max(0)[columns]
    cosine[rows, columns] = -1
    is_clear = 1 - nearest < ratio**2 * (1 - cosine.max(1))  # squared distances are 2 - 2 cosine
    selected = np.flatnonzero(is_mutual & is_clear)
    return np.stack([selected, columns[selected]], 1)


def _consistent(rotations: np.ndarray) -> np.ndarray:
    """bool[M]: matches with similar rotations; anisotropic zoom spreads those of one map by 27 degrees."""
    bins = (rotations % 360 // _BIN).astype(int) % _BINS
    counts = np.bincount(bins, minlength=_BINS)
    windows = np.convolve(np.concatenate([counts, counts[: _WINDOW - 1]]), np.ones(_WINDOW), "valid")
    return (bins - windows.argmax()) % _BINS < _WINDOW


def _fit(
    first: np.ndarray, second: np.ndarray, found: np.ndarray, handedness: int, settings: Settings
) -> np.ndarray | None:
    """The PAIR record of the matches `found`, int[M, 2]; None if no plausible map has enough inliers."""
    if len(found) < settings.evidence_inliers:
        return None
    here, there = first["places"][found[:, 0]], second["places"][found[:, 1]]
    options = {"ransacReprojThreshold": settings.tolerance, "maxIters": settings.iterations}
    matrix, inside = opencv().estimateAffine2D(here, there, confidence=0.999, **options)
    if matrix is None or inside.sum() < settings.evidence_inliers or not np.isfinite(matrix).all():
        return None
    zooms = np.linalg.svd(matrix[:, :2], compute_uv=False)
    mirrors = np.linalg.det(matrix[:, :2]) * handedness <= 0
    if mirrors or zooms[0] > settings.stretch or zooms[1] < 1 / settings.stretch:
        return None
    # Keypoints with several orientations at one position count once.
    used = np.flatnonzero(inside.ravel())
    inliers = min(len({*map(tuple, np.rint(side[used]).tolist())}) for side in (here, there))
    if inliers < settings.evidence_inliers:
        return None
    agreeing = agreement(first, second, matrix)
    if agreeing < settings.agreement:
        return None
    record = np.zeros((), PAIR)
    record["inliers"], record["matrix"], record["agreement"] = inliers, matrix, agreeing
    record["centre"] = centre_distance(matrix, first["size"], second["size"])
    record["share"] = common_fraction(matrix, first["size"], second["size"])
    return record


def agreement(first: np.ndarray, second: np.ndarray, matrix: np.ndarray) -> float:
    """The median correlation of the details of two images, by cells of their common area.

    Different images with the same caption, scale bar or logo have keypoints in common, but only in few cells.
    `matrix` maps the first image's pixels to the second's. 1 if there are no cells with details in either.
    """
    cv2 = opencv()
    sides = (DETAILS_SIDE,) * 2
    ends = [to_scaled(image["size"], DETAILS_SIDE) for image in (first, second)]
    to_other = np.linalg.inv(ends[1]) @ np.concatenate([matrix, [[0, 0, 1]]]) @ ends[0]
    here, there = (image["details"].astype(np.float32) for image in (first, second))
    zoom = np.sqrt(abs(np.linalg.det(to_other)))
    if zoom < 1:  # the second image is the coarser one: compare in its pixels
        here, there, to_other, zoom = there, here, np.linalg.inv(to_other), 1 / zoom
    if zoom > _BLURRED_ZOOM:
        there = cv2.GaussianBlur(there, (0, 0), 0.5 * zoom)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    there = cv2.warpAffine(there, to_other[:2], sides, flags=flags)
    inside = cv2.warpAffine(np.ones(sides, np.float32), to_other[:2], sides, flags=flags)
    inside = (inside > 0.99).astype(np.float32)
    here, there = here * inside, there * inside
    products = np.stack([inside, here, there, here * here, there * there, here * there])
    common, *sums = (_CELL_MEANS @ products @ _CELL_MEANS.T).reshape(len(products), -1)
    means = np.array(sums) / np.maximum(common, 1e-6)
    variances = means[2:4] - means[:2] ** 2
    has_detail = variances.max(0) > _LEAST_DETAIL**2
    shown = has_detail & (common >= _LEAST_COMMON)
    if not shown.any():
        return 1.0
    covariance = means[4] - means[0] * means[1]
    correlation = covariance / np.sqrt(np.maximum(variances[0] * variances[1], 1e-6))
    return float(np.median(correlation[shown]))


def to_scaled(size: np.ndarray, side: int) -> np.ndarray:
    """float64[3, 3]: from pixels of side x side to those of `size`; the centres of pixels are integers."""
    zoom = np.asarray(size, np.float64) / side
    return np.array([[zoom[0], 0, (zoom[0] - 1) / 2], [0, zoom[1], (zoom[1] - 1) / 2], [0, 0, 1]])


def centre_distance(matrix: np.ndarray, size: np.ndarray, other: np.ndarray) -> float:
    """Pixels between one image's mapped centre and the other's centre: the larger of both directions."""
    linear, centre, goal = matrix[:, :2], (size - 1) / 2, (other - 1) / 2
    there = goal - (linear @ centre + matrix[:, 2])
    return float(max(np.linalg.norm(there), np.linalg.norm(np.linalg.solve(linear, there))))


def common_fraction(matrix: np.ndarray, size: np.ndarray, other: np.ndarray) -> float:
    """The fraction in [0, 1] of the smaller image's mapped area that is in both."""
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
    mapped = (corners * size) @ matrix[:, :2].T + matrix[:, 2]
    outlines = (mapped.astype(np.float32), (corners * other).astype(np.float32))
    common, _ = opencv().intersectConvexConvex(*outlines)
    smaller = min(abs(np.linalg.det(matrix[:, :2])) * float(np.prod(size)), float(np.prod(other)))
    return min(1.0, common / smaller)


def align(first: np.ndarray, second: np.ndarray, matrix: np.ndarray, settings: Settings) -> list[np.ndarray]:
    """Four pictures uint8[h, w, 3]: first, second, second warped onto first, checkerboard of both.

    `matrix` maps the first image's scaled pixels to the second's.
    """
    first, second = scaled(first, settings), scaled(second, settings)
    height, width = first.shape[:2]
    warped = warp(second, matrix, (width, height))
    covered = warp(np.full(second.shape, 255, np.uint8), matrix, (width, height)) == 255
    y, x = np.mgrid[:height, :width]
    checker = (x * _TILES // width + y * _TILES // height) % 2 == 0
    return [first, second, warped, np.where(checker[..., None] | ~covered, first, warped)]


def warp(second: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The second image in the first one's frame, with `size` (width, height); grey outside the image."""
    cv2 = opencv()
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(second, matrix, size, flags=flags, borderValue=(128, 128, 128))
