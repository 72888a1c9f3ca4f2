"""Evaluate a run from its directory, finished or not."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.leakage import leaked_fractions
from jaxnets.data.splits import PARTS
from jaxnets.errors import ConfigError, MachineError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.metrics import ClassScores, Scores
from jaxnets.evaluation.predictions import predictions_name
from jaxnets.evaluation.report.measure import measure
from jaxnets.evaluation.report.page import MAX_TABLE_CLASSES
from jaxnets.experiment import checksums
from jaxnets.experiment.build import make_evaluator
from jaxnets.experiment.data import open_data
from jaxnets.experiment.report import write_report
from jaxnets.experiment.restore import restore_state
from jaxnets.experiment.run_directory import RunDirectory, open_run, print_warnings
from jaxnets.models import create
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.processes import check_not_forked
from jaxnets.runtime.xla import precision_of
from jaxnets.text import printable
from jaxnets.training.devices import Devices


def evaluate(
    directory: Path,
    *,
    part: str = "test",
    data_root: str | None = None,
    ignore_damage: bool = False,
) -> dict[str, Any]:
    """Evaluates a run on one part of its split; prints the metrics and returns them.

    Uses the checkpoint that result.json was computed from, or the newest of an unfinished run. Writes
    report/index.html, report/metrics.json (index-PART.html and metrics-PART.json for parts other than test)
    and predictions/PART.npz.

    Raises ConfigError for an unknown part or a directory without a run, DataError if the data have changed,
    CheckpointError if there is no valid checkpoint; `ignore_damage` turns checksum errors into warnings.
    """
    check_not_forked()
    if part not in PARTS:
        raise ConfigError(f"--split={part!r} must be one of {', '.join(PARTS)}")
    run = open_run(directory, ignore_damage=ignore_damage)
    print_warnings(run.warnings)
    if not os.access(directory, os.W_OK):
        raise MachineError(f"{directory} is not writable: evaluate a copy of it")
    config = run.config
    if data_root is not None:
        config.data.root = data_root
    with precision_of(config.model):
        return _evaluate(run, part)


def _evaluate(run: RunDirectory, part: str) -> dict[str, Any]:
    config = run.config
    reporter = Reporter()
    data = open_data(config, reporter)
    run.check_data(data.source.fingerprint)
    run.check_split(data.split_csv)
    indices = data.split.parts()[part]
    if len(indices) == 0:
        raise ConfigError(f"--split={part}: this run has no {part} examples")
    devices = Devices.all()
    restored = restore_state(run, data.shape)
    state, step = restored.state, restored.step
    for message in restored.warnings:
        reporter.line("warning", message)
    metrics = run.metrics(step)
    evaluator = make_evaluator(config, create(config.model), data, devices)
    with reporter.phase("evaluate") as phase:
        scores = evaluator(state, indices)
        phase.text = f"{scores.examples:,} {part} examples, step {step}"
    predictions = evaluator.predictions(scores, indices)
    # predictions/ must belong to the step of result.json.
    if predictions is not None and (run.result is None or step == run.result["step"]):
        checksums.write_files(run.path, {predictions_name(part): predictions.to_bytes()})
    measured: dict[str, Any] = {
        "split": part,
        "step": step,
        **results.test_entry(scores, predictions),
    }
    leak: dict[str, float | None] = {}
    if predictions is not None:
        validation = None
        if part != "validation" and len(data.split.validation):
            with reporter.phase("evaluate") as phase:
                on_validation = evaluator(state, data.split.validation)
                validation = evaluator.predictions(on_validation, data.split.validation)
                phase.text = f"{on_validation.examples:,} validation examples, for temperature scaling"
        measured |= measure(predictions, data.source.classes, validation)
        leak = measured["leakage"] = leaked_fractions(data.split, data.group_ids)
    reporter.print(_format(scores, data.source.classes, measured))
    reporter.print(f"split  {data.format_split(leak)}")
    with reporter.phase("report") as phase:
        phase.text = str(write_report(run, data, state, measured, predictions, metrics))
    return measured


def _format(scores: Scores, classes: Sequence[str], measured: dict[str, Any]) -> str:
    if isinstance(scores, ClassScores):
        return _table(scores, [printable(name) for name in classes], measured)
    return f"loss  {scores.loss:.6g}  ({scores.examples:,} examples)"


def _table(scores: ClassScores, classes: Sequence[str], measured: dict[str, Any]) -> str:
    (low, high), method = measured["interval"], measured["interval_method"]
    lines = [
        f"accuracy  {100 * scores.accuracy:.2f} % [{100 * low:.2f}, {100 * high:.2f}]  "
        f"({scores.correct:,} of {scores.examples:,}; {method}, 95 %)  loss {scores.loss:.4f}",
        "",
    ]
    corner = r"true \ predicted" if len(classes) <= MAX_TABLE_CLASSES else f"lowest of {len(classes)}"
    width = max(len(corner), *(len(name) for name in classes)) + 2
    if len(classes) > MAX_TABLE_CLASSES:
        return "\n".join([*lines, *_worst(scores, classes, corner, width)])
    columns = [max(len(name), 6) for name in classes]
    header = "  ".join(name.rjust(size) for name, size in zip(classes, columns, strict=True))
    lines.append(f"{corner:<{width}}{header}  recall")
    for number, (name, row) in enumerate(zip(classes, scores.confusion, strict=True)):
        counts = "  ".join(f"{n:>{size},}" for n, size in zip(row, columns, strict=True))
        recall = f"{100 * row[number] / row.sum():5.1f} %" if row.sum() else "   -"
        lines.append(f"{name:<{width}}{counts}  {recall}")
    return "\n".join(lines)


def _worst(scores: ClassScores, classes: Sequence[str], corner: str, width: int) -> Iterator[str]:
    """The classes of lowest recall and their most frequent wrong prediction."""
    sizes, hits = scores.confusion.sum(1), np.diag(scores.confusion)
    recall = np.where(sizes > 0, hits / np.maximum(sizes, 1), np.inf)
    wrong = scores.confusion - np.diag(hits)
    yield f"{corner:<{width}}images  recall  most often predicted as"
    for number in np.argsort(recall, kind="stable")[:MAX_TABLE_CLASSES]:
        if sizes[number]:
            other = wrong[number].argmax()
            count = wrong[number, other]
            mistake = f"  {classes[other]}, {count:,}" if count else ""
            percent = f"{100 * recall[number]:.1f} %"
            yield f"{classes[number]:<{width}}{sizes[number]:>6,} {percent:>7}{mistake}"
