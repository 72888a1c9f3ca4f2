"""Opens the network of a run directory, a weights folder or a package of weights."""

from pathlib import Path

from jaxnets.data.images import MAX_PIXELS
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.experiment import uncertainty
from jaxnets.experiment.predictor import Predictor, Regressor
from jaxnets.experiment.restore import read_run
from jaxnets.experiment.run_directory import open_run
from jaxnets.interop import imagenet
from jaxnets.interop.weights import is_weights_folder, read_weights
from jaxnets.ops.cpu_kernels import Kernels
from jaxnets.runtime import xla


def open_network(
    directory: Path,
    *,
    ignore_damage: bool = False,
    calibrated: bool = True,
    coverage: float | None = None,
    ood: bool = False,
    test_time_augmentation: bool = False,
    kernels: Kernels | None = None,
) -> tuple[Predictor | Regressor, tuple[str, ...]]:
    """The network of a run directory, weights folder or imagenet:NETWORK, and warnings for the user.

    The arguments and errors are those of `jaxnets.load`, but `kernels` are C++ kernels to use instead of
    those of the process. It is a Regressor if the network takes vectors. The warnings say if files cannot be
    verified, and if this is not the state that the run was tested with.
    """
    xla.check_not_forked()
    if coverage is not None and not 0 < coverage < 1:
        raise ConfigError(f"--coverage={coverage:g} must be between 0 and 1, such as 0.9")
    wanted = "--coverage" if coverage is not None else "--ood" if ood else ""
    if test_time_augmentation and wanted:
        raise ConfigError(f"{wanted} is calibrated without --test_time_augmentation: leave out one of them")
    minimum, distance = None, None
    from_pip = imagenet.is_name(str(directory))
    if from_pip or is_weights_folder(directory):
        weights = imagenet.read(str(directory)) if from_pip else read_weights(directory)
        messages, max_pixels = (), MAX_PIXELS
        if wanted:
            raise ConfigError(f"{wanted} needs a run directory with its validation images, not {directory}")
        if weights.missing:
            raise CheckpointError(
                f"{directory} lacks {weights.missing[0]} and cannot predict: train it first"
            )
        if weights.preprocessing is None:
            raise CheckpointError(
                f"{directory} does not specify its preprocessing: import it with --preprocessing"
            )
    else:
        if str(directory) in imagenet.NETWORKS and not directory.exists():
            raise CheckpointError(f"{directory} does not exist: did you mean {imagenet.PREFIX}{directory}?")
        run = open_run(directory, ignore_damage=ignore_damage)
        weights, max_pixels = read_run(run), run.config.data.max_pixels
        unfinished = () if run.result else (f"{directory} has not finished training",)
        messages = (*run.warnings, *weights.source["warnings"], *unfinished)
        step = weights.source["step"]
        if weights.preprocessing is None and wanted:
            raise ConfigError(f"{wanted} is for images, and the network of {directory} takes vectors")
        if coverage is not None:
            minimum = uncertainty.minimum_probability(run, step, coverage)
        if ood:
            distance = uncertainty.read_feature_distance(run, step)
    if weights.preprocessing is None:
        return Regressor(weights), messages
    predictor = Predictor(
        weights,
        max_pixels=max_pixels,
        calibrated=calibrated,
        minimum_probability=minimum,
        feature_distance=distance,
        test_time_augmentation=test_time_augmentation,
        kernels=kernels,
    )
    return predictor, messages
