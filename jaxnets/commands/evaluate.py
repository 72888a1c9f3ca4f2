"""Evaluate a run from its directory, finished or not, or compare its predictions with another run's."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.splits import PARTS, leaked_fractions
from jaxnets.errors import ConfigError, MachineError
from jaxnets.evaluation.predictions import (
    ClassScores,
    Predictions,
    Scores,
    load_predictions,
    predictions_name,
    read_predictions,
)
from jaxnets.evaluation.report.measure import measure
from jaxnets.evaluation.result import format_test, test_entry
from jaxnets.evaluation.statistics import Comparison, compare_paired
from jaxnets.evaluation.turns import TURNS
from jaxnets.experiment import workdir
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.experiment.evaluator import Evaluator, fold_state, make_evaluator
from jaxnets.experiment.leakage import format_split
from jaxnets.experiment.predictor import Predictor
from jaxnets.experiment.report import write_report
from jaxnets.experiment.restore import restore_state, weights_of
from jaxnets.experiment.run_directory import RunDirectory, open_run, read_verified
from jaxnets.experiment.test_time_augmentation import evaluate_turns
from jaxnets.experiment.uncertainty import no_validation_error, write_feature_distance
from jaxnets.io import printable
from jaxnets.runtime import console, xla
from jaxnets.training.devices import Devices

MAX_WIDTH, MAX_ROWS = 80, 20
"""The maximum width of the table of confusions; without it, the number of classes that are printed."""


def evaluate(
    directory: Path,
    *,
    part: str = "test",
    data_root: str | None = None,
    ood: bool = False,
    turns: bool = False,
    ignore_damage: bool = False,
) -> dict[str, Any]:
    """Evaluates a run on one part of its split; prints the metrics and returns them.

    Uses the checkpoint that result.json was computed from, or the newest of an unfinished run. Writes
    report/ and predictions/PART.npz; with `ood` also ood.npz, for `predict --ood`. With `turns` it also
    evaluates the mean over the eight flips and rotations of an image. Raises ConfigError for an unknown part
    or a directory without a run, DataError if the data have changed, CheckpointError if there is no valid
    checkpoint; `ignore_damage` turns checksum errors into warnings.
    """
    xla.check_not_forked()
    if part not in PARTS:
        raise ConfigError(f"--split={part!r} must be one of {', '.join(PARTS)}")
    run = open_run(directory, data_root=data_root, ignore_damage=ignore_damage)
    console.warn(*run.warnings)
    if not os.access(directory, os.W_OK):
        raise MachineError(f"{directory} is not writable: evaluate a copy of it")
    with xla.precision_of(run.config.model):
        return _evaluate(run, part, with_ood=ood, turns=turns)


def _evaluate(run: RunDirectory, part: str, *, with_ood: bool, turns: bool) -> dict[str, Any]:
    config = run.config
    data = with_cache(config, open_dataset(config))
    if turns and data.source.kind != "image":
        raise ConfigError(f"--test_time_augmentation needs images, and {data.source.name} has vectors")
    if with_ood and data.source.kind != "image":
        raise ConfigError(f"--ood needs images, and {data.source.name} has vectors")
    if with_ood and not len(data.split.validation):
        raise no_validation_error(run, "--ood")
    run.check_data(data.source.fingerprint)
    run.check_split(data.split_csv)
    indices, on_validation = data.split.parts()[part], data.split.validation
    if len(indices) == 0:
        raise ConfigError(f"--split={part}: this run has no {part} examples")
    restored = restore_state(run, data.shape)
    step = restored.step
    console.warn(*restored.warnings)
    if run.result is None:
        console.warn(f"{run.path} has not finished training: step {step} is evaluated")
    metrics = run.metrics(step)
    evaluator = make_evaluator(config, restored.model, data, Devices.all())
    state = fold_state(config, restored.model, restored.state, data.shape)
    with console.phase("evaluate") as phase:
        scores = evaluator(state, indices)
        phase.text = f"{scores.examples:,} {part} examples, step {step}"
    predictions = evaluator.predictions(scores, indices)
    measured: dict[str, Any] = {"split": part, "step": step, **test_entry(scores, predictions)}
    leak: dict[str, float | None] = {}
    if predictions is not None:
        if run.result is None or step == run.result["step"]:  # to which predictions/ must belong
            workdir.write_files(run.path, {predictions_name(part): predictions.to_bytes()})
        validation = None
        if part != "validation" and len(on_validation):
            with console.phase("evaluate") as phase:
                validation = evaluator.predictions(evaluator(state, on_validation), on_validation)
                phase.text = f"{len(on_validation):,} validation examples, for temperature scaling"
        measured |= measure(predictions, data.source.classes, validation)
        leak = measured["leakage"] = leaked_fractions(data.split, data.group_ids)
    weights = weights_of(run, restored)
    del restored, state  # the predictor has its own copy on the device
    predictor = None
    if weights.preprocessing is not None:
        predictor = Predictor(weights, max_pixels=config.data.max_pixels, calibrated=False)
    if turns and predictor is not None and predictions is not None:
        with console.phase("evaluate") as phase:
            turned = evaluate_turns(config, predictor, data, indices)
            phase.text = f"{turned.examples:,} {part} examples, mean of {TURNS} flips and rotations"
        measured["test_time_augmentation"] = _compare_turns(evaluator, turned, predictions, indices)
    console.log_text(_format(scores, data.source.classes, measured))
    if "test_time_augmentation" in measured:
        console.log("averaged", _format_turns(measured["test_time_augmentation"]))
    console.log("split", format_split(config, data, leak))
    if with_ood and predictor is not None:
        write_feature_distance(run, data, step, predictor)
    with console.phase("report") as phase:
        phase.text = str(write_report(run, data, predictor, measured, predictions, metrics))
    return measured


def _format(scores: Scores, classes: Sequence[str], measured: dict[str, Any]) -> str:
    """The accuracy and a table of the confusions, or of the classes of lowest recall if it is too wide."""
    if not isinstance(scores, ClassScores):
        return f"loss      {scores.loss:.6g}  ({scores.examples:,} examples)"
    classes = [printable(name) for name in classes]
    (low, high), method = measured["interval"], measured["interval_method"]
    head = (
        f"accuracy  {100 * scores.accuracy:.2f} % [{100 * low:.2f}, {100 * high:.2f}]  "
        f"({scores.correct:,} of {scores.examples:,}; 95 % interval: {method})\nloss      {scores.loss:.4f}"
    )
    numbers = [f"({number})" for number in range(len(classes))]
    numbered = [f"{number} {name}" for number, name in zip(numbers, classes, strict=True)]
    tables = (_confusions(scores.confusion, *names) for names in ((classes, classes), (numbered, numbers)))
    fitting = (lines for lines in tables if len(lines[0]) <= MAX_WIDTH)
    return "\n".join([head, "", *next(fitting, _worst(scores.confusion, classes))])


def _compare_turns(
    evaluator: Evaluator, turned: ClassScores, predictions: Predictions, indices: np.ndarray
) -> dict[str, Any]:
    """The scores with test-time augmentation, and their difference from those without."""
    averaged = evaluator.predictions(turned, indices)
    assert averaged is not None
    found = paired_comparison(averaged, predictions)
    assert found is not None
    about = {"difference": found.difference, "difference_interval": list(found.interval)}
    return {**test_entry(turned, averaged), **about, "permutation_p": found.permutation_p}


def _format_turns(turned: Any) -> str:
    low, high = (100 * end for end in turned["difference_interval"])
    return (
        f"accuracy {format_test(turned)} with the mean over {TURNS} flips and rotations of each image, loss "
        f"{turned['loss']:.4f}; {100 * turned['difference']:+.2f} points [{low:.2f}, {high:.2f}], "
        f"p = {turned['permutation_p']:.2g} (permutation test)"
    )


def _confusions(confusion: np.ndarray, classes: Sequence[str], heads: Sequence[str]) -> list[str]:
    """A table of each class with its counts, below the heads of the columns, and its recall."""
    rows = [(r"true \ predicted", *heads, "recall")]
    for number, (name, row) in enumerate(zip(classes, confusion, strict=True)):
        recall = f"{100 * row[number] / row.sum():.1f} %" if row.sum() else "-"
        rows.append((name, *map(str, row), recall))
    return console.table(rows, right=range(1, len(heads) + 2))


def _worst(confusion: np.ndarray, classes: Sequence[str]) -> list[str]:
    """A table of the classes of lowest recall with their most frequent wrong prediction."""
    sizes, hits = confusion.sum(1), np.diag(confusion)
    recall = np.where(sizes > 0, hits / np.maximum(sizes, 1), np.inf)
    wrong = confusion - np.diag(hits)
    rows = [(f"lowest of {len(classes)}", "images", "recall", "most often predicted as")]
    for number in np.argsort(recall, kind="stable")[:MAX_ROWS]:
        if sizes[number]:
            other = wrong[number].argmax()
            mistake = f"{classes[other]}, {wrong[number, other]:,}" if wrong[number, other] else ""
            rows.append((classes[number], f"{sizes[number]:,}", f"{100 * recall[number]:.1f} %", mistake))
    return console.table(rows, right=(1, 2))


def compare_runs(first: Path, second: Path, *, part: str = "test", ignore_damage: bool = False) -> Comparison:
    """Compares the stored predictions of two runs on a part of their split and prints one line.

    Each is a run directory or a predictions file. Raises ConfigError if their examples differ,
    CheckpointError if predictions are missing or corrupt. `ignore_damage` makes checksum errors warnings.
    """

    def stored(path: Path) -> Predictions:
        if path.suffix != ".npz":
            run = open_run(path, ignore_damage=ignore_damage)
            console.warn(*run.warnings)
            return run.predictions(part) or load_predictions(path / predictions_name(part))
        name = f"{path.absolute().parent.name}/{path.name}"
        data = read_verified(path.absolute().parents[1], name, ignore_damage=ignore_damage)
        return load_predictions(path) if data is None else read_predictions(data, path)

    ours, theirs = stored(first), stored(second)
    found = paired_comparison(ours, theirs)
    if found is None:
        raise ConfigError(
            f"{first} and {second} were not tested on the same {part} examples: "
            "compare runs on the same split (data.split, data.split_seed, data.groups, data.fold)"
        )
    low, high = found.interval
    interval = "interval unknown" if np.isnan(low) else f"{100 * low:.2f}, {100 * high:.2f}"
    has_groups = ours.groups_known or theirs.groups_known
    console.log_text(
        f"difference  {100 * found.difference:+.2f} points [{interval}], "
        f"{100 * ours.correct.mean():.2f} % - {100 * theirs.correct.mean():.2f} %; "
        f"p = {found.permutation_p:.2g} (permutation test), {found.mcnemar_p:.2g} (McNemar), "
        f"{found.groups:,} {'groups' if has_groups else 'examples (no groups known)'}"
    )
    return found


def paired_comparison(ours: Predictions, theirs: Predictions) -> Comparison | None:
    """Compares by groups if either run has them, else by examples; None if the examples differ."""
    fields = ("index", "files", "label")
    if not all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in fields):
        return None
    known = [predictions.group for predictions in (ours, theirs) if predictions.groups_known]
    return compare_paired(ours.correct, theirs.correct, known[0] if known else np.arange(len(ours.label)))
