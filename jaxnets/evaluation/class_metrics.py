"""Per-class metrics, for all examples or for many bootstrap resamples of them at once."""

from collections.abc import Mapping

import numpy as np

NAMES = ("precision", "recall", "specificity", "f1", "roc_auc")
"""One class against the rest; recall is sensitivity."""
_MAX_ELEMENTS = 2_000_000
"""Size limit of an intermediate array, so that memory stays bounded."""


def class_metrics(
    label: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Each of `NAMES` by class, float64[..., K]; NaN where undefined (precision of a class never predicted).

    `label` is int[N] and `probabilities` float[N, K]. `weights`, float[..., N], is how often each example
    counts, one row per resample. Definitions are scikit-learn's; ROC-AUC is one-vs-rest.
    """
    count, classes = probabilities.shape
    rows = np.ones((1, count)) if weights is None else np.atleast_2d(weights)
    predicted = np.eye(classes)[probabilities.argmax(axis=1)]
    true = np.eye(classes)[label]
    hits = rows @ (predicted * true)
    positive, predicted_positive = rows @ true, rows @ predicted
    total = rows.sum(axis=1, keepdims=True)
    true_negative = total - positive - predicted_positive + hits
    scores = {
        "precision": _ratio(hits, predicted_positive),
        "recall": _ratio(hits, positive),
        "specificity": _ratio(true_negative, total - positive),
        "f1": _ratio(2 * hits, positive + predicted_positive),
        "roc_auc": np.stack(
            [_roc_auc(label == k, probabilities[:, k], rows) for k in range(classes)], axis=1
        ),
    }
    return {name: values if weights is not None else values[0] for name, values in scores.items()}


def macro(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The mean of each metric, float64[...], over the classes for which it is defined."""
    means = {}
    for name, values in scores.items():
        defined = ~np.isnan(values)
        means[name] = _ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))
    return means


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _roc_auc(positive: np.ndarray, score: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float64[R]: how often a positive scores higher than a negative; ties count one half."""
    order = np.argsort(score, kind="stable")
    _, starts = np.unique(score[order], return_index=True)
    areas = []
    for some in np.array_split(rows, -(-rows.size // _MAX_ELEMENTS)):
        weights = some[:, order]
        positives = np.add.reduceat(weights * positive[order], starts, axis=1)
        negatives = np.add.reduceat(weights * ~positive[order], starts, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives / 2
        product = positives.sum(axis=1) * negatives.sum(axis=1)
        areas.append(_ratio((positives * below).sum(axis=1), product))
    return np.concatenate(areas)
