"""Callbacks of the training loop."""

from ml_collections import config_dict

from jaxnets.training.callbacks.logs import MetricsLog, ShowProgress
from jaxnets.training.callbacks.loss_warnings import WarnOfLosses
from jaxnets.training.run import Callback


def make_callbacks(
    config: config_dict.ConfigDict, *, is_process_zero: bool, has_validation: bool
) -> list[Callback]:
    """Returns the callbacks of a config; only those of process zero write files and print."""
    callbacks: list[Callback] = []
    if is_process_zero:
        last_split = "test" if config.eval.monitor_test else "validation"
        callbacks += [MetricsLog(), ShowProgress(last_split), WarnOfLosses(config)]
    if is_process_zero and config.log.tensorboard:
        from jaxnets.training.callbacks.tensorboard import TensorBoard

        callbacks.append(TensorBoard())
    if has_validation:
        from jaxnets.training.callbacks.monitors import make_monitors

        callbacks += make_monitors(config)
    return callbacks
