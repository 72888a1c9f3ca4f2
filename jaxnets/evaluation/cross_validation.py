"""Pools the test predictions of a cross-validation's runs into one result."""

import dataclasses
import datetime
import statistics
from collections.abc import Sequence

import numpy as np

from jaxnets.data.splits import sha256
from jaxnets.errors import DataError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.predictions import ClassScores, Predictions
from jaxnets.evaluation.result import CrossValidation, Result, TestedRun


@dataclasses.dataclass(frozen=True)
class FoldRun:
    """A finished run of one fold: its directory's name, its result and its test predictions."""

    name: str
    result: Result
    predictions: Predictions


def pool(runs: Sequence[FoldRun], *, images: int, command: str = "") -> tuple[Result, Predictions]:
    """The result over all runs, and their predictions, ordered by image, then as in `runs`.

    The interval is by groups, over all folds. It contains the choice of images, not the variance of
    training: folds share training images. With several seeds each image counts once per seed, and its
    predictions are in the same group.

    Args:
        runs: every fold with every seed.
        images: the number of images of the data set.
        command: the command line to store.

    Raises:
        DataError: a seed does not test every image exactly once.
    """
    seeds = sorted({run.result["seed"] for run in runs})
    for seed in seeds:
        _check_tested_once([run for run in runs if run.result["seed"] == seed], images)
    predictions = concatenate([run.predictions for run in runs])
    first, all_results = runs[0].result, [run.result for run in runs]
    losses = [result["tests"]["clean"]["loss"] for result in all_results]
    loss = statistics.fmean(losses, [result["test_examples"] for result in all_results])
    scores = ClassScores.of(predictions.probabilities, predictions.label, loss)
    tests = {"clean": results.test_entry(scores, predictions)}
    pooled: Result = {
        **first,
        **results.summary_of(tests),
        "tests": tests,
        "cross_validation": _members(runs),
        "leakage": _leakage(all_results),
        "split_sha256": sha256("".join(run["split_sha256"] for run in all_results)),
        "fold": None,
        "seed": seeds[0],
        "temperature": predictions.fit_temperature(),
        "validation_accuracy": _mean([run["validation_accuracy"] for run in all_results]),
        "train_accuracy": _mean([run["train_accuracy"] for run in all_results]),
        "seconds": sum(run["seconds"] for run in all_results),
        "images_per_second": _median([run["images_per_second"] for run in all_results]),
        "hardware": "; ".join(sorted({run["hardware"] for run in all_results})),
        "not_bit_exact": any(run["not_bit_exact"] for run in all_results),
        "stopped_early": next((run["stopped_early"] for run in all_results if run["stopped_early"]), None),
        "overrides": [text for text in first["overrides"] if not text.startswith(("data.fold=", "seed="))],
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
    }
    return pooled, predictions


def _check_tested_once(runs: Sequence[FoldRun], images: int) -> None:
    tested = np.concatenate([run.predictions.index for run in runs])
    names, counts = ", ".join(run.name for run in runs), np.bincount(tested, minlength=images)
    wrong_images = np.flatnonzero(counts != (np.arange(len(counts)) < images))
    if not len(wrong_images):
        return
    wrong = int(wrong_images[0])
    raise DataError(
        f"the folds of {names} do not test every image once (image {wrong}: {counts[wrong]} times): "
        "their data or groups differ; train them again in another --workdir"
    )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several runs, ordered by image."""
    index = np.concatenate([part.index for part in parts])
    order = np.argsort(index, kind="stable")
    fields = [field.name for field in dataclasses.fields(Predictions)]
    return Predictions(
        **{name: np.concatenate([getattr(part, name) for part in parts])[order] for name in fields}
    )


def _members(runs: Sequence[FoldRun]) -> CrossValidation:
    first = runs[0].result["fold"]
    assert first is not None
    return {"folds": first[1], "runs": [_tested_run(run) for run in runs]}


def _tested_run(run: FoldRun) -> TestedRun:
    result, predictions = run.result, run.predictions
    assert result["fold"] is not None
    assert result["test_accuracy"] is not None
    assert result["test_interval"] is not None
    return {
        "name": run.name,
        "fold": result["fold"][0],
        "seed": result["seed"],
        "accuracy": result["test_accuracy"],
        "interval": result["test_interval"],
        "examples": result["test_examples"],
        "groups": len(np.unique(predictions.group)) if predictions.groups_known else None,
        "split_sha256": result["split_sha256"],
        "finished": result["finished"],
    }


def _leakage(runs: Sequence[Result]) -> dict[str, float | None]:
    parts = runs[0]["leakage"]
    weights = [run["test_examples"] for run in runs]
    return {part: _mean([run["leakage"][part] for run in runs], weights) for part in parts}


def _mean(values: Sequence[float | None], weights: Sequence[float] | None = None) -> float | None:
    """The mean; None if a value is unknown."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known, weights) if len(known) == len(values) else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
