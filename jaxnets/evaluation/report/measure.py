"""The metrics of a report, as metrics.json stores them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets.evaluation import statistics
from jaxnets.evaluation.class_metrics import NAMES, class_metrics, macro
from jaxnets.evaluation.predictions import Predictions

BINS = 15
"""Bins of the reliability diagram."""
RESAMPLES, RESAMPLES_OF_MANY, MANY_CLASSES = 999, 199, 50
"""Number of resamples, and the same for more classes than `MANY_CLASSES`."""

Figures = dict[str, Any]


def measure(
    predictions: Predictions, classes: Sequence[str], validation: Predictions | None = None
) -> Figures:
    """The content of metrics.json besides accuracy and loss: per-class metrics, their means, calibration.

    A metric is {"value", "interval"}, each None if undefined. The 95 % intervals resample groups if there are
    near-duplicates, else examples. The temperature is fitted on `validation`, predictions of the same
    network, if given.
    """
    units = np.arange(len(predictions.label))
    if predictions.has_near_duplicates:
        units = predictions.group
    scores = class_metrics(predictions.label, predictions.probabilities)
    intervals = _intervals(predictions, units)
    counts = np.bincount(predictions.label, minlength=len(classes))
    per_class = [
        {
            "name": name,
            "examples": int(counts[k]),
            **{
                metric: _figure(scores[metric][k], [ends[k] for ends in intervals[metric]])
                for metric in NAMES
            },
        }
        for k, name in enumerate(classes)
    ]
    means, mean_intervals = macro(scores), intervals["macro"]
    calibration = statistics.calibration(predictions.probabilities, predictions.label, BINS)
    return {
        "classes": per_class,
        "macro": {
            name: _figure(float(means[name]), [ends[i] for ends in mean_intervals])
            for i, name in enumerate(NAMES)
        },
        "groups": len(np.unique(units)) if predictions.groups_known else None,
        "has_near_duplicates": predictions.has_near_duplicates,
        "calibration": {
            "expected_error": calibration.error,
            "bins": BINS,
            "confidence": calibration.confidence.tolist(),
            "accuracy": calibration.accuracy.tolist(),
            "count": calibration.count.tolist(),
            "temperature": _temperature(predictions, validation),
        },
    }


def _temperature(predictions: Predictions, validation: Predictions | None) -> Figures | None:
    """The temperature, and the calibration error of `predictions` before and after scaling."""
    if validation is None:
        return None
    value = statistics.fit_temperature(validation.probabilities, validation.label)
    scaled = statistics.with_temperature(predictions.probabilities, value)
    errors = [
        statistics.calibration(probabilities, predictions.label, BINS).error
        for probabilities in (predictions.probabilities, scaled)
    ]
    return {
        "value": value,
        "fitted_on": f"{len(validation.label):,} validation examples",
        "expected_error_before": errors[0],
        "expected_error_after": errors[1],
    }


def _intervals(predictions: Predictions, units: np.ndarray) -> dict[str, Any]:
    """For each metric the ends (low [K], high [K]); "macro" has those of the means, one per metric."""
    label, predicted = predictions.label, predictions.predicted
    classes = predictions.probabilities.shape[1]
    resamples = RESAMPLES if classes <= MANY_CLASSES else RESAMPLES_OF_MANY

    def metrics(weights: np.ndarray) -> np.ndarray:
        scores = class_metrics(label, predictions.probabilities, weights)
        means = macro(scores)
        return np.stack(
            [np.column_stack([scores[name], means[name]]) for name in NAMES], axis=1
        )  # [R, metric, K + 1]

    low, high = statistics.metric_intervals(metrics, units, resamples=resamples)
    found: dict[str, Any] = {name: (low[i, :-1], high[i, :-1]) for i, name in enumerate(NAMES)}
    found["macro"] = (low[:, -1], high[:, -1])
    for k in range(classes):
        proportions = {
            "precision": (predicted == k, label == k),
            "recall": (label == k, predicted == k),
            "specificity": (label != k, predicted != k),
        }
        for name, (among, right) in proportions.items():
            if among.any():
                ends = _proportion_interval(right[among], units[among], predictions.has_near_duplicates)
                found[name][0][k], found[name][1][k] = ends
        _fix_degenerate_f1(found["f1"], k, label, predicted, units)
    for name in ("roc_auc", "macro"):
        lower, upper = found[name]
        lower[lower == upper] = np.nan  # the bootstrap is degenerate
    return found


def _proportion_interval(
    right: np.ndarray, units: np.ndarray, has_near_duplicates: bool
) -> statistics.Interval:
    if has_near_duplicates:
        return statistics.group_interval(right.astype(float), units, resamples=RESAMPLES)
    return statistics.wilson_interval(int(right.sum()), len(right))


def _fix_degenerate_f1(
    ends: tuple[np.ndarray, np.ndarray],
    k: int,
    label: np.ndarray,
    predicted: np.ndarray,
    units: np.ndarray,
) -> None:
    """Replaces a degenerate bootstrap interval of F1 by one derived from Wilson's interval of J.

    J is the Jaccard index of label and prediction; F1 = 2 J / (1 + J).
    """
    among = (label == k) | (predicted == k)
    if not among.any() or ends[0][k] != ends[1][k]:
        return
    if ends[0][k] not in (0, 1):  # a single group
        ends[0][k] = np.nan
        return
    count = len(np.unique(units[among]))
    jaccard = statistics.wilson_interval(int(ends[0][k]) * count, count)
    for end, value in zip(ends, jaccard, strict=True):
        end[k] = 2 * value / (1 + value)


def _figure(value: float, interval: Sequence[float]) -> Figures:
    return {
        "value": None if np.isnan(value) else float(value),
        "interval": None if np.isnan([value, *interval]).any() else [float(end) for end in interval],
    }
