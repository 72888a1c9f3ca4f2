"""Checks of a config: ranges, contradictions, and fields that a run does not use."""

from collections.abc import Collection, Mapping
from typing import Any, cast

from ml_collections import config_dict

from jaxnets.config.conditions import AUTO, NETWORKS, SOURCES, Unmet
from jaxnets.config.field import UNITS, get_field, nearest, set_field
from jaxnets.config.fields import DURATIONS, FIELDS
from jaxnets.errors import ConfigError

KNOWN = {"model.name": NETWORKS, "data.name": SOURCES}
"""The known networks and sources; others may use every field."""

RENAMED: Mapping[str, str] = {
    "model.cut": "model.truncate_after",
    "model.lowering": "model.implementation",
    "transfer.frozen": "transfer.freeze_backbone",
    "transfer.body_share": "transfer.backbone_lr_multiplier",
    "transfer.head_first_epochs": "transfer.head_only_epochs",
    "transfer.head_first_steps": "transfer.head_only_steps",
    "transfer.head_first_examples": "transfer.head_only_examples",
    "train.accumulate": "train.grad_accum_steps",
    "train.steps_per_call": "train.steps_per_execution",
    "train.clip_norm": "train.clip_grad_norm",
    "optimizer.decoupled": "optimizer.decoupled_weight_decay",
    "plateau.least_scale": "plateau.min_scale",
    "plateau.threshold": "plateau.min_delta",
    "early_stopping.least_gain": "early_stopping.min_delta",
    "eval.follow_test": "eval.monitor_test",
}
"""New names of fields of earlier versions."""


def check_field(path: str) -> None:
    """Raises ConfigError, with a suggestion, if there is no field with this path."""
    if path in FIELDS:
        return
    if new := RENAMED.get(path):
        raise ConfigError(f"--config.{path} was renamed to --config.{new}: use the new name")
    inside = next((field for field in FIELDS if field.startswith(path + ".")), None)
    if inside is not None:
        raise ConfigError(f"--config.{path} is a group of fields: set one of them, such as {inside}")
    same_name = [field for field in FIELDS if field.split(".")[-1] == path.split(".")[-1]]
    hint = nearest(path, FIELDS if "." in path else same_name) or nearest(path, FIELDS)
    raise ConfigError(f"unknown config field {path!r}{hint}; --print_config lists all fields")


class _ConfigValues:
    """The values of a config, for conditions."""

    def __init__(self, config: config_dict.ConfigDict):
        self._config = config

    def possible(self, path: str) -> tuple[Any, ...]:
        value = get_field(self._config, path)
        if path == "data.name" and value in AUTO:
            return AUTO[value]
        if path in KNOWN and value not in KNOWN[path]:
            return KNOWN[path]
        return (value,)

    def unmet(self, path: str) -> Unmet | None:
        return FIELDS[path].used.unmet(self)


def unused(config: config_dict.ConfigDict) -> dict[str, Unmet]:
    """Returns the fields that a run of the config does not use, with the reasons."""
    values = _ConfigValues(config)
    return {path: unmet for path in FIELDS if (unmet := values.unmet(path)) is not None}


def reset_unused(config: config_dict.ConfigDict, overrides: Collection[str] = ()) -> None:
    """Sets every field that the run does not use to its default.

    Raises ConfigError if the user set one of them (`overrides`), because it would have no effect.
    """
    found = unused(config)
    for path, unmet in found.items():
        if path in overrides:
            raise ConfigError(
                f"--config.{path}={get_field(config, path)} is not used because {unmet.state}: "
                f"{unmet.remedy}, or remove it"
            )
    for path in found:
        set_field(config, path, FIELDS[path].default)


def used_fields(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """Returns a copy of the config with unused fields at their defaults, for comparisons."""
    copy = config_dict.ConfigDict(cast(Any, config))  # not `copy_and_resolve_references`: it may be frozen
    reset_unused(copy)
    return copy


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


ON_HUB = {
    "resnet50": "hub:timm/resnet50.tv_in1k",
    "inception_v3": "hub:timm/inception_v3.tv_in1k",
    "densenet121": "hub:timm/densenet121.tv_in1k",
}
"""ImageNet weights for scripts/import_weights.py by network; others need a file."""


def check_weights(config: config_dict.ConfigDict, overrides: Collection[str]) -> None:
    """Raises ConfigError if a config file needs pretrained weights and transfer.weights is not set.

    Fields among `overrides` are rejected later, as unused.
    """
    if config.transfer.weights is not None:
        return
    for path, field in FIELDS.items():
        is_set_by_file = path.startswith("transfer.") and path not in overrides
        if is_set_by_file and get_field(config, path) != field.default:
            source = ON_HUB.get(config.model.name, "FILE")
            folder = f"data/weights/{config.model.name}"
            raise ConfigError(
                f"{config.name} needs pretrained weights: get them with "
                f"python scripts/import_weights.py {source} {folder}, then add "
                f"--config.transfer.weights={folder}; use random for an untrained backbone"
            )
