"""Reads weights from a weights folder or a run directory."""

import os
from pathlib import Path

import jax

from jaxnets.errors import CheckpointError
from jaxnets.experiment import workdir
from jaxnets.experiment.restore import restore_state
from jaxnets.experiment.run_directory import open_run, print_warnings
from jaxnets.interop.weights import Preprocessing, Weights, is_weights_folder, read_weights
from jaxnets.runtime.xla import precision_of


def read(folder: str | os.PathLike[str], *, ignore_damage: bool = False) -> Weights:
    """The weights of a weights folder, or of the tested checkpoint of a run directory, as host arrays.

    A run's `source` has "step", "warnings" and, if it used transfer.weights, "body". Raises CheckpointError
    if the folder is neither, or damaged; with `ignore_damage` a file of a run that does not match its
    checksum only prints a warning.
    """
    directory = Path(folder)
    if is_weights_folder(directory):
        return read_weights(directory)
    if not (directory / workdir.CONFIG).is_file():
        raise CheckpointError(
            f"{directory} is neither a weights folder nor a run directory "
            "(made by scripts/import_weights.py and scripts/train.py)"
        )
    run = open_run(directory, ignore_damage=ignore_damage)
    print_warnings(run.warnings)
    config, manifest, shape = run.config, run.manifest, run.input_shape
    with precision_of(config.model):
        restored = restore_state(run)
        variables = jax.device_get(restored.state.variables(ema=config.eval.ema))
    preprocessing = None
    if len(shape) == 3:
        preprocessing = Preprocessing(
            config.data.image_size,
            tuple(config.data.mean),
            tuple(config.data.std),
            config.data.resize,
        )
    source: dict[str, object] = {
        "run": directory.name,
        "step": restored.step,
        "warnings": restored.warnings,
    }
    if config.transfer.weights is not None:
        source["body"] = {
            "weights": Path(config.transfer.weights).name,  # without the folders of this machine
            "pretrained_on": config.transfer.pretrained_on,
            "freeze_backbone": config.transfer.freeze_backbone,
        }
    return Weights(
        variables=variables,
        model=config.model,
        input_shape=shape,
        classes=tuple(manifest["classes"]) or None,
        preprocessing=preprocessing,
        source=source,
    )
