"""Trains a network from a config file and writes its result."""

import contextlib
import dataclasses
import datetime
import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models, reported
from jaxnets.data.sources import registry
from jaxnets.data.splits import sha256
from jaxnets.errors import CheckpointError, ConfigError, InterruptedRunError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.metrics import ClassScores
from jaxnets.evaluation.predictions import predictions_name
from jaxnets.evaluation.result_schema import SCHEMA_VERSION
from jaxnets.experiment import checksums, environment, workdir
from jaxnets.experiment.batch_sizes import check_batch_norm, check_divisible
from jaxnets.experiment.build import Evaluator, build_run, extra_test_evaluators
from jaxnets.experiment.cached_features import can_cache_features, with_features
from jaxnets.experiment.data import Data, check_not_empty, open_source, resolve, with_cache
from jaxnets.experiment.leakage import Leakage, measure_leakage, report_leakage
from jaxnets.experiment.network import Network, make_network
from jaxnets.experiment.pretrained import (
    check_backbone,
    open_pretrained,
    restore_pretrained_settings,
)
from jaxnets.experiment.run_directory import RunDirectory, open_run_if_exists, print_warnings
from jaxnets.experiment.runtime_estimate import median_speed
from jaxnets.io import read_regular
from jaxnets.runtime import hardware, signals
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.processes import check_not_forked
from jaxnets.runtime.xla import precision_of
from jaxnets.training.callbacks import Callback
from jaxnets.training.callbacks.writers import METRICS
from jaxnets.training.checkpoint import FileRecord, file_record
from jaxnets.training.devices import Devices
from jaxnets.training.loop import train as run_loop
from jaxnets.training.run import Run
from jaxnets.training.state import BackboneHeadPartition


@dataclasses.dataclass(frozen=True)
class Options:
    """Arguments of a training run that are not part of its config."""

    workdir: str | os.PathLike[str] | None = None
    allow_nondeterministic_resume: bool = False
    ignore_damage: bool = False
    """Use the run directory (and that of transfer.weights) even if files do not match their checksums."""
    callbacks: Sequence[Callback] = ()
    command: str = ""


def train(
    spec: str, overrides: Mapping[str, Any] | None = None, options: Options | None = None
) -> results.Result:
    """Trains the config `PATH` or `PATH:VARIANT` to the end, or resumes an interrupted run.

    If the run has already finished, its summary is printed again. Raises the errors of `jaxnets.errors`;
    InterruptedRunError if a signal stopped training, after a checkpoint was saved.
    """
    check_not_forked()
    options, overrides = options or Options(), dict(overrides or {})
    devices = Devices.all()
    reporter = Reporter(quiet=not devices.is_process_zero)
    config = resolve(spec, overrides, reporter)
    if note := models.skipped_aux_heads_note(config.model, config.data.image_size):
        reporter.line("note", note)
    with precision_of(config.model), contextlib.ExitStack() as stack:
        directory = Path(options.workdir or workdir.default_workdir(config))
        _check_outside_data(directory, config)
        with devices.collective_section():
            existing = _open_and_lock(directory, config, options, devices, stack)
        if existing is not None and existing.result is not None:
            reporter.print(_summary(existing.result, directory))
            return existing.result
        return _train(config, overrides, options, devices, reporter, directory, existing)


