"""Checks of a config: the range of each value and the consistency of several."""

from ml_collections import config_dict

from jaxnets.config.access import get_field
from jaxnets.config.field import UNITS
from jaxnets.config.fields import DURATIONS, FIELDS
from jaxnets.errors import ConfigError


def validate(config: config_dict.ConfigDict) -> None:
    """Raises ConfigError for a value that is out of range or contradicts another."""
    check_ranges(config)
    check_consistency(config)


def check_ranges(config: config_dict.ConfigDict) -> None:
    """Raises ConfigError for a value that is out of range."""
    for path, field in FIELDS.items():
        value = get_field(config, path)
        problem = field.problem(value)
        if problem:
            raise ConfigError(f"--config.{path}={value!r} is out of range: {problem}")


def check_consistency(config: config_dict.ConfigDict) -> None:
    """Raises ConfigError for a value that contradicts another."""
    for prefix in DURATIONS:
        given = [f"{prefix}{u}" for u in UNITS if get_field(config, f"{prefix}{u}") is not None]
        if len(given) > 1:
            raise ConfigError(
                f"--config.{given[0]} and --config.{given[1]} set the same duration: remove one"
            )
    if all(config.train[unit] is None for unit in UNITS):
        raise ConfigError("the training duration is not set: set --config.train.epochs, for example")
    if config.model.compute_dtype not in (None, "float32", "float64", "bfloat16"):
        raise ConfigError(
            f"--config.model.compute_dtype={config.model.compute_dtype!r} is out of range: "
            "it must be None, float32, float64 or bfloat16"
        )
    if len(config.data.fractions) != 3 or abs(sum(config.data.fractions) - 1) > 1e-6:
        raise ConfigError(
            f"--config.data.fractions={config.data.fractions} must be three fractions that add up to 1"
        )
    if config.data.fractions[0] <= 0:
        raise ConfigError("--config.data.fractions: the training fraction must be above 0")
    _validate_folds(config.data)
    if config.train.batch_size % config.train.grad_accum_steps:
        raise ConfigError(
            f"--config.train.batch_size={config.train.batch_size} is not a multiple of "
            f"--config.train.grad_accum_steps={config.train.grad_accum_steps}"
        )
    if config.schedule.name == "step" and all(
        config.schedule[f"decay_every_{unit}"] is None for unit in UNITS
    ):
        raise ConfigError("--config.schedule.name=step needs --config.schedule.decay_every_epochs")


def _validate_folds(data: config_dict.ConfigDict) -> None:
    if data.folds in (1, 2):
        raise ConfigError(
            f"--config.data.folds={data.folds} is out of range: it must be 0 or at least 3, "
            "because one fold is for testing and one for validation"
        )
    if data.fold >= max(data.folds, 1):
        raise ConfigError(
            f"--config.data.fold={data.fold} is out of range: it must be below "
            f"--config.data.folds={data.folds}"
        )
