"""The main job: train a network on a recipe, and say what came of it."""

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
from jaxnets.data.sources.registry import TITLES
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
from jaxnets.experiment.data import Data, open_source, require_examples, resolve, with_cache
from jaxnets.experiment.leakage import Leak, measure_leak, report_leakage
from jaxnets.experiment.network import Network, make_network
from jaxnets.experiment.pretrained import (
    check_backbone,
    open_pretrained,
    restore_pretrained_settings,
)
from jaxnets.experiment.run_directory import RunDirectory, open_run_if_exists, print_warnings
from jaxnets.experiment.runtime_estimate import median_speed
from jaxnets.io import read_regular
from jaxnets.runtime import allocator, hardware, signals
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.fork import require_not_forked
from jaxnets.runtime.precision import precision_of
from jaxnets.training.backbone import BackboneHeadPartition
from jaxnets.training.callbacks import Callback
from jaxnets.training.callbacks.writers import METRICS
from jaxnets.training.checkpoint import FileRecord, file_record
from jaxnets.training.devices import Devices
from jaxnets.training.loop import train as run_loop
from jaxnets.training.run import Run


@dataclasses.dataclass(frozen=True)
class Options:
    """What a command says beside its recipe."""

    workdir: str | os.PathLike[str] | None = None
    allow_nondeterministic_resume: bool = False
    ignore_damage: bool = False
    """Use a run directory, this one or that of transfer.weights, although files differ from checksums."""
    callbacks: Sequence[Callback] = ()
    command: str = ""


def train(
    spec: str, overrides: Mapping[str, Any] | None = None, options: Options | None = None
) -> results.Result:
    """Trains the recipe `PATH` or `PATH:VARIANT` to its end, or goes on where it was cut; the result.

    A finished run is told again. Raises the errors of `jaxnets.errors`, InterruptedRunError when a
    signal stopped it after a save.
    """
    require_not_forked()
    options = options or Options()
    devices = Devices.all()
    reporter = Reporter(quiet=not devices.is_process_zero)
    overrides = dict(overrides or {})
    config = resolve(spec, overrides, reporter)
    left_out = models.skipped_aux_heads_note(config.model, config.data.image_size)
    if left_out:
        reporter.line("note", left_out)
    with precision_of(config.model):
        return _train(config, overrides, options, devices, reporter)


def _train(
    config: config_dict.ConfigDict,
    overrides: Mapping[str, Any],
    options: Options,
    devices: Devices,
    reporter: Reporter,
) -> results.Result:
    """The same for a resolved recipe, in its precision."""
    directory = Path(options.workdir or workdir.default_workdir(config))
    _check_outside_data(directory, config)
    with contextlib.ExitStack() as stack:
        with devices.collective_section():
            begun = open_run_if_exists(directory, ignore_damage=options.ignore_damage)
            if begun is None or begun.result is None:  # reading alone needs no lock
                if devices.is_process_zero:
                    stack.enter_context(workdir.lock_workdir(directory))
                begun = open_run_if_exists(directory, ignore_damage=options.ignore_damage)
            if begun is not None and devices.is_process_zero:
                print_warnings(begun.warnings)
            done = None if begun is None else begun.result
            if begun is not None and done is not None:
                restore_pretrained_settings(config, begun)
                _require_same_run(begun, config)
        if done is not None:
            reporter.print(_closing_block(done, directory))
            return done
        with devices.collective_section():
            pretrained = open_pretrained(
                config,
                reporter,
                begun,
                config_lib.user_set(overrides),
                ignore_damage=options.ignore_damage,
            )
            data = open_source(config, reporter)
            require_examples(data.split)
            check_divisible(config, len(data.split.train), devices)
            check_batch_norm(config, data.shape[-1], len(data.split.train), devices)
            if pretrained is not None:
                check_backbone(config, data.shape, pretrained)
            data = with_cache(data, reporter)
            leak = measure_leak(data)
            report_leakage(data, leak, reporter)
        with devices.collective_section():
            network = make_network(config, data, pretrained, devices.axis_name)
            if can_cache_features(config, data):
                data = with_features(config, data, network, reporter)
            run, evaluator = build_run(
                config, data, devices, network, directory, reporter, options.callbacks
            )
            run.run_files = functools.partial(_recorded_files, directory)
            if (
                devices.is_process_zero
            ):  # only now: a recipe that was refused leaves the directory free
                _write_run_metadata(directory, begun, config, data, network, options.command)
        with devices.collective_section():
            _resume(run, begun, reporter, options)
        _compile(run, evaluator, data, reporter)
        with signals.stoppable(run.interrupt):
            run_loop(run)
        run.sync_interrupt()  # a signal may have come after the loop last looked
        if run.interrupted is not None:
            raise InterruptedRunError(_stop_message(run), run.interrupted)
        if run.stop_reason is not None:
            _print_stop(run, reporter)
        result = _finalize_run(run, evaluator, data, leak, reporter, overrides, options)
        reporter.print(_closing_block(result, directory))
        return result


