"""The metrics of a report, per class and with intervals, as metrics.json stores them."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets.evaluation import statistics
from jaxnets.evaluation.predictions import Predictions

NAMES = ("precision", "recall", "specificity", "f1", "roc_auc")
"""One class against the rest; recall is sensitivity."""
BINS = 15  # bins of the reliability diagram
RESAMPLES, RESAMPLES_OF_MANY, MANY_CLASSES = 999, 199, 50
"""Number of resamples, and the same for more classes than `MANY_CLASSES`."""


def measure(
    predictions: Predictions, classes: Sequence[str], validation: Predictions | None = None
) -> dict[str, Any]:
    """The content of metrics.json besides accuracy and loss: per-class metrics, their means, calibration.

    A metric is {"value", "interval"}, each None if undefined. The 95 % intervals resample groups if there are
    near-duplicates, else examples. The temperature is fitted on `validation`, predictions of the same
    network, if given; it is None if all of these are right.
    """
    label, probabilities = predictions.label, predictions.probabilities
    units = predictions.units
    values = class_metrics(label, probabilities, np.ones((1, len(label))))[0]
    ends = _intervals(predictions, units)
    figures = [
        {name: _figure(values[i, k], ends[i, k]) for i, name in enumerate(NAMES)}
        for k in range(values.shape[1])
    ]
    examples = np.bincount(label, minlength=len(classes)).tolist()
    calibration = statistics.calibration(probabilities, label, BINS)
    return {
        "classes": [
            {"name": name, "examples": count, **figure}
            for name, count, figure in zip(classes, examples, figures[:-1], strict=True)
        ],
        "macro": figures[-1],
        "groups": len(np.unique(units)) if predictions.groups_known else None,
        "has_near_duplicates": predictions.has_near_duplicates,
        "calibration": {
            "expected_error": calibration.error,
            "bins": BINS,
            "confidence": calibration.confidence.tolist(),
            "accuracy": calibration.accuracy.tolist(),
            "count": calibration.count.tolist(),
            "temperature": _temperature(predictions, validation, calibration.error) if validation else None,
        },
    }


def _figure(value: float, ends: np.ndarray) -> dict[str, Any]:
    undefined = np.isnan(value)
    return {
        "value": None if undefined else float(value),
        "interval": None if undefined or np.isnan(ends).any() else ends.tolist(),
    }


def _temperature(predictions: Predictions, validation: Predictions, before: float) -> dict[str, Any] | None:
    """The temperature, and the calibration error of `predictions` before and after scaling."""
    value = validation.fit_temperature()
    if value is None:
        return None
    scaled = statistics.with_temperature(predictions.probabilities, value)
    return {
        "value": value,
        "fitted_on": f"{len(validation.label):,} validation examples",
        "expected_error_before": before,
        "expected_error_after": statistics.calibration(scaled, predictions.label, BINS).error,
    }


def _intervals(predictions: Predictions, units: np.ndarray) -> np.ndarray:
    """The ends of the intervals of `class_metrics`, float64[metric, K + 1, 2]; NaN where undefined."""
    label, predicted, probabilities = predictions.label, predictions.predicted, predictions.probabilities
    classes = probabilities.shape[1]
    ends = np.stack(
        statistics.metric_intervals(
            functools.partial(class_metrics, label, probabilities),
            units,
            resamples=RESAMPLES if classes <= MANY_CLASSES else RESAMPLES_OF_MANY,
        ),
        axis=-1,
    )
    by_name = dict(zip(NAMES, ends, strict=True))
    for k in range(classes):
        proportions = {
            "precision": (predicted == k, label == k),
            "recall": (label == k, predicted == k),
            "specificity": (label != k, predicted != k),
        }
        for name, (among, right) in proportions.items():
            values = right[among].astype(float)
            if len(values) and predictions.has_dependent_examples:
                by_name[name][k] = statistics.group_interval(values, units[among])
            elif len(values):
                by_name[name][k] = statistics.wilson_interval(int(values.sum()), len(values))
        f1_units = units[(label == k) | (predicted == k)]
        by_name["f1"][k] = _f1_interval(by_name["f1"][k], len(np.unique(f1_units)))
    for bootstrapped in (by_name["roc_auc"], ends[:, -1]):
        bootstrapped[bootstrapped[:, 0] == bootstrapped[:, 1]] = np.nan  # the bootstrap is degenerate
    return ends


def _f1_interval(ends: np.ndarray, units: int) -> np.ndarray:
    """Replaces a degenerate bootstrap interval of F1 by one derived from Wilson's interval of J.

    J is the Jaccard index of label and prediction, whose union has `units` units; F1 = 2 J / (1 + J).
    """
    low, high = ends
    if low != high:
        return ends
    if low not in (0, 1):  # a single group
        return np.array([np.nan, high])
    jaccard = np.array(statistics.wilson_interval(int(low) * units, units))
    return 2 * jaccard / (1 + jaccard)


def class_metrics(label: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each of `NAMES` by class, and its mean over classes where it is defined: float64[R, metric, K + 1].

    `label` is int[N] and `probabilities` float[N, K]. `weights`, float[R, N], is how often each example
    counts in each of R resamples. Definitions are scikit-learn's, ROC-AUC is one-vs-rest, and what is
    undefined (precision of a class never predicted) is NaN.
    """
    classes = probabilities.shape[1]
    predicted = np.eye(classes)[probabilities.argmax(axis=1)]
    true = np.eye(classes)[label]
    hits = weights @ (predicted * true)
    positive, predicted_positive = weights @ true, weights @ predicted
    total = weights.sum(axis=1, keepdims=True)
    areas = [_roc_auc(label == k, probabilities[:, k], weights) for k in range(classes)]
    values = np.stack(
        [
            _ratio(hits, predicted_positive),
            _ratio(hits, positive),
            _ratio(total - positive - predicted_positive + hits, total - positive),
            _ratio(2 * hits, positive + predicted_positive),
            np.stack(areas, axis=1),
        ],
        axis=1,
    )
    defined = ~np.isnan(values)
    means = _ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))
    return np.concatenate([values, means[..., None]], axis=-1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _roc_auc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64[R]: how often a positive scores higher than a negative; ties count one half."""
    order = np.argsort(score, kind="stable")
    _, starts = np.unique(score[order], return_index=True)
    positives = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    negatives = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return _ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))
