"""Creates, loads, saves and compares configs."""

import functools
import hashlib
import importlib.util
import json
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets.config.checks import check_consistency, check_field, check_ranges, check_weights, reset_unused
from jaxnets.config.field import UNITS, closest, get_field, nearest, set_field
from jaxnets.config.fields import DURATIONS, FIELDS
from jaxnets.errors import ConfigError


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
    config = default_config()
    for path, value in _flatten(json.loads(text)):
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
    check_weights(config, overrides.keys())
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
    try:
        module = import_file(Path(path))
        get_config = getattr(module, "get_config", None)
        if get_config is None:
            raise ConfigError(f"{path} is not a config file: get_config() is missing")
        return get_config(variant) if variant else get_config()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} is not a valid config: {type(error).__name__}: {error}") from error


def import_file(path: Path) -> types.ModuleType:
    """Returns the module of a Python file, which may import files of its folder: `from . import _lung`.

    The file is executed once per process unless it changes.
    """
    return _import_file(path.resolve(), path.stat().st_mtime_ns)


@functools.cache
def _import_file(path: Path, modified: int) -> types.ModuleType:
    del modified  # only a key of the cache
    package = f"_configs_{hashlib.sha256(bytes(path.parent)).hexdigest()[:8]}"
    if package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(path.parent)]
    spec = importlib.util.spec_from_file_location(f"{package}.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _config_files(path: str) -> str:
    """Returns a hint for a missing config file: the nearest name, or all files of its folder."""
    folder = Path(path).parent if path else Path("configs")
    files = {file.stem: file for file in sorted(folder.glob("[!_]*.py"))}
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
