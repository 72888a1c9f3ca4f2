"""What a recipe's values must be: each in its range, and no two in contradiction."""

from ml_collections import config_dict

from jaxnets.config.access import get_field
from jaxnets.config.field import UNITS
from jaxnets.config.fields import DURATIONS, FIELDS
from jaxnets.errors import ConfigError


def validate(config: config_dict.ConfigDict) -> None:
    """Raises ConfigError for the first value that is out of range or contradicts another."""
    require_ranges(config)
    require_agreement(config)


def require_ranges(config: config_dict.ConfigDict) -> None:
    """Raises ConfigError for the first value that is out of its field's range."""
    for path, field in FIELDS.items():
        value = get_field(config, path)
        problem = field.problem(value)
        if problem:
            raise ConfigError(f"--config.{path}={value!r} is out of range: {problem}")


def require_agreement(config: config_dict.ConfigDict) -> None:
    """Raises ConfigError for the first value that contradicts another."""
    for prefix in DURATIONS:
        given = [f"{prefix}{u}" for u in UNITS if get_field(config, f"{prefix}{u}") is not None]
        if len(given) > 1:
            raise ConfigError(
                f"--config.{given[0]} and --config.{given[1]} give one duration twice: keep one"
            )
    if all(config.train[unit] is None for unit in UNITS):
        raise ConfigError("how long to train is not given: set --config.train.epochs, for example")
    if config.model.compute_dtype not in (None, "float32", "float64", "bfloat16"):
        raise ConfigError(
            f"--config.model.compute_dtype={config.model.compute_dtype!r} is out of range: "
            "it must be None, float32, float64 or bfloat16"
        )
    if len(config.data.fractions) != 3 or abs(sum(config.data.fractions) - 1) > 1e-6:
        raise ConfigError(
            f"--config.data.fractions={config.data.fractions} must be three shares that add up to 1"
        )
    if config.data.fractions[0] <= 0:
        raise ConfigError("--config.data.fractions leaves nothing to train on")
    _validate_folds(config.data)
    if config.train.batch_size % config.train.grad_accum_steps:
        raise ConfigError(
            f"--config.train.batch_size={config.train.batch_size} is no multiple of "
            f"--config.train.grad_accum_steps={config.train.grad_accum_steps}"
        )
    if config.schedule.name == "step" and all(
        config.schedule[f"decay_every_{unit}"] is None for unit in UNITS
    ):
        raise ConfigError("--config.schedule.name=step needs --config.schedule.decay_every_epochs")


def _validate_folds(data: config_dict.ConfigDict) -> None:
    if data.folds in (1, 2):
        raise ConfigError(
            f"--config.data.folds={data.folds} is out of range: one fold tests, one validates, "
            "so it must be 3 or more, or 0"
        )
    if data.fold >= max(data.folds, 1):
        raise ConfigError(
            f"--config.data.fold={data.fold} is out of range: it must be below "
            f"--config.data.folds={data.folds}"
        )
