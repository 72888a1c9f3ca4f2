"""The recipe of a run: every field with its default, its meaning and its range.

A config file builds a complete recipe with `recipe()`, changes what it wants, and derives nothing:
steps, class counts and paths are worked out when a run starts, from the resolved recipe.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets.config.access import get_field, set_field
from jaxnets.config.field import UNITS, Field, nearest
from jaxnets.config.fields import DURATIONS, FIELDS, RENAMED
from jaxnets.config.transfer import require_weights
from jaxnets.config.unused import leave_out_unused, unused, used_fields
from jaxnets.config.uses import AUTO, NETWORKS, SOURCES, SQUARED_ERRORS
from jaxnets.config.validation import require_agreement, require_ranges, validate
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
    "data_root",
    "default_config",
    "differences",
    "from_json",
    "get_field",
    "import_config",
    "leave_out_unused",
    "load_config",
    "nearest",
    "require_field",
    "set_field",
    "steps",
    "to_json",
    "unused",
    "used_fields",
    "user_set",
    "validate",
]


def default_config() -> config_dict.ConfigDict:
    """A complete recipe with every field at its default, locked against unknown names."""
    config = config_dict.ConfigDict()
    for path, field in FIELDS.items():
        *sections, name = path.split(".")
        place = config
        for section in sections:
            if section not in place:
                place[section] = config_dict.ConfigDict()
            place = place[section]
        place[name] = (
            config_dict.placeholder(field.type) if field.default is None else field.default
        )
    return config.lock()


def apply_variant(
    config: config_dict.ConfigDict,
    name: str,
    variant: str,
    variants: Mapping[str, Callable[[config_dict.ConfigDict], None]],
) -> config_dict.ConfigDict:
    """Applies one variant of a config file, and names the recipe NAME:VARIANT.

    Raises ConfigError for a variant that the file does not have.
    """
    if variant not in variants:
        raise ConfigError(
            f"configs/{name}.py has no variant {variant!r}{nearest(variant, variants)}; "
            f"it has {', '.join(variants)}"
        )
    variants[variant](config)
    config.name = f"{name}:{variant}"
    return config


def require_field(path: str) -> None:
    """Raises ConfigError, naming the nearest, where no field has this path."""
    if path in FIELDS:
        return
    if new := RENAMED.get(path):
        raise ConfigError(f"--config.{path} is now --config.{new}: use the new name")
    inside = next((field for field in FIELDS if field.startswith(path + ".")), None)
    if inside is not None:
        raise ConfigError(f"--config.{path} is a group of fields: set one, such as {inside}")
    same_name = [field for field in FIELDS if field.split(".")[-1] == path.split(".")[-1]]
    hint = nearest(path, FIELDS if "." in path else same_name) or nearest(path, FIELDS)
    raise ConfigError(f"unknown config field {path!r}{hint}; --print_config lists all fields")


def load_config(spec: str, overrides: Mapping[str, Any] | None = None) -> config_dict.ConfigDict:
    """The validated recipe of a config file, `PATH` or `PATH:VARIANT`, with overrides by dotted path.

    An override of a duration in one unit takes the place of the file's in another; None unsets an optional
    field. What the file sets and a run of the recipe does not use is left out.
    Raises ConfigError where the file, the variant, a field or a value is wrong, and for an override that the
    run does not use.
    """
    overrides = dict(overrides or {})
    config = import_config(spec)
    for field in overrides:
        require_field(field)
    _replace_units(config, overrides)
    for path, value in overrides.items():
        try:
            config.update_from_flattened_dict({path: value})
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(
                f"{spec}: --config.{path}={value!r} cannot be used: it must be {FIELDS[path].wanted}"
            ) from error
    require_ranges(config)
    require_weights(config, overrides)
    leave_out_unused(config, user_set(overrides))
    require_agreement(config)
    return config


def user_set(overrides: Mapping[str, Any]) -> set[str]:
    """The fields that overrides set; None unsets."""
    return {path for path, value in overrides.items() if value is not None}


def import_config(spec: str) -> config_dict.ConfigDict:
    """The recipe as a config file, `PATH` or `PATH:VARIANT`, returns it.

    Raises ConfigError where there is no such file or variant, and where the file is not a config file.
    """
    path, _, variant = spec.partition(":")
    if not Path(path).is_file():
        raise ConfigError(f"no config file {path!r}{_config_files(path)}")
    module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} is no valid config: {type(error).__name__}: {error}") from error
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path} is no config file: it has no get_config()")
    return module.get_config(variant) if variant else module.get_config()


def _config_files(path: str) -> str:
    """What to say where there is no config file `path`: the nearest name, or all that are there."""
    folder = Path(path).parent if path else Path("configs")
    there = {file.stem: file for file in sorted(folder.glob("*.py"))}
    if not there:
        return f"; {folder}/ has none: give the path of one, such as configs/lung_resnet.py"
    if hint := nearest(Path(path).stem, there):
        near = next(file for stem, file in there.items() if f"mean {stem}?" in hint)
        return f" (did you mean {near}?)"
    return f"; {folder}/ has {', '.join(file.name for file in there.values())}"


def _replace_units(config: config_dict.ConfigDict, overrides: Mapping[str, Any]) -> None:
    for prefix in DURATIONS:
        given = [unit for unit in UNITS if overrides.get(f"{prefix}{unit}") is not None]
        if len(given) == 1:
            for unit in UNITS:
                set_field(config, f"{prefix}{unit}", None)


def steps(config: config_dict.ConfigDict, prefix: str, steps_per_epoch: int) -> int | None:
    """A duration in steps, rounded up; None where the recipe does not give it."""
    given, epochs, examples = (get_field(config, f"{prefix}{unit}") for unit in UNITS)
    if given is not None:
        return given
    if epochs is not None:
        return epochs * steps_per_epoch
    return None if examples is None else -(-examples // config.train.batch_size)


def data_root(config: config_dict.ConfigDict) -> Path:
    """The data folder: config.data.root, else $JAXNETS_DATA, else ./data."""
    return Path(config.data.root or os.environ.get("JAXNETS_DATA") or "data")


def to_json(config: config_dict.ConfigDict) -> str:
    """The recipe as JSON, fields sorted, for config.json and for comparing two recipes."""
    return json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"


def from_json(text: str) -> config_dict.ConfigDict:
    """The recipe that `to_json` wrote. Fields that it lacks keep their defaults.

    Raises ConfigError for fields that this version does not know.
    """
    config = default_config()
    flat = dict(_flatten(json.loads(text)))
    for path, value in flat.items():
        require_field(path)
        set_field(config, path, tuple(value) if isinstance(value, list) else value)
    return config


def differences(
    first: config_dict.ConfigDict, second: config_dict.ConfigDict
) -> dict[str, tuple[Any, Any]]:
    """The fields in which two recipes differ, with both values."""
    pairs = {path: (get_field(first, path), get_field(second, path)) for path in FIELDS}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in tree.items():
        path = f"{prefix}{name}"
        rows.extend(_flatten(value, path + ".") if isinstance(value, Mapping) else [(path, value)])
    return rows
