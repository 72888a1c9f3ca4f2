"""Train, check and trust image classifiers in JAX and Flax, each result beside its published one.

import jaxnets

network = jaxnets.load("runs/lung_resnet-scratch-s0")
print(network.predict("slide.png")[0].label)
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxnets.evaluation.result_schema import Result
    from jaxnets.experiment.predictor import Predictor, Regressor


def load(
    run_dir: str | os.PathLike[str], *, ignore_damage: bool = False
) -> "Predictor | Regressor":
    """The trained network of a run directory or weights folder: `predict(images)`, `classes`, `preprocess`.

    A network of vectors has no `preprocess`, and its `predict(inputs)` maps arrays to arrays.

    Raises CheckpointError where it is neither, where no checkpoint is whole, and where a file is damaged;
    with `ignore_damage` one that differs from its checksum is a warning.
    """
    from jaxnets.experiment import (
        predictor,  # what uses one part of the package need not load all of it
    )
    from jaxnets.runtime import xla

    xla.warn_of_unsafe_default()
    return predictor.load(run_dir, ignore_damage=ignore_damage)


def train(config: str, overrides: dict[str, Any] | None = None, **options: Any) -> "Result":
    """Trains the recipe `PATH` or `PATH:VARIANT`; the result, as in result.json.

    `overrides` are fields by dotted path. The options are those of `jaxnets.experiment.train.Options`:
    `workdir`, `callbacks` (further instances of `jaxnets.training.callbacks.Callback`),
    `allow_nondeterministic_resume` and `ignore_damage`.
    """
    from jaxnets.experiment import train
    from jaxnets.runtime import xla

    xla.warn_of_unsafe_default()
    return train.train(config, overrides, train.Options(**options))