def _train(
    config: config_dict.ConfigDict,
    overrides: Mapping[str, Any],
    options: Options,
    devices: Devices,
    reporter: Reporter,
    directory: Path,
    existing: RunDirectory | None,
) -> results.Result:
    with devices.collective_section():
        user_set = config_lib.user_set(overrides)
        pretrained = open_pretrained(
            config, reporter, existing, user_set, ignore_damage=options.ignore_damage
        )
        data = open_source(config, reporter)
        check_not_empty(data.split)
        check_divisible(config, len(data.split.train), devices)
        check_batch_norm(config, data.shape[-1], len(data.split.train), devices)
        if pretrained is not None:
            check_backbone(config, data.shape, pretrained)
        data = with_cache(data, reporter)
        leakage = measure_leakage(data)
        report_leakage(data, leakage, reporter)
    with devices.collective_section():
        network = make_network(config, data, pretrained, devices.axis_name)
        if can_cache_features(config, data):
            data = with_features(config, data, network, reporter)
        run, evaluator = build_run(config, data, devices, network, directory, reporter, options.callbacks)
        run.run_files = functools.partial(_recorded_files, directory)
        # Written only after all checks: a rejected config leaves the directory unused.
        if devices.is_process_zero:
            _write_run_metadata(directory, existing, config, data, network, options.command)
    with devices.collective_section():
        _resume(run, existing, reporter, options)
    _compile(run, evaluator, data, reporter)
    with signals.stoppable(run.interrupt):
        run_loop(run)
    run.sync_interrupt()  # a signal may have arrived after the loop's last check
    if run.interrupted is not None:
        message = "stopped before the first step; run the same command to start again"
        if run.step:
            message = f"stopped at step {run.step}, saved; run the same command to resume"
        raise InterruptedRunError(message, run.interrupted)
    if run.stop_reason is not None:
        _print_stop(run, reporter)
    result = _finalize_run(run, evaluator, data, leakage, reporter, overrides, options)
    reporter.print(_summary(result, directory))
    return result


def _check_outside_data(directory: Path, config: config_dict.ConfigDict) -> None:
    """Raises ConfigError if the run directory is in the image folder, where it would become a class."""
    if config.data.path is None:
        return
    if directory.resolve().is_relative_to(Path(config.data.path).resolve()):
        raise ConfigError(
            f"--workdir={directory} is inside --config.data.path={config.data.path}: "
            "choose a --workdir outside the image folder"
        )


def _open_and_lock(
    directory: Path,
    config: config_dict.ConfigDict,
    options: Options,
    devices: Devices,
    stack: contextlib.ExitStack,
) -> RunDirectory | None:
    """Opens an existing run and locks the directory unless that run has finished (reading needs no lock).

    Raises ConfigError or DataError if a finished run has another config or was trained on other data.
    """
    existing = open_run_if_exists(directory, ignore_damage=options.ignore_damage)
    if existing is None or existing.result is None:
        if devices.is_process_zero:
            stack.enter_context(workdir.lock_workdir(directory))
        existing = open_run_if_exists(directory, ignore_damage=options.ignore_damage)
    if existing is not None and devices.is_process_zero:
        print_warnings(existing.warnings)
    if existing is not None and existing.result is not None:
        restore_pretrained_settings(config, existing)
        existing.check_config(config)
        if config.data.path != existing.config.data.path:  # the data may have been moved
            source = registry.open_source(config.data, config_lib.data_root(config))
            existing.check_data(source.fingerprint)
    return existing


def _write_run_metadata(
    directory: Path,
    existing: RunDirectory | None,
    config: config_dict.ConfigDict,
    data: Data,
    network: Network,
    command: str,
) -> None:
    """Writes config, split and manifest, or checks them against those of an existing run."""
    manifest = {
        "command": command,
        "versions": environment.versions(),
        "hardware": hardware.description(),
        "git_commit": environment.git_commit(),
        "data": data.source.name,
        "classes": list(data.source.classes),
        "input_shape": list(data.shape),
        "data_fingerprint": data.source.fingerprint,
        "backbone_sha256": network.backbone_sha256,
        "split_sha256": sha256(data.split_csv),
    }
    contents = {
        workdir.CONFIG: config_lib.to_json(config),
        workdir.SPLIT: data.split_csv,
        workdir.MANIFEST: json.dumps(manifest, indent=1) + "\n",
    }
    if existing is not None:
        existing.check_config(config)
        existing.check_data(data.source.fingerprint)
        existing.check_weights(network.backbone_sha256)
        del contents[workdir.CONFIG]
        if existing.split is not None:
            existing.check_split(data.split_csv)
            del contents[workdir.SPLIT]
        if existing.manifest_or_none is not None:
            del contents[workdir.MANIFEST]
    if contents:
        checksums.write_files(directory, contents)


