"""Restores the trained state of a run directory, and reads pretrained weights."""

import dataclasses
import os
from pathlib import Path

import flax.linen as nn
import jax
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.evaluation import result as results
from jaxnets.experiment.network import RANDOM, Pretrained, hyperparameters, make_optimizer_bundle
from jaxnets.experiment.run_directory import CONFIG, UNUSABLE, RunDirectory, open_run
from jaxnets.interop import imagenet
from jaxnets.interop.weights import Preprocessing, Weights, is_weights_folder, read_weights
from jaxnets.io import command
from jaxnets.runtime import console, xla
from jaxnets.training.step import TrainState
from jaxnets.training.transfer import BackboneHeadPartition


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run's network, its state and step, and warnings for the user."""

    model: nn.Module
    state: TrainState
    step: int
    warnings: tuple[str, ...]


def restore_state(run: RunDirectory, shape: tuple[int, ...] | None = None) -> Restored:
    """The state that a run was tested with, for inputs of `shape` (by default the shape it was trained on).

    This is the checkpoint that result.json names or, for an unfinished run, the newest valid one. Raises
    CheckpointError if the former is damaged (with `ignore_damage` it warns and uses the latter), if no
    checkpoint is valid, or if it is of another network.
    """
    shape = shape or run.input_shape
    checkpoints = run.checkpoints()
    step, damaged = checkpoints.latest_valid()
    if step is None:
        reason = f": {damaged[0]}" if damaged else f" in {checkpoints.folder}"
        remedy = f"train with --workdir={run.path} first" if run.result is None else UNUSABLE
        raise CheckpointError(f"no valid checkpoint{reason}: {remedy}")
    warnings = list(damaged)
    tested = None if run.result is None else run.result["step"]
    if tested is not None and tested != step:
        damage = checkpoints.damage(tested)
        if damage is None:
            step = tested
        elif not run.ignore_damage:
            raise CheckpointError(
                f"the checkpoint that {results.RESULT} was measured with is damaged ({damage}): restore it "
                f"from a backup, or use step {step} instead with --ignore_damage"
            )
        else:
            found = f"step {tested}, which {results.RESULT} was measured with, is damaged ({damage})"
            warnings = [f"{found}: using step {step}"]
    model = models.create(run.config.model)
    state, _ = checkpoints.restore(step, abstract_state(run.config, model, shape))
    return Restored(model, state, step, tuple(warnings))


def abstract_state(config: config_dict.ConfigDict, model: nn.Module, shape: tuple[int, ...]) -> TrainState:
    """Shapes and dtypes of a run's state, for inputs of `shape`."""
    transfer = config.transfer.weights is not None
    parts = BackboneHeadPartition.of(model, (1, *shape)) if transfer else None
    numbers = hyperparameters(config, total_steps=1, steps_per_epoch=1)
    optimizer = make_optimizer_bundle(config, parts, numbers, steps_per_epoch=1).optimizer

    def initial_state() -> TrainState:
        variables = models.initialize(model, jax.random.key(0), (1, *shape))
        with_ema = config.train.ema_decay is not None
        return TrainState.create(variables, optimizer, seed=config.seed, with_ema=with_ema)

    return jax.eval_shape(initial_state)


def read_weights_or_run(folder: str | os.PathLike[str], *, ignore_damage: bool = False) -> Weights:
    """The weights of a weights folder, imagenet:NETWORK, or a run's tested checkpoint, as host arrays.

    A run's `source` has "data", "step", "warnings" and, if it used transfer.weights, "backbone". Raises
    CheckpointError if the folder is neither, or damaged; with `ignore_damage` a file of a run that does not
    match its checksum only causes a warning.
    """
    if imagenet.is_name(str(folder)):
        return imagenet.read(str(folder))
    directory = Path(folder)
    if is_weights_folder(directory):
        return read_weights(directory)
    if not [*directory.glob(CONFIG), *directory.glob(f"*/{CONFIG}")]:  # open_run names one of several runs
        raise CheckpointError(
            f"{directory} is neither a weights folder nor a run directory "
            f"(made by {command('import_weights')} and {command('train')})"
        )
    run = open_run(directory, ignore_damage=ignore_damage)
    console.warn(*run.warnings, *([] if run.result else [f"{directory} has not finished training"]))
    return read_run(run)


