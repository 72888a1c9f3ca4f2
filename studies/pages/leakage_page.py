"""Tables and picture of docs/leakage.md: a random split beside all grouped folds of the same config."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.evaluation.cross_validation import concatenate
from jaxnets.evaluation.predictions import Predictions, load_predictions
from jaxnets.evaluation.statistics import calibration, compare_paired, group_interval
from jaxnets.experiment.run_directory import read_result
from studies import learning_curve
from studies.colour_baseline import FOLDS, RANDOM60, predictions_path_of
from studies.pages import leak_table, splits_picture
from studies.pages.colour_table import BASELINE
from studies.pages.folds import read_predictions
from studies.pages.markdown import table_or_empty
from studies.sweeps import row_names

HEADS = (
    *("network", "reported, random split", "random split: LEAKY", "five grouped folds"),
    *("drop on the same images, points [95 %]", "seeds (their standard deviation)"),
)
CALIBRATION_HEADS = (
    *("network", "random split: confidence", "accuracy", "calibration error"),
    *("grouped folds: confidence, accuracy", "calibration error"),
)
COLOUR_HEADS = ("network", "accuracy", "difference from colour, points [95 %]", "p")
PLAN_HEADS = ("series", "seeds", "rows", "finished", "images/s", "hours")
SWEEP = Path(__file__).parents[2] / "configs" / "sweeps" / "lung_leakage.py"
COLOUR = "colour histogram, logistic regression"
PLANNED_HOURS = {
    "lung_efficientnet_lite0-224px-imagenet": 0.1,
    "lung_efficientnet_lite1-224px-imagenet": 0.2,
    "lung_efficientnet_lite2-224px-imagenet": 0.1,
    "lung_inception_v3-224px-imagenet": 0.1,
    "lung_efficientnet_lite0-224px-random-backbone": 0.2,
    "lung_resnet-128px-10epochs-bfloat16": 3.5,
    "lung_inception_v1-75px-10epochs": 1.0,
    "lung_densenet-75px-10epochs": 1.8,
    "lung_inception_v3-75px-10epochs": 1.5,
    "lung_inception_resnet_v2-75px-10epochs": 3.0,
    "lung_efficientnet_lite0-224px-finetuned": 3.0,
    "lung_inception_v3-224px-random-backbone": 1.0,
}
"""Estimated hours of the six rows of a series on two cores, from the images per second of its training."""


def sections(folder: Path) -> dict[str, Callable[[], str]]:
    """Returns the function that makes the text of each mark of the page."""
    return {
        "leakage": lambda: table_or_empty(HEADS, rows(folder)),
        "leakage_colour": lambda: table_or_empty(COLOUR_HEADS, colour_rows(folder)),
        "leakage_calibration": lambda: table_or_empty(CALIBRATION_HEADS, calibration_rows(folder)),
        "learning_curve": lambda: table_or_empty(learning_curve.HEADS, learning_curve.rows(folder)),
        "leakage_plan": lambda: table_or_empty(PLAN_HEADS, plan_rows(folder, SWEEP)),
    }


def pairs(folder: Path) -> list[leak_table.Pair]:
    """Returns the configs with a random split and all folds."""
    return [pair for pair in leak_table.pairs(folder) if pair.has_folds and pair.random and pair.grouped]


def drawn_data(folder: Path) -> dict[str, Any]:
    """Returns the data of the picture, as `splits_picture.drawn_data`."""
    return splits_picture.drawn_data(pairs(folder))


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row per config with a random split and all folds, then one of the colour histogram."""
    found = []
    for pair in pairs(folder):
        title, reported, random, grouped, *_ = leak_table.format_pair(pair)
        drops = [_drop(*each) for each in _by_seed(folder, pair)]
        drop = tuple(statistics.fmean(values) for values in zip(*drops, strict=True))
        assert pair.grouped is not None
        folds = grouped.removesuffix(", 5 folds")
        found.append((title, reported, random, folds, _points(*drop), _seeds(pair.grouped)))
    if (colour := _colour(folder)) is not None:
        texts = (_accuracy(each) for each in colour)
        found.append((COLOUR, "", *texts, _points(*_drop(*colour)), "1"))
    return found


def colour_rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns how each config's first seed differs from the colour histogram on all folds, best first."""
    if (colour := _colour(folder)) is None:
        return []
    found = []
    for pair in pairs(folder):
        _, grouped = next(_by_seed(folder, pair))
        compared = compare_paired(grouped.correct, colour[1].correct, grouped.group)
        difference = _points(compared.difference, *compared.interval, sign="+")
        row = (pair.title, _accuracy(grouped), difference, f"{compared.permutation_p:.2g}")
        found.append((grouped.correct.mean(), row))
    return [row for _, row in sorted(found, reverse=True)]