def _check_outside_data(directory: Path, config: config_dict.ConfigDict) -> None:
    """Raises ConfigError for a run directory in the image folder, where it would be taken for a class."""
    if config.data.path is not None:
        folder = Path(config.data.path).resolve()
        if directory.resolve().is_relative_to(folder):
            raise ConfigError(
                f"--workdir={directory} is inside --config.data.path={config.data.path}: "
                "choose a --workdir outside of the images"
            )


def _require_same_run(begun: RunDirectory, config: config_dict.ConfigDict) -> None:
    """Raises ConfigError or DataError unless a finished run is of this recipe, and of the data it names."""
    begun.require_same_config(config)
    if config.data.path != begun.config.data.path:  # elsewhere; the same data or others
        source = registry.open_source(config.data, config_lib.data_root(config))
        begun.require_data(source.fingerprint)


def _write_run_metadata(
    directory: Path,
    begun: RunDirectory | None,
    config: config_dict.ConfigDict,
    data: Data,
    network: Network,
    command: str,
) -> None:
    """Writes what the run is, or refuses a directory that holds another one."""
    contents = {
        workdir.CONFIG: config_lib.to_json(config),
        workdir.SPLIT: data.split_csv,
        workdir.MANIFEST: json.dumps(_manifest(data, network, command), indent=1) + "\n",
    }
    if begun is not None:
        begun.require_same_config(config)
        begun.require_data(data.source.fingerprint)
        begun.require_weights(network.backbone_sha256)
        del contents[workdir.CONFIG]
        if begun.split is not None:
            begun.require_split(data.split_csv)
            del contents[workdir.SPLIT]
        if begun.manifest_or_none is not None:
            del contents[workdir.MANIFEST]
    if contents:
        checksums.write_files(directory, contents)


def _recorded_files(directory: Path) -> dict[str, FileRecord]:
    """What a checkpoint records of the files beside it."""
    names = (workdir.CONFIG, workdir.MANIFEST, workdir.SPLIT, METRICS)
    paths = {name: directory / name for name in names}
    return {name: file_record(path) for name, path in paths.items() if path.is_file()}


def _resume(run: Run, begun: RunDirectory | None, reporter: Reporter, options: Options) -> None:
    step, damaged = run.checkpoints.latest_valid()
    for message in damaged:
        reporter.line("warning", message)
    if step is None:
        if damaged:
            raise CheckpointError(
                f"no checkpoint in {run.checkpoints.folder} is whole: restore one, "
                "or begin again in another --workdir"
            )
        return
    if begun is not None and run.devices.is_process_zero:
        begun.metrics(step)  # which refuses one that is not as it was at that step
    run.resume(step, allow_nondeterministic_resume=options.allow_nondeterministic_resume)
    reporter.line("resume", f"from step {run.step} of {run.plan.total_steps}")


def _compile(run: Run, evaluator: Evaluator, data: Data, reporter: Reporter) -> None:
    """Compiles the training step for every shape of batch that will come, and the evaluation step."""
    if run.ending:
        return
    with reporter.phase("compile") as phase:
        for batch in run.batches.example_batches():
            run.train_step.compile(run.state, run.place(batch))
        evaluator.compile(run.state, data.split.test)
        phase.text = (
            f"training step, {environment.implementation(run.config)}, on {hardware.description()}, "
            f"{run.description}{', freed memory kept' if allocator.is_kept() else ''}"
        )


