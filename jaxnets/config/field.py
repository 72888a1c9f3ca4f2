"""The definition of a config field."""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ml_collections import config_dict

from jaxnets.config.conditions import ALWAYS, Condition

UNITS = ("steps", "epochs", "examples")
"""The units of a duration; a config sets at most one of them."""

SIMILAR = 0.7
"""The minimum difflib ratio of a suggestion for a misspelled name."""


@dataclasses.dataclass(frozen=True)
class Field:
    """A config field: default, type, help text, allowed values, and when a run uses it.

    `aliases` are names of other libraries for a choice, each with the replacement.
    """

    default: Any
    type: type
    about: str
    choices: tuple[str, ...] = ()
    ge: float | None = None
    le: float | None = None
    gt: float | None = None
    lt: float | None = None
    used: Condition = ALWAYS
    aliases: tuple[tuple[str, str], ...] = ()

    @property
    def expected(self) -> str:
        """A description of valid values, for error messages."""
        if self.choices and self.type is str:
            expected = f"one of {', '.join(self.choices)}"
        else:
            expected = _EXPECTED[self.type]
        return expected if self.default is not None else f"{expected}, or None"

    def problem(self, value: Any) -> str | None:
        """Returns what is wrong with `value`, or None."""
        if value is None:
            return None if self.default is None else f"it must be {self.expected}, not None"
        if isinstance(value, (list, tuple)):
            check = self._choice_problem if self.choices else self._element_problem
            return next((problem for problem in map(check, value) if problem), None)
        return self._choice_problem(value) if self.choices else self._number_problem(value)

    def _choice_problem(self, value: Any) -> str | None:
        if value in self.choices:
            return None
        listed = ", ".join(self.choices)
        if value in (names := dict(self.aliases)):
            return f"it must be one of {listed}; {names[value]}"
        if self.type is not tuple:
            return f"it must be one of {listed}{nearest(value, self.choices)}"
        if isinstance(value, str) and "," in value:  # the argument tanh,tanh of a shell
            return "write it with quotes and brackets: \"('" + "','".join(value.split(",")) + "')\""
        return f"{value!r} is not one of {listed}{nearest(value, self.choices)}"

    def _element_problem(self, value: Any) -> str | None:
        if not isinstance(value, (int, float)):
            return "all elements must be numbers"
        if self.default and isinstance(self.default[0], int) and not isinstance(value, int):
            return "all elements must be integers"
        return self._number_problem(value)

    def _number_problem(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        if not math.isfinite(value):
            return "it must be a finite number"
        if self.ge is not None and value < self.ge:
            return f"it must be at least {self.ge:g}"
        if self.le is not None and value > self.le:
            return f"it must be at most {self.le:g}"
        if self.gt is not None and value <= self.gt:
            return f"it must be above {self.gt:g}"
        if self.lt is not None and value >= self.lt:
            return f"it must be below {self.lt:g}"
        return None


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


def field(default: Any, about: str, **more: Any) -> Field:
    """Defines a field of the type of its default."""
    return Field(default, type(default), about, **more)


def optional(kind: type, about: str, **more: Any) -> Field:
    """Defines a field that is None by default."""
    return Field(None, kind, about, **more)


def choice(default: str | tuple[str, ...], choices: Sequence[str], about: str, **more: Any) -> Field:
    """Defines a field with one value, or a tuple of values, from a fixed set."""
    return Field(default, type(default), about, choices=tuple(choices), **more)


def duration(prefix: str, about: str, ge: int = 0, **more: Any) -> dict[str, Field]:
    """Defines the fields of a duration, one per unit."""
    return {f"{prefix}{unit}": optional(int, f"{about}, in {unit}", ge=ge, **more) for unit in UNITS}


def period(prefix: str, about: str, **more: Any) -> dict[str, Field]:
    """Defines an interval between events; it cannot be 0 (leave it unset to disable the event)."""
    return duration(prefix, about, ge=1, **more)


_EXPECTED = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "text",
    tuple: 'values in brackets and quotes, such as "(1,2)"',
}


def closest(name: Any, names: Iterable[str]) -> str | None:
    """Returns the one of `names` that is most similar to `name`, or None if none is similar."""
    found = difflib.get_close_matches(str(name), list(names), n=1, cutoff=SIMILAR)
    return found[0] if found else None


def nearest(name: Any, names: Iterable[str]) -> str:
    """Returns " (did you mean ...?)" with the closest of `names`, or "" if none is similar."""
    found = closest(name, names)
    return f" (did you mean {found}?)" if found else ""
