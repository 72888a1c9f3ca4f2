"""Comparison of a grouping with clusters checked by people."""

import dataclasses

import numpy as np
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import pair_confusion_matrix


@dataclasses.dataclass(frozen=True)
class Score:
    """Precision and recall over pairs of images, and the adjusted Rand index."""

    precision: float
    recall: float
    adjusted_rand: float


def score(ours: np.ndarray, theirs: np.ndarray) -> Score:
    """Compares two labellings int[N] of the same images."""
    (_, only_ours), (only_theirs, both) = pair_confusion_matrix(theirs, ours)
    return Score(
        float(both / (both + only_ours)),
        float(both / (both + only_theirs)),
        float(adjusted_rand_score(theirs, ours)),
    )


def differences(ours: np.ndarray, theirs: np.ndarray) -> list[tuple[set[int], set[int]]]:
    """Returns the disagreements: connected sets of (our labels, their labels).

    Clusters that agree, one of our labels for one of theirs, are omitted.
    """
    pairs = {(int(a), int(b)) for a, b in zip(ours, theirs, strict=True)}
    components: list[tuple[set[int], set[int]]] = []
    for here, there in pairs:
        touched = [t for t in components if here in t[0] or there in t[1]]
        merged = ({here}.union(*(t[0] for t in touched)), {there}.union(*(t[1] for t in touched)))
        components = [t for t in components if t not in touched] + [merged]
    return sorted((t for t in components if len(t[0]) > 1 or len(t[1]) > 1), key=lambda t: min(t[0]))