def _stop_message(run: Run) -> str:
    if run.step == 0:
        return "stopped before the first step; the same command begins again"
    return f"stopped at step {run.step}, saved; the same command goes on"


def _print_stop(run: Run, reporter: Reporter) -> None:
    """Says when and why training stopped before its plan's end, and which state is tested."""
    tested = f"the last state, of step {run.step}"
    if run.config.eval.use_best and run.best_step is not None:
        tested = f"the best checkpoint, of step {run.best_step}"
    elif run.best_step not in (None, run.step):
        tested += f" (--config.eval.use_best=True tests the best, of step {run.best_step})"
    epochs = run.plan.total_steps / run.plan.steps_per_epoch
    reporter.line(
        "stop",
        f"at step {run.step} of {run.plan.total_steps}, epoch {run.epoch:g} of {epochs:g}: "
        f"{run.stop_reason}; the test takes {tested}",
    )


def _finalize_run(
    run: Run,
    evaluator: Evaluator,
    data: Data,
    leak: Leak,
    reporter: Reporter,
    overrides: Mapping[str, Any],
    options: Options,
) -> results.Result:
    config = run.config
    state, tested = run.state, run.step
    if config.eval.use_best and run.best_step is not None:
        tested = run.best_step
        state, _ = run.checkpoints.restore(run.best_step, run.state)
    with reporter.phase("evaluate") as phase:
        test = evaluator(state, data.split.test)
        checked = evaluator(state, data.split.validation) if len(data.split.validation) else None
        others = {
            name: other.entry(state, data.split.test)
            for name, other in extra_test_evaluators(config, data, run.devices).items()
        }
        phase.text = f"{test.examples:,} test examples"
    predictions = evaluator.predictions(test, data.split.test)
    clean = results.test_entry(test, predictions)
    in_heads = models.count_parameters(models.auxiliary_part(run.state.params))
    result: results.Result = {
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "entry": config.entry,
        "model": config.model.name,
        "truncate_after": config.model.truncate_after,
        "weights": config.transfer.weights,
        "pretrained_on": config.transfer.pretrained_on,
        "freeze_backbone": config.transfer.freeze_backbone,
        "parameters": models.count_parameters(run.state.params) - in_heads,
        "auxiliary_parameters": in_heads,
        "on_cached_features": data.features is not None,
        "features_seconds": data.features_seconds,
        "trained_parameters": _trained(run, data)
        - (0 if config.transfer.freeze_backbone else in_heads),
        "data": config.data.name,
        "split": data.split.name,
        "split_sha256": sha256(data.split_csv),
        "groups": config.data.groups,
        "group_level": config.data.group_level,
        "leakage": leak.as_result(),
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
        "validation_accuracy": checked.accuracy if isinstance(checked, ClassScores) else None,
        "train_accuracy": run.last_epoch.get("accuracy") if run.last_epoch else None,
        "curves": "metrics.jsonl",
        "seconds": run.seconds,
        "images_per_second": _speed(run),
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
        contents[results.RESULT] = results.to_json(result)  # last: with it the run is finished
        checksums.write_files(run.workdir, contents, final=(METRICS,))
    return result


def _speed(run: Run) -> float | None:
    """Images per second; None in processes that write no lines, whose result is not stored."""
    return (
        median_speed(read_regular(run.workdir / METRICS)) if run.devices.is_process_zero else None
    )


def _trained(run: Run, data: Data) -> int:
    """Parameters that training may change, auxiliary heads included where all of the network is trained."""
    if not run.config.transfer.freeze_backbone:
        return models.count_parameters(run.state.params)
    parts = BackboneHeadPartition.of(models.create(run.config.model), (1, *data.shape))
    return models.count_parameters(parts.split(run.state.params)[0])


def _manifest(data: Data, network: Network, command: str) -> dict[str, Any]:
    return {
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


def _closing_block(result: results.Result, directory: Path) -> str:
    return results.summary_text(
        result,
        title=models.entry(result["model"]).title,
        data_title=TITLES[result["data"]],
        workdir=directory,
        reported=reported.entry(result["entry"]) if result["entry"] else None,
    )
