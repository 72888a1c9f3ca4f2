"""The definition of a config field."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxnets.config.conditions import ALWAYS, Condition

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
