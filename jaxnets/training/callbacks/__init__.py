"""Callbacks of the training loop."""

from ml_collections import config_dict
from rich.console import Console

from jaxnets.training.callbacks.base import Callback
from jaxnets.training.callbacks.checkpoint_best import CheckpointBest
from jaxnets.training.callbacks.early_stopping import EarlyStopping
from jaxnets.training.callbacks.loss_warnings import WarnOfLosses
from jaxnets.training.callbacks.progress import ShowProgress
from jaxnets.training.callbacks.reduce_lr_on_plateau import ReduceOnPlateau
from jaxnets.training.callbacks.writers import MetricsLog, TensorBoard


def make_callbacks(
    config: config_dict.ConfigDict, console: Console, *, is_process_zero: bool, has_validation: bool
) -> list[Callback]:
    """Returns the callbacks of a config; only those of process zero write files and print."""
    metric = config.monitor.metric
    callbacks: list[Callback] = []
    if is_process_zero:
        callbacks += [MetricsLog(), ShowProgress(console), WarnOfLosses(config, console)]
        callbacks += [TensorBoard()] if config.log.tensorboard else []
    if not has_validation:
        return callbacks
    if config.plateau.patience is not None:
        callbacks.append(ReduceOnPlateau(metric, **config.plateau.to_dict()))
    if config.early_stopping.patience is not None:
        callbacks.append(EarlyStopping(metric, **config.early_stopping.to_dict()))
    return [*callbacks, CheckpointBest(metric)]