def _recorded_files(directory: Path) -> dict[str, FileRecord]:
    """Size and sha256 of the run's files, which each checkpoint stores."""
    names = (workdir.CONFIG, workdir.MANIFEST, workdir.SPLIT, METRICS)
    paths = {name: directory / name for name in names}
    return {name: file_record(path) for name, path in paths.items() if path.is_file()}


def _resume(run: Run, existing: RunDirectory | None, reporter: Reporter, options: Options) -> None:
    step, damaged = run.checkpoints.latest_valid()
    for message in damaged:
        reporter.line("warning", message)
    if step is None:
        if damaged:
            raise CheckpointError(
                f"no valid checkpoint in {run.checkpoints.folder}: restore one from a backup, "
                "or start over in another --workdir"
            )
        return
    if existing is not None and run.devices.is_process_zero:
        existing.metrics(step)  # raises if metrics.jsonl has changed since that step
    run.resume(step, allow_nondeterministic_resume=options.allow_nondeterministic_resume)
    reporter.line("resume", f"from step {run.step} of {run.plan.total_steps}")


def _compile(run: Run, evaluator: Evaluator, data: Data, reporter: Reporter) -> None:
    """Compiles the training step for each batch shape, and the evaluation step."""
    if run.ending:
        return
    with reporter.phase("compile") as phase:
        for batch in run.batches.example_batches():
            run.train_step.compile(run.state, run.shard_batch(batch))
        evaluator.compile(run.state, data.split.test)
        phase.text = (
            f"training step, {environment.implementation(run.config)}, on {hardware.description()}, "
            f"{run.description}{', malloc retains freed memory' if hardware.retains_freed_memory() else ''}"
        )


def _print_stop(run: Run, reporter: Reporter) -> None:
    """Prints when and why training stopped early, and which checkpoint is tested."""
    tested = f"the final state (step {run.step})"
    if run.config.eval.use_best and run.best_step is not None:
        tested = f"the best checkpoint (step {run.best_step})"
    elif run.best_step not in (None, run.step):
        tested += f"; --config.eval.use_best=True tests the best one (step {run.best_step})"
    epochs = run.plan.total_steps / run.plan.steps_per_epoch
    reporter.line(
        "stop",
        f"at step {run.step} of {run.plan.total_steps}, epoch {run.epoch:g} of {epochs:g}: "
        f"{run.stop_reason}; testing {tested}",
    )


def _finalize_run(
    run: Run,
    evaluator: Evaluator,
    data: Data,
    leakage: Leakage,
    reporter: Reporter,
    overrides: Mapping[str, Any],
    options: Options,
) -> results.Result:
    """Tests the run and writes predictions and result.json."""
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
            for name, other in extra_test_evaluators(config, data, run.devices).items()
        }
        phase.text = f"{test.examples:,} test examples"
    predictions = evaluator.predictions(test, split.test)
    clean = results.test_entry(test, predictions)
    auxiliary = models.count_parameters(models.auxiliary_part(run.state.params))
    trained = parameters = models.count_parameters(run.state.params) - auxiliary
    if config.transfer.freeze_backbone:
        parts = BackboneHeadPartition.of(models.create(config.model), (1, *data.shape))
        trained = models.count_parameters(parts.split(run.state.params)[0])
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
        "command": options.command,
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
        "hardware": hardware.description(),
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


def _summary(result: results.Result, directory: Path) -> str:
    return results.summary_text(
        result,
        title=models.entry(result["model"]).title,
        data_title=registry.TITLES[result["data"]],
        workdir=directory,
        reported=reported.entry(result["entry"]) if result["entry"] else None,
    )
