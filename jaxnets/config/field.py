"""The definition of a config field."""

import dataclasses
import math
import operator
from collections.abc import Sequence
from typing import Any

from jaxnets.config.conditions import ALWAYS, Condition
from jaxnets.errors import suggest

UNITS = ("steps", "epochs", "examples")
"""The units of a duration; a config sets at most one of them."""


@dataclasses.dataclass(frozen=True)
class Field:
    """A config field: default, type, help text, allowed values, and when a run uses it.

    `aliases` are names of other libraries for a choice, each with the replacement. A tuple without choices
    has elements of `element_type`, or is a single one of `words`.
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
    element_type: type = float
    words: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """A description of valid values, for error messages."""
        if self.choices and self.type is str:
            expected = f"one of {', '.join(self.choices)}"
        else:
            expected = _EXPECTED[self.type]
        return expected if self.default is not None else f"{expected}, or None"

    def problem(self, value: Any) -> str | None:
        """Why the field cannot have `value`, or None."""
        if value is None:
            return None if self.default is None else f"it must be {self.expected}, not None"
        values = value if isinstance(value, (list, tuple)) else [value]
        if self.type is tuple and self.element_type is str:
            return None if all(isinstance(each, str) for each in values) else "all elements must be text"
        if len(values) == 1 and values[0] in self.words:
            return None
        check = self._choice_problem if self.choices else self._number_problem
        return next((problem for each in values if (problem := check(each))), None)

    def _choice_problem(self, value: Any) -> str | None:
        if value in self.choices:
            return None
        listed = ", ".join(self.choices)
        if value in (names := dict(self.aliases)):
            return f"it must be one of {listed}; {names[value]}"
        if self.type is not tuple:
            return f"it must be one of {listed}{suggest(value, self.choices)}"
        if isinstance(value, str) and "," in value:  # the argument tanh,tanh of a shell
            return "write it with quotes and brackets: \"('" + "','".join(value.split(",")) + "')\""
        return f"{value!r} is not one of {listed}{suggest(value, self.choices)}"

    def _number_problem(self, value: Any) -> str | None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.type is tuple and not isinstance(value, (int, float)):
            return f"all elements must be numbers{''.join(f', or it must be {word}' for word in self.words)}"
        if self.type is tuple and self.default and type(self.default[0]) is int and type(value) is float:
            return "all elements must be integers"
        if not is_number:
            return None
        if not math.isfinite(value):
            return "it must be a finite number"
        limits = (
            (self.ge, operator.ge, "at least"),
            (self.le, operator.le, "at most"),
            (self.gt, operator.gt, "above"),
            (self.lt, operator.lt, "below"),
        )
        for limit, is_valid, text in limits:
            if limit is not None and not is_valid(value, limit):
                return f"it must be {text} {limit:g}"
        return None


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
