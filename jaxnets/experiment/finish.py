"""Tests a trained run and writes its result."""

import datetime
import statistics
from collections.abc import Mapping
from typing import Any

from jaxnets import models
from jaxnets.data.dataset import Dataset
from jaxnets.data.splits import sha256
from jaxnets.evaluation import result as results
from jaxnets.evaluation.predictions import ClassScores, predictions_name
from jaxnets.evaluation.result import SCHEMA_VERSION
from jaxnets.experiment import checksums, environment
from jaxnets.experiment.evaluator import Evaluator, extra_test_evaluators
from jaxnets.experiment.leakage import Leakage
from jaxnets.experiment.network import Network
from jaxnets.io import read_regular
from jaxnets.runtime import xla
from jaxnets.runtime.console import Reporter
from jaxnets.training.callbacks.logs import METRICS, read_lines
from jaxnets.training.run import Run


def finish(
    run: Run,
    evaluator: Evaluator,
    data: Dataset,
    network: Network,
    leakage: Leakage,
    reporter: Reporter,
    overrides: Mapping[str, Any],
    command: str,
) -> results.Result:
    """Tests the run, writes predictions and result.json, and returns the result."""
    config, split = run.config, data.split
    state, tested = run.state, run.step
    if config.eval.use_best and run.best_step is not None:
        tested = run.best_step
        state, _ = run.checkpoints.restore(run.best_step, run.state)
    with reporter.phase("evaluate") as phase:
        test = evaluator(state, split.test)
        validation = evaluator(state, split.validation) if len(split.validation) else None
        others = {
            name: other.entry(state, split.test)
            for name, other in extra_test_evaluators(config, network.model, data, run.devices).items()
        }
        phase.text = f"{test.examples:,} test examples"
    predictions = evaluator.predictions(test, split.test)
    clean = results.test_entry(test, predictions)
    auxiliary = models.count_parameters(models.auxiliary_part(run.state.params))
    trained = parameters = models.count_parameters(run.state.params) - auxiliary
    if config.transfer.freeze_backbone:
        assert network.parts is not None
        trained = models.count_parameters(network.parts.split(run.state.params)[0])
    speed = None  # only process 0 writes metrics.jsonl, and only its result is stored
    if run.devices.is_process_zero:
        speed = median_speed(read_regular(run.workdir / METRICS))
    result: results.Result = {
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "entry": config.entry,
        "model": config.model.name,
        "truncate_after": config.model.truncate_after,
        "weights": config.transfer.weights,
        "pretrained_on": config.transfer.pretrained_on,
        "freeze_backbone": config.transfer.freeze_backbone,
        "parameters": parameters,
        "auxiliary_parameters": auxiliary,
        "on_cached_features": data.features is not None,
        "features_seconds": data.features_seconds,
        "trained_parameters": trained,
        "data": config.data.name,
        "split": split.name,
        "split_sha256": sha256(data.split_csv),
        "groups": config.data.groups,
        "group_level": config.data.group_level,
        "leakage": leakage.as_result(),
        "fold": [config.data.fold, config.data.folds] if config.data.folds else None,
        "image_size": config.data.image_size if data.source.kind == "image" else None,
        "epochs": results.epochs_of(run.step, run.plan.steps_per_epoch),
        "seed": config.seed,
        "batch_size": config.train.batch_size,
        "overrides": [f"{name}={value!r}" for name, value in overrides.items()],
        "command": command,
        "implementation": environment.implementation(config),
        "test_accuracy": clean.get("accuracy"),
        "test_examples": clean["examples"],
        "test_interval": clean.get("interval"),
        "interval_method": clean.get("interval_method"),
        "tests": {"clean": clean, **others},
        "validation_accuracy": validation.accuracy if isinstance(validation, ClassScores) else None,
        "train_accuracy": run.last_epoch.get("accuracy") if run.last_epoch else None,
        "curves": "metrics.jsonl",
        "seconds": run.seconds,
        "images_per_second": speed,
        "hardware": xla.hardware(),
        "versions": environment.versions(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "stopped_early": run.stop_reason,
        "step": tested,
        "not_bit_exact": run.not_bit_exact,
        "complete": True,
        "note": config.note,
    }
    if run.devices.is_process_zero:
        contents: dict[str, str | bytes] = {}
        if predictions is not None:
            contents[predictions_name()] = predictions.to_bytes()
        contents[results.RESULT] = results.to_json(result)  # last: it marks the run as finished
        checksums.write_files(run.workdir, contents, final=(METRICS,))
    return result


def median_speed(metrics: bytes, *, last: int = 0) -> float | None:
    """The median training speed in images per second of a metrics.jsonl, or None.

    Only the `last` lines count; 0 counts all. The median is robust to hours in which the machine was busy.
    """
    lines = [line for line in read_lines(metrics) if line["split"] == "train"]
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
    return statistics.median(speeds[-last:]) if speeds else None
