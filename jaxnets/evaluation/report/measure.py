"""The figures of a report, as they stand in metrics.json."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets.evaluation import statistics
from jaxnets.evaluation.class_metrics import NAMES, class_metrics, macro
from jaxnets.evaluation.predictions import Predictions

BINS = 15
"""Of the reliability diagram."""
RESAMPLES, RESAMPLES_OF_MANY, MANY_CLASSES = 999, 199, 50
"""Resamples behind an interval, and with more classes than `MANY_CLASSES`."""

Figures = dict[str, Any]


def measure(
    predictions: Predictions, classes: Sequence[str], validation: Predictions | None = None
) -> Figures:
    """What metrics.json says beside accuracy and loss: every class's metrics, their means, calibration.

    A metric is {"value", "interval"}, each None where it is not defined. Intervals, 95 %, resample groups
    where siblings are known; else every example counts by itself. The temperature is fitted on `validation`,
    the same network's answers to other examples, where there are any.
    """
    units = np.arange(len(predictions.label))
    if predictions.has_near_duplicates:
        units = predictions.group
    scores = class_metrics(predictions.label, predictions.probabilities)
    intervals = _intervals(predictions, units)
    counts = np.bincount(predictions.label, minlength=len(classes))
    of_class = [
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
        "classes": of_class,
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
    """The temperature, and the calibration error of `predictions` before and after it."""
    if validation is None:
        return None
    value = statistics.fit_temperature(validation.probabilities, validation.label)
    cooled = statistics.with_temperature(predictions.probabilities, value)
    errors = [
        statistics.calibration(shares, predictions.label, BINS).error
        for shares in (predictions.probabilities, cooled)
    ]
    return {
        "value": value,
        "fitted_on": f"{len(validation.label):,} validation examples",
        "expected_error_before": errors[0],
        "expected_error_after": errors[1],
    }


def _intervals(predictions: Predictions, units: np.ndarray) -> dict[str, Any]:
    """By metric the lower and the upper ends, two arrays [K]; those of the means as "macro", by metric."""
    label, message = predictions.label, predictions.predicted
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
        asked = {
            "precision": (message == k, label == k),
            "recall": (label == k, message == k),
            "specificity": (label != k, message != k),
        }
        for name, (among, right) in asked.items():
            if among.any():
                ends = _share_interval(right[among], units[among], predictions.has_near_duplicates)
                found[name][0][k], found[name][1][k] = ends
        _widen_f1(found["f1"], k, label, message, units)
    for name in ("roc_auc", "macro"):
        lower, upper = found[name]
        lower[lower == upper] = np.nan  # no spread says nothing
    return found


def _share_interval(
    right: np.ndarray, units: np.ndarray, has_near_duplicates: bool
) -> statistics.Interval:
    if has_near_duplicates:
        return statistics.group_interval(right.astype(float), units, resamples=RESAMPLES)
    return statistics.wilson_interval(int(right.sum()), len(right))


def _widen_f1(
    ends: tuple[np.ndarray, np.ndarray],
    k: int,
    label: np.ndarray,
    message: np.ndarray,
    units: np.ndarray,
) -> None:
    """Where a bootstrap sees all right or all wrong: Wilson's interval of what label and answer share, J.

    F1 is 2 J / (1 + J).
    """
    among = (label == k) | (message == k)
    if not among.any() or ends[0][k] != ends[1][k]:
        return
    if ends[0][k] not in (0, 1):  # one group: it says nothing of others
        ends[0][k] = np.nan
        return
    count = len(np.unique(units[among]))
    for end, shared in zip(
        ends, statistics.wilson_interval(int(ends[0][k]) * count, count), strict=True
    ):
        end[k] = 2 * shared / (1 + shared)


def _figure(value: float, interval: Sequence[float]) -> Figures:
    return {
        "value": None if np.isnan(value) else float(value),
        "interval": None
        if np.isnan([value, *interval]).any()
        else [float(end) for end in interval],
    }
