"""Callbacks of the training loop."""

import os
import pkgutil
import sys
from collections.abc import Sequence

from ml_collections import config_dict

from jaxnets.errors import ConfigError
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


def import_callbacks(names: Sequence[str]) -> list[Callback]:
    """Returns an instance of each class MODULE:CLASS, made without arguments.

    Modules may be in the current folder. Raises ConfigError if one cannot be imported or is not a Callback.
    """
    if names and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    made: list[Callback] = []
    for name in names:
        try:
            callback = pkgutil.resolve_name(name)()
        except Exception as error:
            raise ConfigError(f"--callbacks={name}: {type(error).__name__}: {error}") from error
        if not isinstance(callback, Callback):
            raise ConfigError(f"--callbacks={name} is not a subclass of jaxnets.training.callbacks.Callback")
        made.append(callback)
    return made