def read_run(run: RunDirectory) -> Weights:
    """The weights of a run's tested checkpoint as host arrays; see `read_weights_or_run`."""
    with xla.precision_of(run.config.model):  # may differ from that of a run that starts from it
        return weights_of(run, restore_state(run))


def weights_of(run: RunDirectory, restored: Restored) -> Weights:
    """The weights of a run's restored state, as `read_run` returns them."""
    config, shape = run.config, run.input_shape
    variables = jax.device_get(restored.state.variables(ema=config.eval.ema))
    preprocessing = None
    if len(shape) == 3:
        data = config.data
        preprocessing = Preprocessing(data.image_size, tuple(data.mean), tuple(data.std), data.resize)
    source: dict[str, object] = {"run": run.path.name, "data": config.data.name}
    source |= {"step": restored.step, "warnings": restored.warnings}
    if config.data.medical:
        source["medical"] = True
    if config.transfer.weights is not None:
        source["backbone"] = {
            "weights": Path(config.transfer.weights).name,  # without the folders of this machine
            "pretrained_on": config.transfer.pretrained_on,
            "freeze_backbone": config.transfer.freeze_backbone,
        }
    classes, result = tuple(run.manifest["classes"]) or None, run.result
    is_tested = result is not None and result["step"] == restored.step
    temperature = result.get("temperature") if result is not None and is_tested else None
    return Weights(variables, config.model, shape, classes, preprocessing, temperature, source=source)


def open_pretrained(
    config: config_dict.ConfigDict, existing: RunDirectory | None, *, ignore_damage: bool = False
) -> Pretrained | None:
    """The weights of transfer.weights, or None if it is not set.

    Uses the checkpoint of `existing`, the run that is resumed, if the weights no longer exist. With
    `ignore_damage` files that do not match their checksum cause a warning. Raises CheckpointError if there
    are no such weights or they are damaged.
    """
    name = config.transfer.weights
    if name in (None, RANDOM):
        return None
    if imagenet.is_name(name) and (existing is None or imagenet.is_installed(name)):
        try:
            return _pretrained(Path(name), imagenet.read(name))
        except ConfigError as error:
            raise ConfigError(
                f"{error}, or train without pretrained weights, as the variant :scratch of a config does"
            ) from error
    candidates = (Path(name), config_lib.data_root(config) / "weights" / name)
    for folder in candidates:
        if is_weights_folder(folder) or (folder / CONFIG).is_file():
            weights = read_weights_or_run(folder, ignore_damage=ignore_damage)
            return _pretrained(folder, weights)
    if (
        existing is not None
        and existing.config.transfer.weights == name
        and existing.checkpoints().latest_valid()[0] is not None
    ):
        found = _pretrained(existing.path, read_run(existing))
        console.log("note", f"{name} not found: using the backbone in the checkpoint of {existing.path}")
        return dataclasses.replace(found, backbone_sha256=existing.manifest.get("backbone_sha256"))
    if candidates[0].is_file():
        raise CheckpointError(
            f"--config.transfer.weights={name} is a file: run {command('import_weights')} {name} FOLDER first"
        )
    places = " or ".join(dict.fromkeys(map(str, candidates)))
    raise CheckpointError(
        f"--config.transfer.weights={name}: no weights folder or run directory at {places} "
        f"(made by {command('import_weights')} and {command('train')})"
    )


def _pretrained(path: Path, weights: Weights) -> Pretrained:
    console.warn(*weights.source.get("warnings", ()))
    expected = weights.preprocessing
    mean, std = (None, None) if expected is None else (expected.mean, expected.std)
    is_of_run = "run" in weights.source
    return Pretrained(path, weights.variables, weights.model, mean, std, is_of_run=is_of_run)
