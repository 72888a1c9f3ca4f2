"""Which fields of a recipe its run does not use: left out where a config file set them, else refused."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from jaxnets.config.access import get_field, set_field
from jaxnets.config.conditions import Unmet
from jaxnets.config.fields import FIELDS
from jaxnets.config.uses import AUTO, NETWORKS, SOURCES
from jaxnets.errors import ConfigError

KNOWN = {"model.name": NETWORKS, "data.name": SOURCES}
"""What the schema knows: of a network or source that is not among these, every field may be used."""


class _OfRecipe:
    """The values of a recipe, as conditions ask for them."""

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
    """The fields that a run of the recipe certainly does not use, and why, in the schema's order."""
    values = _OfRecipe(config)
    lacks = {path: values.unmet(path) for path in FIELDS}
    return {path: unmet for path, unmet in lacks.items() if unmet is not None}


def leave_out_unused(config: config_dict.ConfigDict, overrides: Collection[str] = ()) -> None:
    """Sets every field that the run does not use to its default.

    Raises ConfigError for the first one that is among `overrides`, the fields that the user set: to its
    default or not, it would do nothing.
    """
    found = unused(config)
    for path, unmet in found.items():
        if path in overrides:
            raise ConfigError(
                f"--config.{path}={get_field(config, path)} is not used, as {unmet.state}: "
                f"{unmet.remedy}, or leave it out"
            )
    for path in found:
        set_field(config, path, FIELDS[path].default)


def used_fields(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """A copy of the recipe with every field that a run does not use at its default, for comparisons."""
    copy = config.copy_and_resolve_references()
    leave_out_unused(copy)
    return copy


def refusal_table(columns: Mapping[str, config_dict.ConfigDict]) -> str:
    """Which of some recipes refuse which fields, x, in Markdown; without fields that all treat alike."""
    found = {name: unused(config) for name, config in columns.items()}
    lines = [_row(["field", "used where", *columns]), _row(["---"] * (2 + len(columns)))]
    for path, field in FIELDS.items():
        refused = [path in lacks for lacks in found.values()]
        if any(refused) and not all(refused):
            marks = ("x" if each else "" for each in refused)
            lines.append(_row([f"`{path}`", str(field.used), *marks]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
