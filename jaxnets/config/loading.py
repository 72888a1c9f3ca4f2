"""Creates, loads, checks and saves configs."""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from ml_collections import config_dict

from jaxnets.config.conditions import Unmet, Values
from jaxnets.config.field import UNITS
from jaxnets.config.fields import DURATIONS, FIELDS
from jaxnets.config.files import import_config
from jaxnets.errors import ConfigError, suggest
from jaxnets.io import command

ON_HUB = {
    name: f"hub:timm/{name}.tv_in1k"
    for name in (
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        *("vgg16", "vgg16_bn", "inception_v3", "densenet121"),
    )
} | {
    "xception": "hub:timm/legacy_xception.tf_in1k",
    "mobilenet_v2": "hub:timm/mobilenetv2_100.ra_in1k",
    "efficientnet_b0": "hub:timm/efficientnet_b0.ra_in1k",
    "convnext_tiny": "hub:timm/convnext_tiny.fb_in1k",
    **{f"efficientnet_lite{n}": f"hub:timm/tf_efficientnet_lite{n}.in1k" for n in (0, 1, 2)},
}
"""ImageNet weights for scripts/import_weights.py by network; others need a file."""


def get_field(config: config_dict.ConfigDict, path: str) -> Any:
    """Returns the value at a dotted path."""
    value: Any = config
    for name in path.split("."):
        value = value[name]
    return value


def set_field(config: config_dict.ConfigDict, path: str, value: Any) -> None:
    """Sets the value at a dotted path."""
    section, _, name = path.rpartition(".")
    (get_field(config, section) if section else config)[name] = value


def default_config() -> config_dict.ConfigDict:
    """Returns a locked config with every field at its default."""
    config = config_dict.ConfigDict()
    for path, field in FIELDS.items():
        *sections, name = path.split(".")
        section = config
        for key in sections:
            if key not in section:
                section[key] = config_dict.ConfigDict()
            section = section[key]
        section[name] = config_dict.placeholder(field.type) if field.default is None else field.default
    return config.lock()


def steps(config: config_dict.ConfigDict, prefix: str, steps_per_epoch: int) -> int | None:
    """Returns a duration in steps, rounded up; None if it is not set."""
    count, epochs, examples = (get_field(config, f"{prefix}{unit}") for unit in UNITS)
    if count is not None:
        return count
    if epochs is not None:
        return epochs * steps_per_epoch
    return None if examples is None else -(-examples // config.train.batch_size)


def data_root(config: config_dict.ConfigDict) -> Path:
    """Returns the data folder: config.data.root, else $JAXNETS_DATA, else ./data."""
    return Path(config.data.root or os.environ.get("JAXNETS_DATA") or "data")


def to_json(config: config_dict.ConfigDict) -> str:
    """Returns the config as JSON with sorted fields, as in config.json."""
    return json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"


def from_json(text: str) -> config_dict.ConfigDict:
    """Returns the config that `to_json` wrote; missing fields get their defaults.

    Raises ConfigError for unknown fields.
    """
    return _from_dict(json.loads(text))


def _from_dict(tree: Mapping[str, Any]) -> config_dict.ConfigDict:
    config = default_config()
    for path, value in _flatten(tree):
        check_field(path)
        set_field(config, path, tuple(value) if isinstance(value, list) else value)
    return config


def differences(first: config_dict.ConfigDict, second: config_dict.ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns the fields in which two configs differ, with both values."""
    pairs = {path: (get_field(first, path), get_field(second, path)) for path in FIELDS}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def load_config(
    source: str | config_dict.ConfigDict, overrides: Mapping[str, Any] | None = None
) -> config_dict.ConfigDict:
    """Returns a validated config with overrides by dotted path.

    An override of a duration replaces the config's value in another unit; None unsets an optional field.
    Unused fields that the config sets are reset to their defaults. `source` is `PATH`, `PATH:VARIANT` or a
    config, which is copied. Raises ConfigError if the file, the variant, a field or a value is invalid, or an
    unused field is overridden.
    """
    overrides = dict(overrides or {})
    config = import_config(source) if isinstance(source, str) else _copy(source)
    for field in overrides:
        check_field(field)
    _replace_units(config, overrides)
    for path, value in overrides.items():
        try:
            config.update_from_flattened_dict({path: value})
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(
                f"{config.name}: --config.{path}={value!r} is invalid: it must be {FIELDS[path].expected}"
            ) from error
    _check_ranges(config)
    _check_weights(config, overrides.keys())
    reset_unused(config, user_set(overrides))
    _check_consistency(config)
    return config


def _copy(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    try:
        copy = _from_dict(config.to_dict())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the config is invalid: {' '.join(str(error).split())}") from error
    copy.name = copy.name or copy.model.name
    return copy


def user_set(overrides: Mapping[str, Any]) -> set[str]:
    """Returns the fields that overrides set (None unsets a field)."""
    return {path for path, value in overrides.items() if value is not None}


def _replace_units(config: config_dict.ConfigDict, overrides: Mapping[str, Any]) -> None:
    for prefix in DURATIONS:
        given = [unit for unit in UNITS if overrides.get(f"{prefix}{unit}") is not None]
        if len(given) == 1:
            for unit in UNITS:
                set_field(config, f"{prefix}{unit}", None)


def check_field(path: str) -> None:
    """Raises ConfigError, with a suggestion, if there is no field with this path."""
    if path in FIELDS:
        return
    inside = next((field for field in FIELDS if field.startswith(path + ".")), None)
    if inside is not None:
        raise ConfigError(f"--config.{path} is a group of fields: set one of them, such as {inside}")
    same_name = [field for field in FIELDS if field.split(".")[-1] == path.split(".")[-1]]
    hint = suggest(path, FIELDS if "." in path else same_name) or suggest(path, FIELDS)
    raise ConfigError(f"unknown config field {path!r}{hint}; --print_config lists all fields")


def unused(config: config_dict.ConfigDict) -> dict[str, Unmet]:
    """Returns the fields that a run of the config does not use, with the reasons."""
    values = Values(lambda path: get_field(config, path), lambda path: FIELDS[path].used)
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
    _check_ranges(config)
    _check_consistency(config)


def _check_ranges(config: config_dict.ConfigDict) -> None:
    for path, field in FIELDS.items():
        value = get_field(config, path)
        if problem := field.problem(value):
            raise ConfigError(f"--config.{path}={value!r} is out of range: {problem}")


def _check_consistency(config: config_dict.ConfigDict) -> None:
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
    if config.train.balanced_sampling and config.train.class_weights:
        raise ConfigError(
            f"--config.train.class_weights={config.train.class_weights} and "
            "--config.train.balanced_sampling=True both correct the class frequencies: remove one"
        )
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


def _check_weights(config: config_dict.ConfigDict, overrides: Collection[str]) -> None:
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
                f"{command('import_weights')} {source} {folder}, then add "
                f"--config.transfer.weights={folder}; use random for an untrained backbone"
            )
