"""One field of a recipe: its default, its type, its range, and when a run uses it."""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnets.config.conditions import ALWAYS, Condition

UNITS = ("steps", "epochs", "examples")
"""The units of a duration. A recipe gives each duration in at most one of them."""

SIMILAR = 0.7
"""The least difflib ratio of a name that a hint may give for a misspelt one."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a recipe: its default, its type, what it means, what it may be, and when it is used.

    `elsewhere` has what other libraries call a choice, and what to write instead.
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
    elsewhere: tuple[tuple[str, str], ...] = ()

    @property
    def wanted(self) -> str:
        """What a value must be, in words, for one that cannot be read as such."""
        if self.choices and self.type is str:
            words = f"one of {', '.join(self.choices)}"
        else:
            words = _WANTED[self.type]
        return words if self.default is not None else f"{words}, or None"

    def problem(self, value: Any) -> str | None:
        """Says what is wrong with `value`, or None."""
        if value is None:
            return None if self.default is None else f"it may not be None, it must be {self.wanted}"
        if isinstance(value, (list, tuple)):
            check = self._choice_problem if self.choices else self._element_problem
            return next((problem for problem in map(check, value) if problem), None)
        return self._choice_problem(value) if self.choices else self._number_problem(value)

    def _choice_problem(self, value: Any) -> str | None:
        if value in self.choices:
            return None
        listed = ", ".join(self.choices)
        if value in (names := dict(self.elsewhere)):
            return f"it must be one of {listed}; {names[value]}"
        if self.type is not tuple:
            return f"it must be one of {listed}{nearest(value, self.choices)}"
        if isinstance(value, str) and "," in value:  # what a shell makes of tanh,tanh
            return "write it with quotes and brackets: \"('" + "','".join(value.split(",")) + "')\""
        return f"{value!r} is none of {listed}{nearest(value, self.choices)}"

    def _element_problem(self, value: Any) -> str | None:
        if not isinstance(value, (int, float)):
            return "it must hold numbers alone"
        if self.default and isinstance(self.default[0], int) and not isinstance(value, int):
            return "it must hold whole numbers"
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


def text(default: str | None, about: str, **more: Any) -> Field:
    """A field of text."""
    return Field(default, str, about, **more)


def choice(default: str, choices: Sequence[str], about: str, **more: Any) -> Field:
    """A field that is one of some words."""
    return Field(default, str, about, choices=tuple(choices), **more)


def switch(default: bool, about: str, **more: Any) -> Field:
    """A field that is True or False."""
    return Field(default, bool, about, **more)


def integer(default: int | None, about: str, **more: Any) -> Field:
    """A field of a whole number."""
    return Field(default, int, about, **more)


def number(default: float | None, about: str, **more: Any) -> Field:
    """A field of a number."""
    return Field(default, float, about, **more)


def numbers(default: tuple[float, ...], about: str, **more: Any) -> Field:
    """A field of several numbers."""
    return Field(default, tuple, about, **more)


def words(default: tuple[str, ...], choices: Sequence[str], about: str, **more: Any) -> Field:
    """A field of several words, each one of some."""
    return Field(default, tuple, about, choices=tuple(choices), **more)


def duration(prefix: str, about: str, ge: int = 0, **more: Any) -> dict[str, Field]:
    """The fields of a duration, one for each unit."""
    return {
        f"{prefix}{unit}": integer(None, f"{about}, in {unit}", ge=ge, **more) for unit in UNITS
    }


def period(prefix: str, about: str, **more: Any) -> dict[str, Field]:
    """The time between two events: never 0, which could mean at every step as well as never."""
    return duration(prefix, about, ge=1, **more)


_WANTED = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    tuple: 'values in brackets and quotes, such as "(1,2)"',
}


def nearest(name: Any, names: Sequence[str] | Mapping[str, Any]) -> str:
    """A hint at the one of `names` that is nearest to `name`, or nothing where none is near."""
    found = difflib.get_close_matches(str(name), list(names), n=1, cutoff=SIMILAR)
    return f" (did you mean {found[0]}?)" if found else ""
