"""Settings of the search for near-duplicates."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """Chosen on LC25000's lung_aca; lengths are pixels of images with an area of `side` x `side` pixels.

    On lung_aca, centres of copies are at most 1.4 px apart, those of other overlaps at least 20. No two
    originals are linked only by pairs with fewer than `overlap_inliers`. An exhaustive comparison of all
    originals found no overlap that the visual words had missed.
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
