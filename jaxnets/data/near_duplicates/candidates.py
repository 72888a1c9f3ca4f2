"""Candidate copies: nearest neighbours by spectrum."""

import numpy as np

from jaxnets.data.near_duplicates.settings import Settings


def nearest(spectra: np.ndarray, labels: np.ndarray, rows: np.ndarray, settings: Settings) -> np.ndarray:
    """Pairs int32[P, 2] of the images `rows` and their nearest neighbours, in their class and in the others.

    `spectra` is float32[N, rings, frequencies], `labels` the classes int[N]. Pairs are unique and have the
    smaller index first; an image is not paired with itself.
    """
    similarity = _similarity(spectra, rows, settings.ring_shifts)
    similarity[np.arange(len(rows)), rows] = -np.inf
    pairs = most_similar(similarity, rows, labels, settings.neighbours, settings.neighbours_across)
    return np.unique(np.sort(pairs, axis=1), axis=0)


def most_similar(
    similarity: np.ndarray, rows: np.ndarray, labels: np.ndarray, within: int, across: int
) -> np.ndarray:
    """int[P, 2]: pairs each of `rows` with its most similar columns of its own class and of the others.

    `similarity` is float[len(rows), N], -inf for excluded columns; `labels` are the classes int[N].
    """
    own = labels[None, :] == labels[rows][:, None]
    return np.concatenate(
        [
            _top(np.where(mask, similarity, -np.inf), rows, count)
            for mask, count in ((own, within), (~own, across))
        ]
    )


def _similarity(spectra: np.ndarray, rows: np.ndarray, shifts: tuple[int, ...]) -> np.ndarray:
    """float32[len(rows), N]: the largest cosine similarity over shifts of the rings."""
    rings = spectra.shape[1]
    best: np.ndarray | None = None
    for shift in shifts:
        here = spectra[rows, max(shift, 0) : rings + min(shift, 0)]
        there = spectra[:, max(-shift, 0) : rings + min(-shift, 0)]
        cosine = _normalize(here) @ _normalize(there).T
        best = cosine if best is None else np.maximum(best, cosine, out=best)
    assert best is not None
    return best


def _normalize(spectra: np.ndarray) -> np.ndarray:
    flat = spectra.reshape(len(spectra), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


def _top(similarity: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """int32[P, 2]: the `count` largest columns of each row, without those of -inf."""
    count = min(count, similarity.shape[1])
    if count == 0:
        return np.zeros((0, 2), np.int32)
    columns = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    finite = np.isfinite(np.take_along_axis(similarity, columns, axis=1))
    return np.stack([np.repeat(rows, count)[finite.ravel()], columns[finite]], 1).astype(np.int32)
