"""Train and evaluate image classifiers in JAX and Flax, and compare the results with reported ones.

import jaxnets

network = jaxnets.load("runs/lung_resnet-scratch-s0")
print(network.predict("slide.png")[0].label)
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_collections.config_dict import ConfigDict

    from jaxnets.evaluation.result import Result
    from jaxnets.experiment.predictor import Predictor, Regressor


def load(run_dir: str | os.PathLike[str], *, ignore_damage: bool = False) -> "Predictor | Regressor":
    """Loads the network of a run directory or weights folder: `predict(images)`, `classes`, `preprocess`.

    For networks of vectors `predict(inputs)` maps arrays to arrays, and there is no `preprocess`.
    Raises CheckpointError if the folder is neither, if no checkpoint is valid, or if a file is damaged; with
    `ignore_damage` a file that differs from its checksum only causes a warning.
    """
    from jaxnets.experiment import predictor  # imported here for a fast `import jaxnets`
    from jaxnets.runtime import xla

    xla.warn_of_unsafe_default()
    return predictor.load(run_dir, ignore_damage=ignore_damage)


def train(config: "str | ConfigDict", overrides: dict[str, Any] | None = None, **options: Any) -> "Result":
    """Trains a config and returns the result, as in result.json.

    Args:
        config: a config file, `PATH` or `PATH:VARIANT`, or a config made from `config.default_config()`.
        overrides: values of fields by dotted path.
        **options: those of `jaxnets.experiment.train.Options`: `workdir`, `callbacks` (additional
            `jaxnets.training.callbacks.Callback` objects), `allow_nondeterministic_resume`, `ignore_damage`.

    Raises:
        JaxnetsError: one of its subclasses in `jaxnets.errors`.
    """
    from jaxnets.experiment import train
    from jaxnets.runtime import xla

    xla.warn_of_unsafe_default()
    return train.train(config, overrides, train.Options(**options))
