"""Values of a config: the defaults, durations in steps, the data folder, and config.json."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets.config.field import UNITS, get_field, set_field
from jaxnets.config.fields import FIELDS, check_field


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
