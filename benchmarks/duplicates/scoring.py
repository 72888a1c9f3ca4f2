"""Scores the finders' outputs on every set, with settings and thresholds chosen on one class of LC25000."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score

from benchmarks.duplicates import image_sets, leakage, metrics
from benchmarks.duplicates.finders import OURS, Finder
from benchmarks.duplicates.image_sets import CONTROLS, HUMAN, LUNG, ORIGINALS, TUNING_CLASS, ImageSet
from benchmarks.duplicates.leakage import NearestNeighbour
from benchmarks.duplicates.metrics import Best, PairCounts
from benchmarks.duplicates.running import Run, load_output
from benchmarks.duplicates.scored_pairs import ScoredPairs
from jaxnets.runtime import console

OUR_ROWS = {f"{OURS}_originals": 0, f"{OURS}_groups": 1}
"""The two groupings of our search by row name."""
DEFAULT, TUNED = "default", "tuned"
PAIRS, GROUPS = "pairs", "groups"
RANDOM_SPLIT = "random split"
FAILED = "failed"


def rows_of(finder: str) -> tuple[str, ...]:
    """Returns the rows of a finder."""
    return tuple(OUR_ROWS) if finder == OURS else (finder,)


def finder_of(row: str) -> str:
    """Returns the finder of a row."""
    return OURS if row in OUR_ROWS else row


@dataclasses.dataclass(frozen=True)
class Choice:
    """How a finder is used: its setting, and the smallest score of a pair; None for a finder of groups."""

    setting: str
    threshold: float | None = None


Choices = Mapping[str, Mapping[str, Choice]]
"""Choices by `DEFAULT` or `TUNED`, then by what is measured, `PAIRS` or `GROUPS`."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What a finder found in a set: scored pairs, or groups int[N]."""

    output: ScoredPairs | np.ndarray

    def groups(self, threshold: float | None, count: int) -> np.ndarray:
        """Returns groups int[count]; those of pairs are connected components."""
        if isinstance(self.output, ScoredPairs):
            return metrics.components(self.output, count, np.inf if threshold is None else threshold)
        return self.output

    def count(self, threshold: float | None, truth: np.ndarray) -> PairCounts:
        """Counts the reported pairs, with at least this score, by true groups int[N]."""
        if not isinstance(self.output, ScoredPairs):
            return metrics.count_group_pairs(self.output, truth)
        selected = self.output.score >= (np.inf if threshold is None else threshold)
        return metrics.count_pairs(ScoredPairs(*(values[selected] for values in self.output)), truth)

    def best(self, truth: np.ndarray) -> dict[str, Best]:
        """Returns the best F1 of pairs and the best adjusted Rand index of groups over all thresholds."""
        if isinstance(self.output, ScoredPairs):
            return {
                PAIRS: metrics.best_pair_threshold(self.output, truth),
                GROUPS: metrics.best_group_threshold(self.output, truth),
            }
        f1 = metrics.count_group_pairs(self.output, truth).measures()["f1"]
        return {PAIRS: Best(f1, None), GROUPS: Best(float(adjusted_rand_score(truth, self.output)), None)}

    def restricted(self, selected: np.ndarray) -> "Found":
        """Returns what was found among the images bool[N], which are numbered again."""
        if not isinstance(self.output, ScoredPairs):
            return Found(np.unique(self.output[selected], return_inverse=True)[1])
        first, second, score = self.output
        both = selected[first] & selected[second]
        number = np.cumsum(selected) - 1
        return Found(ScoredPairs(number[first[both]], number[second[both]], score[both]))


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What all runs found.

    Attributes:
      runs: By finder, setting and set.
      paths: The files of the outputs, by the same keys.
    """

    runs: dict[str, dict[str, dict[str, Run]]]
    paths: dict[tuple[str, str, str], Path]

    def read(self, row: str, setting: str, image_set: str) -> Found | str:
        """Returns what was found, or the reason if the finder failed."""
        finder = finder_of(row)
        if (failed := self.runs[finder][setting][image_set].failed) is not None:
            return failed
        output = load_output(self.paths[finder, setting, image_set])
        return Found(output if isinstance(output, ScoredPairs) else output[OUR_ROWS.get(row, 0)])


def choose(finder: Finder, found: Mapping[str, Found], image_set: ImageSet) -> Choices:
    """Chooses how a finder is used: by default, and the best on the tuning images.

    The best setting and threshold for pairs have the best F1, those for groups the best adjusted Rand index
    of the connected components; of equal ones the first setting is chosen. Our search, and others that have
    one setting and report groups, have only their default.

    Args:
      finder: The finder.
      found: What it found in the tuning images by setting, without those that failed.
      image_set: The tuning images.
    """
    groups_default = finder.default if finder.default_groups is None else finder.default_groups
    default = {PAIRS: Choice(finder.setting, finder.default), GROUPS: Choice(finder.setting, groups_default)}
    reports_pairs = any(isinstance(each.output, ScoredPairs) for each in found.values())
    choices: dict[str, Mapping[str, Choice]] = {}
    if not reports_pairs or finder.default is not None:
        choices[DEFAULT] = default
    if found and (reports_pairs or finder.settings):
        best = {setting: each.best(image_set.truths[HUMAN]) for setting, each in found.items()}
        choices[TUNED] = {}
        for what in (PAIRS, GROUPS):
            setting = max(best, key=lambda each: best[each][what].value)
            choices[TUNED][what] = Choice(setting, best[setting][what].threshold)
    return choices


def score(row: str, outputs: Outputs, image_set: ImageSet, choices: Choices) -> dict[str, Any]:
    """Returns the measures of a row on a set by truth and choice; of LC25000 without the tuning class.

    A choice whose run failed has only `FAILED`, the reason.
    """
    selected = np.full(len(image_set), True)
    if image_set.name == LUNG:
        selected = image_set.classes != TUNING_CLASS
    scored: dict[str, Any] = {name: {} for name in image_set.truths}
    if image_set.name == LUNG:
        scored |= {"disputed": {}, "across_classes": {}}
    for label, choice in choices.items():
        pairs = outputs.read(row, choice[PAIRS].setting, image_set.name)
        groups = outputs.read(row, choice[GROUPS].setting, image_set.name)
        if isinstance(pairs, str) or isinstance(groups, str):
            for measured in scored.values():
                measured[label] = {FAILED: pairs if isinstance(pairs, str) else groups}
            continue
        if image_set.name == LUNG:
            scored["across_classes"][label] = across_classes(pairs, image_set, choice[PAIRS].threshold)
            pairs, groups = pairs.restricted(selected), groups.restricted(selected)
            scored["disputed"][label] = _disputed(pairs, image_set, selected, choice[PAIRS].threshold)
        for name in image_set.truths:
            truth = np.unique(image_set.truths[name][selected], return_inverse=True)[1]
            counts = pairs.count(choice[PAIRS].threshold, truth)
            joined = groups.groups(choice[GROUPS].threshold, len(truth))
            scored[name][label] = {
                "pairs": counts.measures(),
                "groups": metrics.group_measures(joined, truth),
            }
            if image_set.name not in CONTROLS:
                scored[name][label]["intervals"] = counts.intervals()
                scored[name][label] |= _ranked(pairs, truth)
    return scored


def _ranked(found: Found, truth: np.ndarray) -> dict[str, Any]:
    """Returns the average precision and the curve of scored pairs; nothing for groups."""
    if not isinstance(found.output, ScoredPairs):
        return {}
    precision, recall, _ = metrics.precision_recall(found.output, truth)
    return {
        "average_precision": metrics.average_precision(precision, recall),
        "curve": metrics.curve(precision, recall),
    }


def _disputed(
    found: Found, image_set: ImageSet, selected: np.ndarray, threshold: float | None
) -> dict[str, list[int]]:
    """Returns how many of the pairs that one truth joins and another does not are reported, of how many."""
    human, originals, groups = (
        image_set.truths[name][selected] for name in (HUMAN, ORIGINALS, image_sets.GROUPS)
    )

    def count(labels: np.ndarray) -> np.ndarray:
        counts = found.count(threshold, np.unique(labels, return_inverse=True, axis=0)[1].ravel())
        return np.array([counts.found.diagonal().sum(), counts.true.sum()])

    return {
        name: (count(joined) - count(np.stack([joined, apart], 1))).tolist()
        for name, joined, apart in (
            ("human clusters, not our originals", human, originals),
            ("our originals, not the human clusters", originals, human),
            ("our groups, not the human clusters", groups, human),
        )
    }


def across_classes(found: Found, image_set: ImageSet, threshold: float | None) -> int:
    """Returns the number of reported pairs of images of different classes."""
    classes = np.unique(image_set.classes, return_inverse=True)[1]
    counts = found.count(threshold, classes)
    return int(counts.found.sum() - counts.found.diagonal().sum())


def splits(outputs: Outputs, chosen: Mapping[str, Choices], image_sets: Sequence[ImageSet]) -> dict[str, Any]:
    """Returns `leakage.measure_split` by set and row, with a random split and the truths for comparison.

    A finder has its chosen setting and threshold for groups, else its default; one that failed has only
    `FAILED`, the reason.
    """
    measured: dict[str, Any] = {}
    for image_set in image_sets:
        classifier: NearestNeighbour | None = None
        if image_set.name == LUNG:
            classifier = leakage.nearest_neighbour(image_set)
        labels = np.unique(image_set.classes, return_inverse=True)[1]
        rows = measured.setdefault(image_set.name, {})
        groupings = {RANDOM_SPLIT: np.arange(len(image_set)), **image_set.truths}
        for row, choices in chosen.items():
            choice = choices[TUNED if TUNED in choices else DEFAULT][GROUPS]
            found = outputs.read(row, choice.setting, image_set.name)
            if isinstance(found, str):
                rows[row] = {FAILED: found}
            else:
                groupings[row] = found.groups(choice.threshold, len(image_set))
        with console.phase("split") as phase, console.counter("split") as progress:
            for number, (row, groups) in enumerate(groupings.items()):
                rows[row] = leakage.measure_split(groups, labels, image_set.truths, classifier)
                progress(number + 1, len(groupings))
            phase.text = f"{image_set.name}: {len(groupings)} groupings, {leakage.SEEDS} seeds"
    return measured
