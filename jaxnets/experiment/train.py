"""Trains a network from a config file and writes its result."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.data import sources
from jaxnets.data.dataset import Dataset
from jaxnets.data.splits import sha256
from jaxnets.errors import CheckpointError, ConfigError, InterruptedRunError, MachineError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.summary import summary_text
from jaxnets.experiment import environment, resolve, workdir
from jaxnets.experiment.build import build_run
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.experiment.evaluator import Evaluator, finish
from jaxnets.experiment.execution import device_memory
from jaxnets.experiment.leakage import measure_leakage, report_leakage, warn_of_pretraining
from jaxnets.experiment.network import Network, check_backbone, make_network
from jaxnets.experiment.run_directory import RunDirectory, open_run_if_exists
from jaxnets.io import command
from jaxnets.ops import cpu_kernels
from jaxnets.runtime import console, signals, xla
from jaxnets.training.callbacks import Callback
from jaxnets.training.callbacks.logs import METRICS
from jaxnets.training.checkpoint import file_record
from jaxnets.training.devices import Devices
from jaxnets.training.loop import train as run_loop
from jaxnets.training.run import Run

GIB = 1 << 30


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
    source: str | config_dict.ConfigDict,
    overrides: Mapping[str, Any] | None = None,
    options: Options | None = None,
) -> results.Result:
    """Trains a config, or that of `PATH` or `PATH:VARIANT`, to the end, or resumes an interrupted run.

    If the run has already finished, its summary is printed again. Raises the errors of `jaxnets.errors`;
    InterruptedRunError if a signal stopped training, after a checkpoint was saved.
    """
    xla.check_not_forked()
    options, overrides = options or Options(), dict(overrides or {})
    devices = Devices.all()
    with contextlib.ExitStack() as stack:
        if not devices.is_process_zero:
            stack.enter_context(console.silenced())
        config = resolve.load_config_or_demo(source, overrides)
        if note := models.skipped_aux_heads_note(config.model, config.data.image_size):
            console.log("note", note)
        directory = Path(options.workdir or workdir.default_workdir(config))
        _check_outside_data(directory, config)
        stack.enter_context(xla.precision_of(config.model))
        with devices.collective_section():
            existing = _open_and_lock(directory, config, options, devices, stack)
        if existing is not None and existing.result is not None:
            result = existing.result
            console.log("finished", f"{directory} holds this run already: nothing was trained")
        else:
            result = _train(config, overrides, options, devices, directory, existing)
        next_command = _next_command(result, directory)
        console.log_text(summary_text(result, workdir=directory, next_command=next_command))
        return result


def _train(
    config: config_dict.ConfigDict,
    overrides: Mapping[str, Any],
    options: Options,
    devices: Devices,
    directory: Path,
    existing: RunDirectory | None,
) -> results.Result:
    if environment.can_use_kernels(config):
        cpu_kernels.start_build()  # while data are prepared
    with devices.collective_section():
        pretrained = None
        if config.transfer.weights is not None:
            from jaxnets.experiment.restore import open_pretrained  # only transfer learning needs it

            pretrained = open_pretrained(config, existing, ignore_damage=options.ignore_damage)
        data = open_dataset(config)
        config = resolve.resolve(config, data.source, pretrained, config_lib.user_set(overrides))
        model = models.create(config.model, axis_name=devices.axis_name)
        resolve.check_bfloat16(config)
        resolve.check_not_empty(data.split)
        resolve.check_validation(config, data.split)
        resolve.check_divisible(config, len(data.split.train), devices)
        resolve.check_batch_norm(config, model, data.shape[-1], len(data.split.train), devices)
        if pretrained is not None:
            check_backbone(model, data.shape, pretrained)
        data = with_cache(config, data)
        leakage = measure_leakage(data)
        report_leakage(config, data, leakage)
        if pretrained is not None and pretrained.is_of_run:
            warn_of_pretraining(data, pretrained.path)
    with devices.collective_section():
        network = make_network(config, model, data, pretrained)
        if config.transfer.freeze_backbone:
            from jaxnets.experiment.cached_features import with_features

            data = with_features(config, data, network)
        run, evaluator = build_run(config, data, devices, network, directory, options.callbacks)
        run.run_files = lambda: {METRICS: file_record(directory / METRICS)}
        # Written only after all checks: a rejected config leaves the directory unused.
        if devices.is_process_zero:
            _write_run_metadata(directory, existing, config, data, network, options.command)
    with devices.collective_section():
        _resume(run, existing, options)
    _compile(run, evaluator, data)
    hint = "the same command resumes from the last checkpoint, if there is one"
    with signals.stoppable(run.interrupt, hint=hint):
        run_loop(run)
    run.sync_interrupt()  # a signal may have arrived after the loop's last check
    if run.interrupted is not None:
        message = "stopped before the first step; run the same command to start again"
        if run.step:
            message = f"stopped at step {run.step}, saved; run the same command to resume"
        raise InterruptedRunError(message, run.interrupted)
    if run.stop_reason is not None:
        _print_stop(run)
    return finish(run, evaluator, data, network, leakage, overrides, options.command)


def _next_command(result: results.Result, directory: Path) -> str:
    """What to do with a finished run; one without test examples cannot be evaluated."""
    is_tested = result["tests"] and "cross_validation" not in result
    name, arguments = ("evaluate", "") if is_tested else ("predict", " IMAGE_OR_FOLDER")
    network_file = models.registered_in(result["model"])
    imported = f" --import={network_file}" if network_file else ""
    return f"{command(name)} --workdir {directory}{imported}{arguments}"


def _check_outside_data(directory: Path, config: config_dict.ConfigDict) -> None:
    """Raises ConfigError if the run directory is in the image folder, where it would become a class."""
    images = config.data.path
    if images is not None and directory.resolve().is_relative_to(Path(images).resolve()):
        raise ConfigError(
            f"--workdir={directory} is inside --config.data.path={images}: "
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
    if existing is not None:
        console.warn(*existing.warnings)
    if existing is not None and existing.result is not None:
        existing.check_config(config)
        places = [(each.data.path, each.data.image_folders) for each in (config, existing.config)]
        if places[0] != places[1]:  # the data may have been moved
            source = sources.open_source(config.data, config_lib.data_root(config))
            existing.check_data(source.fingerprint)
    return existing


def _write_run_metadata(
    directory: Path,
    existing: RunDirectory | None,
    config: config_dict.ConfigDict,
    data: Dataset,
    network: Network,
    command: str,
) -> None:
    """Writes config, split and manifest, or checks them against those of an existing run."""
    manifest = {
        "command": command,
        "versions": environment.versions(),
        "hardware": xla.hardware(),
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
        existing.check_split(data.split_csv)
        stored = {workdir.SPLIT: existing.split, workdir.MANIFEST: existing.manifest_or_none}
        contents = {name: contents[name] for name, value in stored.items() if value is None}
    if contents:
        workdir.write_files(directory, contents)


def _resume(run: Run, existing: RunDirectory | None, options: Options) -> None:
    step, damaged = run.checkpoints.latest_valid()
    console.warn(*damaged)
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
    console.log("resume", f"from step {run.step} of {run.plan.total_steps}")


def _compile(run: Run, evaluator: Evaluator, data: Dataset) -> None:
    """Compiles the training step for each batch shape, and the evaluation step."""
    if run.ending:
        return
    implementation = environment.implementation(run.config).removeprefix("cpu: ")
    console.log("device", f"{xla.hardware()}; operations: {implementation}; {run.description}")
    with console.phase("compile") as phase:
        for batch in run.batches.example_batches():
            run.train_step.compile(run.state, run.shard_batch(batch))
        evaluator.compile(run.state, data.split.train)
        phase.text = "training and evaluation steps"
        if memory := run.train_step.memory():
            phase.text += f"; a training step uses {memory / GIB:.2g} GiB"
    _check_memory(run, memory)


def _check_memory(run: Run, needed: int) -> None:
    """Raises MachineError if a step needs more memory than a device has, before it fails or swaps."""
    available = device_memory(run.devices)
    if 0 < available < needed:
        remat = "" if run.config.train.remat else "--config.train.remat=True, "
        raise MachineError(
            f"a training step needs {needed / GIB:.2g} GiB of memory, the device has {available / GIB:.2g}: "
            f"use {remat}a smaller --config.train.batch_size or a larger --config.train.grad_accum_steps"
        )


def _print_stop(run: Run) -> None:
    """Prints when and why training stopped early, and which checkpoint is tested."""
    tested = f"the final state (step {run.step})"
    if run.config.eval.use_best and run.best_step is not None:
        tested = f"the best checkpoint (step {run.best_step})"
    elif run.best_step not in (None, run.step):
        tested += f"; --config.eval.use_best=True tests the best one (step {run.best_step})"
    epochs = run.plan.total_steps / run.plan.steps_per_epoch
    console.log(
        "stop",
        f"at step {run.step} of {run.plan.total_steps}, epoch {run.epoch:g} of {epochs:g}: "
        f"{run.stop_reason}; testing {tested}",
    )
