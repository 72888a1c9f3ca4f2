"""Everything with a side effect on a run: one idea a class."""

from ml_collections import config_dict
from rich.console import Console

from jaxnets.training.callbacks.base import Hook
from jaxnets.training.callbacks.checkpoint_best import KeepBest
from jaxnets.training.callbacks.early_stopping import EarlyStopping, StopOnNonFinite
from jaxnets.training.callbacks.loss_warnings import WarnOfLosses
from jaxnets.training.callbacks.progress import ShowProgress
from jaxnets.training.callbacks.reduce_lr_on_plateau import ReduceOnPlateau
from jaxnets.training.callbacks.writers import MetricsLog, TensorBoard

__all__ = [
    "EarlyStopping",
    "Hook",
    "KeepBest",
    "MetricsLog",
    "ReduceOnPlateau",
    "ShowProgress",
    "StopOnNonFinite",
    "TensorBoard",
    "WarnOfLosses",
    "make_hooks",
]


def make_hooks(
    config: config_dict.ConfigDict, console: Console, *, writes: bool, validates: bool
) -> list[Hook]:
    """The hooks that a recipe asks for; only the process that `writes` has those that write.

    Those that watch a validation metric are there only where something `validates`.
    """
    metric = config.monitor.metric
    hooks: list[Hook] = []
    if writes:
        hooks += [MetricsLog(), ShowProgress(console), WarnOfLosses(config, console)]
        hooks += [TensorBoard()] if config.log.tensorboard else []
    hooks.append(StopOnNonFinite())  # after the writers, so that the line is there to be read
    if not validates:
        return hooks
    if config.plateau.patience is not None:
        hooks.append(
            ReduceOnPlateau(
                metric,
                patience=config.plateau.patience,
                factor=config.plateau.factor,
                cooldown=config.plateau.cooldown,
                threshold=config.plateau.threshold,
                least_scale=config.plateau.least_scale,
            )
        )
    if config.early_stopping.patience is not None:
        hooks.append(
            EarlyStopping(
                metric,
                patience=config.early_stopping.patience,
                least_gain=config.early_stopping.least_gain,
            )
        )
    return [*hooks, KeepBest(metric)]
