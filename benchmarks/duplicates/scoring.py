"""Scores the finders' outputs on every set, with thresholds chosen on one class of LC25000."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.duplicates import leakage, metrics
from benchmarks.duplicates.finders import FINDERS, OURS
from benchmarks.duplicates.image_sets import (
    CONTROLS,
    COPIES_TRUTH,
    HUMAN,
    LUNG,
    ORIGINALS,
    TUNING_CLASS,
    ImageSet,
)
from benchmarks.duplicates.leakage import NearestNeighbour
from benchmarks.duplicates.metrics import PairCounts
from benchmarks.duplicates.running import Run, load_output, output_path
from benchmarks.duplicates.scored_pairs import ScoredPairs
from jaxnets.runtime import console

OUR_ROWS = {f"{OURS}_originals": 0, f"{OURS}_groups": 1}
"""The two groupings of our search by row name."""
DEFAULT, TUNED = "default", "tuned"
RANDOM_SPLIT = "random split"


@dataclasses.dataclass(frozen=True)
class Found:
    """What a row found in a set: scored pairs, or groups int[N]; `default` is the threshold of pairs."""

    output: ScoredPairs | np.ndarray
    default: float | None = None

    def pairs(self, threshold: float | None) -> ScoredPairs:
        """Returns the pairs with at least this score."""
        assert isinstance(self.output, ScoredPairs)
        selected = self.output.score >= (np.inf if threshold is None else threshold)
        return ScoredPairs(*(values[selected] for values in self.output))

    def groups(self, threshold: float | None, count: int) -> np.ndarray:
        """Returns groups int[count]."""
        if isinstance(self.output, ScoredPairs):
            return metrics.components(self.output, count, np.inf if threshold is None else threshold)
        return self.output

    def count(self, threshold: float | None, truth: np.ndarray) -> PairCounts:
        """Counts the reported pairs by true groups int[N]."""
        if isinstance(self.output, ScoredPairs):
            return metrics.count_pairs(self.pairs(threshold), truth)
        return metrics.count_group_pairs(self.output, truth)

    def restricted(self, selected: np.ndarray) -> "Found":
        """Returns what was found among the images bool[N], which are numbered again."""
        if not isinstance(self.output, ScoredPairs):
            return Found(np.unique(self.output[selected], return_inverse=True)[1])
        first, second, score = self.output
        both = selected[first] & selected[second]
        number = np.cumsum(selected) - 1
        return Found(ScoredPairs(number[first[both]], number[second[both]], score[both]), self.default)


def load(
    image_sets: Mapping[str, ImageSet], runs: Mapping[str, Mapping[str, Run]], folder: Path
) -> dict[str, dict[str, Found]]:
    """Reads all outputs: what was found by row name and set."""
    found: dict[str, dict[str, Found]] = {}
    for finder, by_set in runs.items():
        for name, run in by_set.items():
            if run.failed is not None:
                continue
            output = load_output(output_path(finder, image_sets[name], folder))
            if isinstance(output, ScoredPairs):
                found.setdefault(finder, {})[name] = Found(output, FINDERS[finder].default)
            else:
                for row, level in OUR_ROWS.items() if finder == OURS else ((finder, 0),):
                    found.setdefault(row, {})[name] = Found(output[level])
    return found


def thresholds(found: Found, image_set: ImageSet) -> dict[str, dict[str, float | None]]:
    """Returns the thresholds of a finder of pairs: its default, and the best ones on the tuning class.

    The best one for pairs has the best F1, that for groups the best adjusted Rand index of the connected
    components. A finder of groups has none.
    """
    if not isinstance(found.output, ScoredPairs):
        return {DEFAULT: {"pairs": None, "groups": None}}
    selected = image_set.classes == TUNING_CLASS
    truth = np.unique(image_set.truths[HUMAN][selected], return_inverse=True)[1]
    pairs = found.restricted(selected).output
    assert isinstance(pairs, ScoredPairs)
    tuned: dict[str, float | None] = {
        "pairs": metrics.best_pair_threshold(pairs, truth),
        "groups": metrics.best_group_threshold(pairs, truth),
    }
    if found.default is None:
        return {TUNED: tuned}
    return {DEFAULT: {"pairs": found.default, "groups": found.default}, TUNED: tuned}


def score(
    found: Found, image_set: ImageSet, chosen: Mapping[str, Mapping[str, float | None]]
) -> dict[str, Any]:
    """Returns the measures of a row on a set by truth; of LC25000 without the tuning class."""
    if image_set.name in CONTROLS:
        return {COPIES_TRUTH: _score_truth(found, image_set.truths[COPIES_TRUTH], chosen, intervals=False)}
    selected = np.full(len(image_set), True)
    if image_set.name == LUNG:
        selected = image_set.classes != TUNING_CLASS
    part = found.restricted(selected)
    scored = {}
    for name, groups in image_set.truths.items():
        truth = np.unique(groups[selected], return_inverse=True)[1]
        scored[name] = _score_truth(part, truth, chosen, intervals=True)
    if image_set.name == LUNG:
        scored["disputed"] = _disputed(part, image_set, selected, chosen)
    return scored


def _score_truth(
    found: Found, truth: np.ndarray, chosen: Mapping[str, Mapping[str, float | None]], *, intervals: bool
) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    for setting, threshold in chosen.items():
        counts = found.count(threshold["pairs"], truth)
        groups = found.groups(threshold["groups"], len(truth))
        measured[setting] = {
            "pairs": counts.measures(),
            "groups": metrics.group_measures(groups, truth),
            **({"intervals": counts.intervals()} if intervals else {}),
        }
    if isinstance(found.output, ScoredPairs) and truth.max() + 1 < len(truth):
        precision, recall, _ = metrics.precision_recall(found.output, truth)
        measured["average_precision"] = metrics.average_precision(precision, recall)
        measured["curve"] = metrics.curve(precision, recall)
    return measured


def _disputed(
    found: Found, image_set: ImageSet, selected: np.ndarray, chosen: Mapping[str, Mapping[str, float | None]]
) -> dict[str, dict[str, list[int]]]:
    """Returns how many of the pairs that only one truth joins are reported, and how many there are."""
    human, ours = (image_set.truths[name][selected] for name in (HUMAN, ORIGINALS))
    both = human.astype(np.int64) * (ours.max() + 1) + ours
    counted: dict[str, dict[str, list[int]]] = {}
    for setting, threshold in chosen.items():
        right = []
        for groups in (human, ours, both):
            truth = np.unique(groups, return_inverse=True)[1]
            counts = found.count(threshold["pairs"], truth)
            right.append(np.array([counts.found.diagonal().sum(), counts.true.sum()]))
        names = ("human clusters only", "our originals only")
        counted[setting] = {
            name: (each - right[2]).tolist() for name, each in zip(names, right[:2], strict=True)
        }
    return counted


def across_classes(found: Found, image_set: ImageSet, threshold: float | None) -> int:
    """Returns the number of reported pairs of images of different classes."""
    classes = np.unique(image_set.classes, return_inverse=True)[1]
    counts = found.count(threshold, classes)
    return int(counts.found.sum() - counts.found.diagonal().sum())


def splits(
    found: Mapping[str, Mapping[str, Found]],
    chosen: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    image_sets: Sequence[ImageSet],
) -> dict[str, Any]:
    """Returns `leakage.measure_split` by set and row, with a random split and the truths for comparison."""
    measured: dict[str, Any] = {}
    for image_set in image_sets:
        classifier: NearestNeighbour | None = None
        if image_set.name == LUNG:
            classifier = leakage.nearest_neighbour(image_set)
        labels = np.unique(image_set.classes, return_inverse=True)[1]
        groupings = {RANDOM_SPLIT: np.arange(len(image_set)), **image_set.truths}
        for row, by_set in found.items():
            if image_set.name in by_set:
                setting = TUNED if TUNED in chosen[row] else DEFAULT
                threshold = chosen[row][setting]["groups"]
                groupings[row] = by_set[image_set.name].groups(threshold, len(image_set))
        with console.phase("split") as phase, console.counter("split") as progress:
            rows = measured.setdefault(image_set.name, {})
            for number, (row, groups) in enumerate(groupings.items()):
                rows[row] = leakage.measure_split(groups, labels, image_set.truths, classifier)
                progress(number + 1, len(groupings))
            phase.text = f"{image_set.name}: {len(groupings)} groupings, {leakage.SEEDS} seeds"
    return measured
