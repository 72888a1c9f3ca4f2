"""What each class's answers are worth, for all examples or for many resamples of them at once."""

from collections.abc import Mapping

import numpy as np

NAMES = ("precision", "recall", "specificity", "f1", "roc_auc")
"""Of one class against the rest; recall is sensitivity."""
_AT_A_TIME = 2_000_000
"""Numbers in an intermediate array: more examples, fewer resamples at a time."""


def class_metrics(
    label: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """`NAMES` of every class, float64[..., K]; NaN where one is not defined, as precision never told.

    `label` is int[N], `probabilities` float[N, K], and `weights` float[..., N] how often each example
    counts: a row a resample. Definitions are scikit-learn's; ROC-AUC is of one class against the rest.
    """
    count, classes = probabilities.shape
    rows = np.ones((1, count)) if weights is None else np.atleast_2d(weights)
    message = np.eye(classes)[probabilities.argmax(axis=1)]
    true = np.eye(classes)[label]
    hit = rows @ (message * true)
    positive, told_so, total = rows @ true, rows @ message, rows.sum(axis=1, keepdims=True)
    rejected = total - positive - told_so + hit
    scores = {
        "precision": _ratio(hit, told_so),
        "recall": _ratio(hit, positive),
        "specificity": _ratio(rejected, total - positive),
        "f1": _ratio(2 * hit, positive + told_so),
        "roc_auc": np.stack(
            [_roc_auc(label == k, probabilities[:, k], rows) for k in range(classes)], axis=1
        ),
    }
    return {name: values if weights is not None else values[0] for name, values in scores.items()}


def macro(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The mean over the classes, float64[...], of those where a metric is defined."""
    means = {}
    for name, values in scores.items():
        defined = ~np.isnan(values)
        means[name] = _ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))
    return means


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _roc_auc(positive: np.ndarray, share: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float64[R]: how often a positive has the larger share than a negative; ties count one half."""
    order = np.argsort(share, kind="stable")
    _, starts = np.unique(share[order], return_index=True)
    areas = []
    for some in np.array_split(rows, -(-rows.size // _AT_A_TIME)):
        weights = some[:, order]
        ups = np.add.reduceat(weights * positive[order], starts, axis=1)
        downs = np.add.reduceat(weights * ~positive[order], starts, axis=1)
        below = np.cumsum(downs, axis=1) - downs / 2
        areas.append(_ratio((ups * below).sum(axis=1), ups.sum(axis=1) * downs.sum(axis=1)))
    return np.concatenate(areas)
