"""Fields that a run does not use: reset if a config file sets them, rejected if the user does."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from jaxnets.config.access import get_field, set_field
from jaxnets.config.conditions import Unmet
from jaxnets.config.fields import FIELDS
from jaxnets.config.uses import AUTO, NETWORKS, SOURCES
from jaxnets.errors import ConfigError

KNOWN = {"model.name": NETWORKS, "data.name": SOURCES}
"""The known networks and sources; others may use every field."""


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
    copy = config.copy_and_resolve_references()
    reset_unused(copy)
    return copy


def unused_fields_table(columns: Mapping[str, config_dict.ConfigDict]) -> str:
    """Returns a Markdown table of the fields that only some of the configs use; x marks unused ones."""
    found = {name: unused(config) for name, config in columns.items()}
    lines = [_row(["field", "used where", *columns]), _row(["---"] * (2 + len(columns)))]
    for path, field in FIELDS.items():
        is_unused = [path in fields for fields in found.values()]
        if any(is_unused) and not all(is_unused):
            marks = ("x" if each else "" for each in is_unused)
            lines.append(_row([f"`{path}`", str(field.used), *marks]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
