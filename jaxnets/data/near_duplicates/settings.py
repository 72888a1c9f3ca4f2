"""What the search for near-duplicates is told: sizes, counts and thresholds."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """Chosen on LC25000's lung_aca alone; lengths are pixels of images of `side` x `side` pixels of area.

    On lung_aca the copies of an original have their centres at most 1.4 px apart and every other
    overlap at least 20; no two originals are tied by pairs of fewer than `overlap_inliers` alone. To hold
    every original against every other found no overlap that the words had not proposed.
    """

    side: int = 224
    keypoints: int = 300
    contrast: float = 0.01  # SIFT's threshold: low, so that pale tissue has its keypoints too

    # Candidates for copies: log-polar rings, directions, what is kept of the directions' spectrum.
    rings: int = 40
    angles: int = 128
    frequencies: int = 16
    ring_shifts: tuple[int, ...] = (-4, -2, 0, 2, 4)  # a ring is 9 % of zoom
    neighbours: int = 6
    neighbours_across: int = 2  # in other classes

    # Candidates for overlaps: images of each original, k-means centres, neighbours of each image in
    # its class (half as many in the others), and how many at least and in all where images are many.
    representatives: int = 2
    words: int = 2048
    overlap_neighbours: int = 100  # the thinnest overlap of lung_aca was the 25th
    overlap_least: int = 10
    overlap_budget: int = 300_000

    # The map: nearest over second-nearest distance, RANSAC's tolerance and rounds, greatest zoom.
    ratio: float = 0.9
    tolerance: float = 2.0
    iterations: int = 250
    stretch: float = 4.0

    # Conclusions: what is remembered, what makes an original, what joins two of them.
    evidence_inliers: int = 8
    original_inliers: int = 12
    original_centre: float = 5.0
    overlap_members: int = 6  # images of each of two originals that touch, all held together
    overlap_inliers: int = 12
    overlap_pairs: int = 2
