"""The weights of a folder, be it a weights folder or a run directory."""

import os
from pathlib import Path
from typing import Any

import jax
from ml_collections.config_dict import ConfigDict

from jaxnets.errors import CheckpointError
from jaxnets.experiment import workdir
from jaxnets.experiment.restore import restore_state
from jaxnets.experiment.run_directory import open_run, print_warnings
from jaxnets.interop.weights import Preprocessing, Weights, is_weights_folder, read_weights
from jaxnets.runtime.precision import precision_of


def read(folder: str | os.PathLike[str], *, ignore_damage: bool = False) -> Weights:
    """What a weights folder holds, or the tested checkpoint of a run directory as the same.

    A run's `source` has the step under "step", what must be known of it under "warnings", and, where it
    began with a body that was trained before, whose under "body".
    They are arrays on the host, in the network's own precision.
    Raises CheckpointError where it is neither, or damaged; with `ignore_damage` a file of a run that differs
    from its checksum is a warning on standard error.
    """
    directory = Path(folder)
    if is_weights_folder(directory):
        return read_weights(directory)
    if not (directory / workdir.CONFIG).is_file():
        raise CheckpointError(
            f"{directory} is neither a weights folder nor a run directory: "
            "scripts/import_weights.py makes the one, scripts/train.py the other"
        )
    run = open_run(directory, ignore_damage=ignore_damage)
    print_warnings(run.warnings)
    config, manifest, shape = run.config, run.manifest, run.input_shape
    with precision_of(config.model):
        restored = restore_state(run)
        variables = jax.device_get(restored.state.variables(ema=config.eval.ema))
    of_images = len(shape) == 3
    return Weights(
        variables=variables,
        model=config.model,
        input_shape=shape,
        classes=tuple(manifest["classes"]) or None,
        preprocessing=Preprocessing(
            config.data.image_size,
            tuple(config.data.mean),
            tuple(config.data.std),
            config.data.resize,
        )
        if of_images
        else None,
        source={
            "run": directory.name,
            "step": restored.step,
            "warnings": restored.warnings,
            **_backbone(config),
        },
    )


def _backbone(config: ConfigDict) -> dict[str, Any]:
    """Whose body a transferred network has, and whether training left it as it was."""
    if config.transfer.weights is None:
        return {}
    given = config.transfer  # of a path, the name: the rest is of this machine
    message = {"weights": Path(given.weights).name, "pretrained_on": given.pretrained_on}
    return {"body": {**message, "freeze_backbone": given.freeze_backbone}}
