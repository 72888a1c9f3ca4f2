"""What the search for near-duplicates is told: sizes, counts and thresholds."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """Lengths are pixels of images scaled to `side` x `side` pixels of area."""

    side: int = 224
    keypoints: int = 300
    contrast: float = 0.01

    rings: int = 40
    angles: int = 128
    frequencies: int = 16
    ring_shifts: tuple[int, ...] = (-4, -2, 0, 2, 4)
    neighbours: int = 6
    neighbours_across: int = 2

    ratio: float = 0.9
    tolerance: float = 2.0
    iterations: int = 250
    stretch: float = 4.0

    evidence_inliers: int = 8
    original_inliers: int = 12
    original_centre: float = 5.0

    representatives: int = 2
    words: int = 2048
    overlap_neighbours: int = 20
    overlap_members: int = 6
    overlap_inliers: int = 12
    overlap_pairs: int = 2