def calibration_rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns confidence, accuracy and expected calibration error of the first seed under both splits."""
    found = []
    for pair in pairs(folder):
        random, grouped = next(_by_seed(folder, pair))
        confidence, accuracy, error = _calibration(grouped)
        found.append((pair.title, *_calibration(random), f"{confidence}, {accuracy}", error))
    return found


def plan_rows(folder: Path, sweep: Path) -> list[tuple[str, ...]]:
    """Returns the series of the sweep in order, with their rows, how many are finished, speed and hours.

    The speed is the median of training, not shown for heads on stored features. The hours are those of the
    finished rows, times the number of rows, and of the features, which a series computes once; estimates are
    marked by "about". The last row has the sums.
    """
    series: dict[str, _Series] = {}
    for name in row_names(sweep):
        stem, _, seed = name.rpartition("-s")
        stem = stem.rpartition("-")[0]
        of = series.setdefault(stem, _Series(PLANNED_HOURS.get(stem, 0.0)))
        of.seeds.add(seed)
        of.rows += 1
        if (result := read_result(folder / name)) is not None:
            of.results.append(result)
    rows_and_finished = (
        sum(of.rows for of in series.values()),
        sum(len(of.results) for of in series.values()),
    )
    total = f"about {sum(of.hours for of in series.values()):.0f}"
    return [
        *((f"`{name}`", *of.cells()) for name, of in series.items()),
        ("all", "", *map(str, rows_and_finished), "", total),
    ]


@dataclasses.dataclass
class _Series:
    """The rows of a sweep that differ in split and seed; `estimate` has the hours of one seed."""

    estimate: float
    seeds: set[str] = dataclasses.field(default_factory=set)
    rows: int = 0
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def hours(self) -> float:
        if not self.results:
            return self.estimate * len(self.seeds)
        features = max(run.get("features_seconds") or 0.0 for run in self.results)
        return (statistics.fmean(run["seconds"] for run in self.results) * self.rows + features) / 3600

    def cells(self) -> tuple[str, ...]:
        speeds = [
            run["images_per_second"]
            for run in self.results
            if not run.get("on_cached_features") and run["images_per_second"] is not None
        ]
        speed = f"{statistics.median(speeds):.0f}" if speeds else ""
        hours = f"{self.hours:.1f}" if self.results else f"about {self.hours:g}"
        return str(len(self.seeds)), str(self.rows), str(len(self.results)), speed, hours


def _by_seed(folder: Path, pair: leak_table.Pair) -> Iterator[tuple[Predictions, Predictions]]:
    """Yields the predictions of the random split, and of all folds, by seed."""
    assert pair.random is not None
    assert pair.grouped is not None
    folds = {run["seed"]: run for run in pair.grouped.runs.values()}
    for name, run in pair.random.runs.items():
        if run["seed"] in folds:
            members = folds[run["seed"]]["cross_validation"]["runs"]
            grouped = concatenate([read_predictions(folder / member["name"]) for member in members])
            yield read_predictions(folder / name), grouped


def _colour(folder: Path) -> tuple[Predictions, Predictions] | None:
    """The predictions of the colour baseline for the random split and all folds; None if not stored."""
    random, folds = (predictions_path_of(folder / BASELINE, name) for name in (RANDOM60, FOLDS))
    if not (random.is_file() and folds.is_file()):
        return None
    return load_predictions(random), load_predictions(folds)


def _drop(random: Predictions, grouped: Predictions) -> tuple[float, float, float]:
    """The difference in accuracy on the test images of the random split, and its interval by groups."""
    same = np.searchsorted(grouped.index, random.index)
    found = compare_paired(random.correct, grouped.correct[same], grouped.group[same])
    return found.difference, *found.interval


def _calibration(predictions: Predictions) -> tuple[str, str, str]:
    confidence = predictions.probabilities.max(axis=1).mean()
    error = calibration(predictions.probabilities, predictions.label).error
    confident, accurate, wrong = (
        f"{100 * value:.1f} %" for value in (confidence, predictions.correct.mean(), error)
    )
    return confident, accurate, wrong


def _accuracy(predictions: Predictions) -> str:
    low, high = group_interval(predictions.correct, predictions.group)
    return f"{100 * predictions.correct.mean():.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _points(difference: float, low: float, high: float, *, sign: str = "") -> str:
    return f"{100 * difference:{sign}.1f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def _seeds(group: leak_table.Group) -> str:
    accuracies = group.accuracies(leak_table.CLEAN)
    if len(accuracies) == 1:
        return "1"
    return f"{len(accuracies)} ({statistics.stdev(accuracies):.2f})"
