"""Pooling: every image tested once, intervals over all groups, several seeds."""

from typing import Any

import made_results
import numpy as np
import pytest

from jaxnets.errors import DataError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.cross_validation import FoldRun, pool
from jaxnets.evaluation.predictions import Predictions
from jaxnets.evaluation.statistics import group_interval
from jaxnets.evaluation.summary import accuracy_by_seed, format_cross_validation

IMAGES, FOLDS = 120, 3
LABELS = np.arange(IMAGES) % 2
GROUPS = np.arange(IMAGES) // 4


def _run(
    fold: int, seed: int = 0, *, grouped: bool = True, index: np.ndarray | None = None, **changes: Any
) -> FoldRun:
    """A run that is tested on every third group and is right on about 80 % of its images."""
    index = np.flatnonzero(fold == GROUPS % FOLDS) if index is None else index
    generator = np.random.default_rng([seed, fold])
    right = np.where(generator.random(len(index)) < 0.8, 0.9, 0.3)
    probabilities = np.stack([1 - right, right], axis=1)
    probabilities = np.where(LABELS[index, None] == 1, probabilities, probabilities[:, ::-1])
    predictions = Predictions(
        index=index,
        label=LABELS[index].astype(np.int32),
        probabilities=probabilities.astype(np.float32),
        files=np.array([f"{number}.png" for number in index]),
        group=GROUPS[index] if grouped else np.full(len(index), -1),
    )
    correct = int(predictions.correct.sum())
    tests = {"clean": made_results.entry(correct / len(index), examples=len(index))}
    result = made_results.make_result(
        tests=tests, seed=seed, split="grouped", fold=[fold, FOLDS], leakage={"test": 0.0}, **changes
    )
    return FoldRun(f"fold{fold}-s{seed}", result, predictions)  # type: ignore[arg-type]


def test_all_images_are_pooled_and_groups_are_resampled() -> None:
    runs = [_run(fold, seconds=10.0 + fold) for fold in (2, 0, 1)]
    pooled, predictions = pool(runs, images=IMAGES, command="again")
    assert results.check(pooled) is None
    np.testing.assert_array_equal(predictions.index, np.arange(IMAGES))
    np.testing.assert_array_equal(predictions.label, LABELS)
    correct = sum(int(run.predictions.correct.sum()) for run in runs)
    assert pooled["test_accuracy"] == correct / IMAGES
    assert pooled["test_interval"] == list(group_interval(predictions.correct, GROUPS))
    assert pooled["interval_method"] == results.WILSON_BY_GROUP
    assert (pooled["seconds"], pooled["fold"], pooled["command"]) == (33.0, None, "again")
    assert pooled["leakage"] == {"test": 0.0}
    tested = pooled["cross_validation"]["runs"]
    assert [(run["name"], run["fold"], run["examples"], run["groups"]) for run in tested] == [
        (f"fold{fold}-s0", fold, 40, 10) for fold in (2, 0, 1)
    ]
    assert "3 folds, " in format_cross_validation(pooled)


def test_predictions_of_several_seeds_count_as_one_group() -> None:
    runs = [_run(fold, seed, grouped=False) for seed in (4, 5) for fold in range(FOLDS)]
    pooled, predictions = pool(runs, images=IMAGES)
    assert pooled["test_examples"] == 2 * IMAGES
    np.testing.assert_array_equal(predictions.index, np.repeat(np.arange(IMAGES), 2))
    assert not predictions.groups_known
    assert pooled["interval_method"] == results.WILSON_GROUPS_UNKNOWN
    half = group_interval(predictions.correct, predictions.index)
    assert pooled["test_interval"] == list(half)
    by_seed = accuracy_by_seed(pooled["cross_validation"])
    for seed, accuracy in by_seed.items():
        correct = [run.predictions.correct for run in runs if run.result["seed"] == seed]
        assert accuracy == pytest.approx(np.concatenate(correct).mean())
    assert pooled["test_accuracy"] == pytest.approx(np.mean(list(by_seed.values())))
    assert "2 seeds, " in format_cross_validation(pooled)


def test_an_image_that_is_not_tested_once_raises() -> None:
    runs = [_run(fold) for fold in range(FOLDS)]
    with pytest.raises(DataError, match=r"do not test every image once \(image 8: 0 times\)"):
        pool(runs[:2], images=IMAGES)
    again = _run(2, index=np.append(runs[2].predictions.index, 5))
    with pytest.raises(DataError, match=r"image 5: 2 times"):
        pool([*runs[:2], again], images=IMAGES)
    with pytest.raises(DataError, match="image 120: 0 times"):
        pool(runs, images=IMAGES + 1)
    with pytest.raises(DataError, match="image 119: 1 times"):
        pool(runs, images=IMAGES - 1)
    with pytest.raises(DataError, match="fold0-s1, fold1-s1 do not test"):  # the other seed is complete
        pool([*runs, _run(0, 1), _run(1, 1)], images=IMAGES)


def test_an_unknown_leakage_stays_unknown() -> None:
    runs = [_run(fold, images_per_second=None) for fold in range(FOLDS)]
    runs[1].result["leakage"] = {"test": None}
    runs[0].result["leakage"] = {"test": 1.0}
    pooled, _ = pool(runs, images=IMAGES)
    assert pooled["leakage"] == {"test": None}
    assert pooled["images_per_second"] is None
