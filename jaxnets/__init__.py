"""Train, check and trust image classifiers in JAX and Flax, each result beside its published one.

import jaxnets

network = jaxnets.load("runs/lung_resnet-scratch-s0")
print(network.predict("slide.png")[0].label)
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxnets.app.predict import Predictor, Regressor
    from jaxnets.evaluation.result_schema import Result


def load(
    run_dir: str | os.PathLike[str], *, ignore_damage: bool = False
) -> "Predictor | Regressor":
    """The trained network of a run directory or weights folder: `predict(images)`, `classes`, `preprocess`.

    A network of vectors has no `preprocess`, and its `predict(inputs)` maps arrays to arrays.

    Raises CheckpointError where it is neither, where no checkpoint is whole, and where a file is damaged;
    with `ignore_damage` one that differs from its checksum is a warning.
    """
    from jaxnets.app import predict  # what uses one part of the package need not load all of it
    from jaxnets.runtime import xla

    xla.warn_of_unsafe_default()
    return predict.load(run_dir, ignore_damage=ignore_damage)


def train(config: str, overrides: dict[str, Any] | None = None, **options: Any) -> "Result":
    """Trains the recipe `PATH` or `PATH:VARIANT`; the result, as in result.json.

    `overrides` are fields by dotted path; options are those of `jaxnets.app.run.Options`: `workdir`,
    `hooks` (more of `jaxnets.training.hooks.Hook`), `allow_different_bits` and `ignore_damage`.
    """
    from jaxnets.app import run
    from jaxnets.runtime import xla

    xla.warn_of_unsafe_default()
    return run.train(config, overrides, run.Options(**options))
