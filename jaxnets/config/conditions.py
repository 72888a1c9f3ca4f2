"""Conditions on other fields under which a run uses a field.

`jaxnets.config.fields` declares them and `jaxnets.config.checks` evaluates them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol


class Unmet(NamedTuple):
    """Why a condition does not hold (the text after "because") and how to satisfy it."""

    state: str
    remedy: str


class Values(Protocol):
    """The values that conditions depend on."""

    def possible(self, path: str) -> tuple[Any, ...]:
        """Returns the possible values of a field when the run starts: usually only the config's."""
        ...

    def unmet(self, path: str) -> Unmet | None:
        """Returns why the run does not use a field, or None."""
        ...


class Condition(Protocol):
    """A condition on a config; `str(condition)` is its documentation."""

    def unmet(self, values: Values) -> Unmet | None:
        """Returns why the condition does not hold, or None."""
        ...


@dataclasses.dataclass(frozen=True)
class Always:
    """Holds for every config."""

    def unmet(self, values: Values) -> Unmet | None:
        """Returns None."""
        del values
        return None

    def __str__(self) -> str:
        return "always"


ALWAYS = Always()


@dataclasses.dataclass(frozen=True)
class FieldIs:
    """Holds if a field's value passes `test`; for a field that the run does not use, `if_unused`."""

    path: str
    test: Callable[[Any], bool]
    description: str
    remedy: str
    if_unused: bool = False

    def unmet(self, values: Values) -> Unmet | None:
        """Returns the field and its value."""
        unused = values.unmet(self.path)
        if unused is not None:
            return None if self.if_unused else unused
        possible = values.possible(self.path)
        if any(map(self.test, possible)):
            return None
        return Unmet(f"--config.{self.path}={possible[0]}", self.remedy)

    def __str__(self) -> str:
        return self.description


@dataclasses.dataclass(frozen=True)
class AllOf:
    """Holds if all `parts` hold; `description` replaces the text of the parts."""

    parts: tuple[Condition, ...]
    description: str = ""

    def unmet(self, values: Values) -> Unmet | None:
        """Returns the reason of the first part that does not hold."""
        found = (part.unmet(values) for part in self.parts)
        return next((unmet for unmet in found if unmet is not None), None)

    def __str__(self) -> str:
        return self.description or " and ".join(
            f"({part})" if isinstance(part, AnyOf) and not part.description else str(part)
            for part in self.parts
        )


@dataclasses.dataclass(frozen=True)
class AnyOf:
    """Holds if one of `parts` holds; `otherwise` is the reason if none does."""

    parts: tuple[Condition, ...]
    otherwise: Unmet | None = None
    description: str = ""

    def unmet(self, values: Values) -> Unmet | None:
        """Returns `otherwise`, or the reason of the first part."""
        found = [part.unmet(values) for part in self.parts]
        return None if None in found else self.otherwise or found[0]

    def __str__(self) -> str:
        return self.description or " or ".join(map(str, self.parts))


def one_of(path: str, *choices: Any) -> FieldIs:
    """Holds if the field has one of `choices`."""
    description = f"{path} is {_one_of(choices)}"
    return FieldIs(path, lambda value: value in choices, description, _set(path, _either(choices)))


def none_of(path: str, *choices: Any, remedy: str) -> FieldIs:
    """Holds if the field has a value other than `choices`."""
    description = f"{path} is not {_one_of(choices)}"
    return FieldIs(path, lambda value: value not in choices, description, remedy)


def given(path: str, example: Any) -> FieldIs:
    """Holds if an optional field is set; `example` is a possible value."""
    return FieldIs(path, lambda value: value is not None, f"{path} is set", _set(path, example))


def positive(path: str, example: Any) -> FieldIs:
    """Holds if a number is above 0 or a flag is True; `example` is such a value."""
    description = path if example is True else f"{path} is above 0"
    return FieldIs(path, bool, description, _set(path, example))


def off(path: str) -> FieldIs:
    """Holds if a flag is False or not used."""
    return FieldIs(path, lambda value: not value, f"not {path}", _set(path, False), if_unused=True)


def all_of(*parts: Condition, description: str = "") -> AllOf:
    """Holds if all `parts` hold."""
    return AllOf(parts, description)


def any_of(*parts: Condition, otherwise: Unmet | None = None, description: str = "") -> AnyOf:
    """Holds if one of `parts` holds."""
    return AnyOf(parts, otherwise, description)


def _set(path: str, value: Any) -> str:
    return f"set --config.{path}={value}"


def _one_of(choices: tuple[Any, ...]) -> str:
    listed = ", ".join(map(str, choices))
    return f"one of {listed}" if len(choices) > 1 else listed


def _either(choices: tuple[Any, ...]) -> str:
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}" if others else last
