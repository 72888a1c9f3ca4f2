"""The config of a run: its fields, with defaults and checks.

A config file starts from `default_config()` and sets fields. Derived values, such as numbers of steps, are
computed when a run starts.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets.config.access import get_field, set_field
from jaxnets.config.field import UNITS, Field, closest, nearest
from jaxnets.config.fields import DURATIONS, FIELDS, RENAMED
from jaxnets.config.transfer import check_weights
from jaxnets.config.unused import reset_unused, unused, used_fields
from jaxnets.config.uses import AUTO, NETWORKS, SOURCES, SQUARED_ERRORS
from jaxnets.config.validation import check_consistency, check_ranges, validate
from jaxnets.errors import ConfigError

__all__ = [
    "AUTO",
    "DURATIONS",
    "FIELDS",
    "NETWORKS",
    "SOURCES",
    "SQUARED_ERRORS",
    "UNITS",
    "Field",
    "apply_variant",
    "check_field",
    "data_root",
    "default_config",
    "differences",
    "from_json",
    "get_field",
    "import_config",
    "load_config",
    "nearest",
    "reset_unused",
    "set_field",
    "steps",
    "to_json",
    "unused",
    "used_fields",
    "user_set",
    "validate",
]


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
        unset = field.default is None
        section[name] = config_dict.placeholder(field.type) if unset else field.default
    return config.lock()


def apply_variant(
    config: config_dict.ConfigDict,
    name: str,
    variant: str,
    variants: Mapping[str, Callable[[config_dict.ConfigDict], None]],
) -> config_dict.ConfigDict:
    """Applies a variant of a config file and names the config NAME:VARIANT.

    Raises ConfigError for an unknown variant.
    """
    if variant not in variants:
        raise ConfigError(
            f"configs/{name}.py: unknown variant {variant!r}{nearest(variant, variants)}; "
            f"variants: {', '.join(variants)}"
        )
    variants[variant](config)
    config.name = f"{name}:{variant}"
    return config


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


def load_config(spec: str, overrides: Mapping[str, Any] | None = None) -> config_dict.ConfigDict:
    """Returns the validated config of `PATH` or `PATH:VARIANT`, with overrides by dotted path.

    An override of a duration replaces the file's value in another unit; None unsets an optional field.
    Unused fields that the file sets are reset to their defaults. Raises ConfigError if the file, the
    variant, a field or a value is invalid, and for an override of an unused field.
    """
    overrides = dict(overrides or {})
    config = import_config(spec)
    for field in overrides:
        check_field(field)
    _replace_units(config, overrides)
    for path, value in overrides.items():
        try:
            config.update_from_flattened_dict({path: value})
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(
                f"{spec}: --config.{path}={value!r} is invalid: it must be {FIELDS[path].expected}"
            ) from error
    check_ranges(config)
    check_weights(config, overrides)
    reset_unused(config, user_set(overrides))
    check_consistency(config)
    return config


def user_set(overrides: Mapping[str, Any]) -> set[str]:
    """Returns the fields that overrides set (None unsets a field)."""
    return {path for path, value in overrides.items() if value is not None}


def import_config(spec: str) -> config_dict.ConfigDict:
    """Returns the config of `PATH` or `PATH:VARIANT` without further checks.

    Raises ConfigError if the file or variant does not exist or the file is not a config file.
    """
    path, _, variant = spec.partition(":")
    if not Path(path).is_file():
        raise ConfigError(f"config file {path!r} not found{_config_files(path)}")
    module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} is not a valid config: {type(error).__name__}: {error}") from error
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path} is not a config file: get_config() is missing")
    return module.get_config(variant) if variant else module.get_config()


def _config_files(path: str) -> str:
    """Returns a hint for a missing config file: the nearest name, or all files of its folder."""
    folder = Path(path).parent if path else Path("configs")
    files = {file.stem: file for file in sorted(folder.glob("*.py"))}
    if not files:
        return f"; {folder}/ does not contain any: pass a path such as configs/lung_resnet.py"
    if found := closest(Path(path).stem, files):
        return f" (did you mean {files[found]}?)"
    return f"; {folder}/ contains {', '.join(file.name for file in files.values())}"


def _replace_units(config: config_dict.ConfigDict, overrides: Mapping[str, Any]) -> None:
    for prefix in DURATIONS:
        given = [unit for unit in UNITS if overrides.get(f"{prefix}{unit}") is not None]
        if len(given) == 1:
            for unit in UNITS:
                set_field(config, f"{prefix}{unit}", None)


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
    config = default_config()
    flat = dict(_flatten(json.loads(text)))
    for path, value in flat.items():
        check_field(path)
        set_field(config, path, tuple(value) if isinstance(value, list) else value)
    return config


def differences(first: config_dict.ConfigDict, second: config_dict.ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns the fields in which two configs differ, with both values."""
    pairs = {path: (get_field(first, path), get_field(second, path)) for path in FIELDS}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in tree.items():
        path = f"{prefix}{name}"
        rows.extend(_flatten(value, path + ".") if isinstance(value, Mapping) else [(path, value)])
    return rows
