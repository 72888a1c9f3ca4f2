"""Archived folds of a cross-validation as one result."""

import functools
from collections.abc import Mapping
from pathlib import Path

from jaxnets.errors import DataError
from jaxnets.evaluation.cross_validation import FoldRun, pool
from jaxnets.evaluation.predictions import Predictions, load_predictions, predictions_name
from jaxnets.evaluation.result import Result
from jaxnets.experiment.run_directory import read_result

FOLD = "data.fold="
"""Begins the override in which the folds of a cross-validation differ."""


def pool_folds(found: Mapping[Path, Result]) -> dict[Path, Result]:
    """Replaces the folds of each cross-validation by their pooled result, at the first fold's directory.

    Folds are left out as long as others of their cross-validation are missing.
    """
    series: dict[tuple[str, ...], list[Path]] = {}
    pooled = {}
    for directory, result in found.items():
        if result["fold"] is None:
            pooled[directory] = result
            continue
        shared = [text for text in result["overrides"] if not text.startswith(FOLD)]
        series.setdefault((result["name"], result["data"], *shared), []).append(directory)
    for directories in series.values():
        numbers = [found[directory]["fold"] for directory in directories]
        assert None not in numbers
        if sorted(number for number, _ in numbers) == list(range(numbers[0][1])):
            stamps = tuple(found[directory]["finished"] for directory in directories)
            pooled[directories[0]] = _pool(tuple(directories), stamps)
    return pooled


@functools.cache
def _pool(directories: tuple[Path, ...], stamps: tuple[str, ...]) -> Result:
    """The pooled result of archived folds; `stamps` are their times, for the cache."""
    del stamps
    runs = []
    for directory in directories:
        result = read_result(directory)
        assert result is not None
        runs.append(FoldRun(directory.name, result, read_predictions(directory)))
    return pool(runs, images=sum(run.result["test_examples"] for run in runs))[0]


def read_predictions(directory: Path) -> Predictions:
    """The stored test predictions of an archived run; raises DataError if they are missing."""
    path = directory / predictions_name()
    if not path.is_file():
        raise DataError(f"{path} is missing: train this run again")
    return load_predictions(path)
