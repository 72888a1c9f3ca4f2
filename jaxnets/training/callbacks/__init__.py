"""Everything with a side effect on a run: one idea a class."""

from ml_collections import config_dict
from rich.console import Console

from jaxnets.training.callbacks.base import Callback
from jaxnets.training.callbacks.checkpoint_best import CheckpointBest
from jaxnets.training.callbacks.early_stopping import EarlyStopping, StopOnNonFinite
from jaxnets.training.callbacks.loss_warnings import WarnOfLosses
from jaxnets.training.callbacks.progress import ShowProgress
from jaxnets.training.callbacks.reduce_lr_on_plateau import ReduceOnPlateau
from jaxnets.training.callbacks.writers import MetricsLog, TensorBoard

__all__ = [
    "Callback",
    "CheckpointBest",
    "EarlyStopping",
    "MetricsLog",
    "ReduceOnPlateau",
    "ShowProgress",
    "StopOnNonFinite",
    "TensorBoard",
    "WarnOfLosses",
    "make_callbacks",
]


def make_callbacks(
    config: config_dict.ConfigDict, console: Console, *, writes: bool, validates: bool
) -> list[Callback]:
    """The hooks that a recipe asks for; only the process that `writes` has those that write.

    Those that watch a validation metric are there only where something `validates`.
    """
    metric = config.monitor.metric
    callbacks: list[Callback] = []
    if writes:
        callbacks += [MetricsLog(), ShowProgress(console), WarnOfLosses(config, console)]
        callbacks += [TensorBoard()] if config.log.tensorboard else []
    callbacks.append(StopOnNonFinite())  # after the writers, so that the line is there to be read
    if not validates:
        return callbacks
    if config.plateau.patience is not None:
        callbacks.append(
            ReduceOnPlateau(
                metric,
                patience=config.plateau.patience,
                factor=config.plateau.factor,
                cooldown=config.plateau.cooldown,
                threshold=config.plateau.min_delta,
                min_scale=config.plateau.min_scale,
            )
        )
    if config.early_stopping.patience is not None:
        callbacks.append(
            EarlyStopping(
                metric,
                patience=config.early_stopping.patience,
                min_delta=config.early_stopping.min_delta,
            )
        )
    return [*callbacks, CheckpointBest(metric)]
