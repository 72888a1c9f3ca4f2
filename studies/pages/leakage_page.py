"""The tables of docs/leakage.md: a random split beside all grouped folds of the same config."""

import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxnets.evaluation.cross_validation import concatenate
from jaxnets.evaluation.predictions import Predictions
from jaxnets.evaluation.statistics import calibration, compare_paired
from studies.pages import leak_table
from studies.pages.folds import read_predictions

HEADS = (
    *("network", "reported, random split", "random split: LEAKY", "five grouped folds"),
    *("drop on the same images, points [95 %]", "seeds"),
)
CALIBRATION_HEADS = (
    *("network", "random split: confidence", "accuracy", "calibration error"),
    *("grouped folds: confidence, accuracy", "calibration error"),
)


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row per config with a random split and all folds."""
    found = []
    for pair in _pairs(folder):
        title, reported, random, grouped, _, seeds = leak_table.format_pair(pair)
        drops = [_drop(*each) for each in _by_seed(folder, pair)]
        drop, low, high = (100 * statistics.fmean(values) for values in zip(*drops, strict=True))
        found.append((title, reported, random, grouped, f"{drop:.1f} [{low:.1f}, {high:.1f}]", seeds))
    return found


def calibration_rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns confidence, accuracy and expected calibration error of the first seed under both splits."""
    found = []
    for pair in _pairs(folder):
        random, grouped = next(_by_seed(folder, pair))
        confidence, accuracy, error = _calibration(grouped)
        found.append((pair.title, *_calibration(random), f"{confidence}, {accuracy}", error))
    return found


def _pairs(folder: Path) -> list[leak_table.Pair]:
    pairs = [pair for pair in leak_table.pairs(folder) if pair.random and pair.grouped]
    return [pair for pair in pairs if "cross_validation" in pair.grouped.first]


def _by_seed(folder: Path, pair: leak_table.Pair) -> Iterator[tuple[Predictions, Predictions]]:
    """Yields the predictions of the random split, and of all folds, by seed."""
    folds = {run["seed"]: run for run in pair.grouped.runs.values()}
    for name, run in pair.random.runs.items():
        if run["seed"] in folds:
            members = folds[run["seed"]]["cross_validation"]["runs"]
            grouped = concatenate([read_predictions(folder / member["name"]) for member in members])
            yield read_predictions(folder / name), grouped


def _drop(random: Predictions, grouped: Predictions) -> tuple[float, float, float]:
    """The difference in accuracy on the test images of the random split, and its interval by groups."""
    same = np.searchsorted(grouped.index, random.index)
    found = compare_paired(random.correct, grouped.correct[same], grouped.group[same])
    return found.difference, *found.interval


def _calibration(predictions: Predictions) -> tuple[str, str, str]:
    confidence = predictions.probabilities.max(axis=1).mean()
    error = calibration(predictions.probabilities, predictions.label).error
    return tuple(f"{100 * value:.1f} %" for value in (confidence, predictions.correct.mean(), error))
