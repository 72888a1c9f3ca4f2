"""Access to the fields of a config by dotted path."""

from typing import Any

from ml_collections import config_dict


def get_field(config: config_dict.ConfigDict, path: str) -> Any:
    """Returns the value at a dotted path."""
    value: Any = config
    for name in path.split("."):
        value = value[name]
    return value


def set_field(config: config_dict.ConfigDict, path: str, value: Any) -> None:
    """Sets the value at a dotted path."""
    *sections, name = path.split(".")
    for section in sections:
        config = config[section]
    config[name] = value
