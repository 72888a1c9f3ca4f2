"""When a run uses a field: conditions on the values of other fields.

A condition is declared beside its field in `jaxnets.config.fields`; `jaxnets.config.unused` asks it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol


class Unmet(NamedTuple):
    """Why a condition does not hold, in words that follow "as", and what would make it hold."""

    state: str
    remedy: str


class Values(Protocol):
    """The values that conditions ask about."""

    def possible(self, path: str) -> tuple[Any, ...]:
        """What a field's value may be when the run begins: mostly one value, that of the recipe."""
        ...

    def unmet(self, path: str) -> Unmet | None:
        """Why the run does not use that field, or None."""
        ...


class Condition(Protocol):
    """Something that holds for a recipe, or does not; `str` of it is its documentation."""

    def unmet(self, values: Values) -> Unmet | None:
        """Why it does not hold, or None."""
        ...


@dataclasses.dataclass(frozen=True)
class Always:
    """Holds for every recipe."""

    def unmet(self, values: Values) -> Unmet | None:
        """None."""
        del values
        return None

    def __str__(self) -> str:
        return "always"


ALWAYS = Always()


@dataclasses.dataclass(frozen=True)
class FieldIs:
    """Holds where a field's value passes `test`; where the run does not use that field, `if_unused`."""

    path: str
    test: Callable[[Any], bool]
    words: str
    remedy: str
    if_unused: bool = False

    def unmet(self, values: Values) -> Unmet | None:
        """Names the field and its value."""
        unused = values.unmet(self.path)
        if unused is not None:
            return None if self.if_unused else unused
        possible = values.possible(self.path)
        if any(map(self.test, possible)):
            return None
        return Unmet(f"--config.{self.path}={possible[0]}", self.remedy)

    def __str__(self) -> str:
        return self.words


@dataclasses.dataclass(frozen=True)
class AllOf:
    """Holds where every one of `parts` does; `words` names the whole."""

    parts: tuple[Condition, ...]
    words: str = ""

    def unmet(self, values: Values) -> Unmet | None:
        """That of the first part that does not hold."""
        found = (part.unmet(values) for part in self.parts)
        return next((unmet for unmet in found if unmet is not None), None)

    def __str__(self) -> str:
        return self.words or " and ".join(
            f"({part})" if isinstance(part, AnyOf) and not part.words else str(part)
            for part in self.parts
        )


@dataclasses.dataclass(frozen=True)
class AnyOf:
    """Holds where one of `parts` does; `words` names the whole, `otherwise` is why it does not hold."""

    parts: tuple[Condition, ...]
    otherwise: Unmet | None = None
    words: str = ""

    def unmet(self, values: Values) -> Unmet | None:
        """`otherwise`, or that of the first part."""
        found = [part.unmet(values) for part in self.parts]
        return None if None in found else self.otherwise or found[0]

    def __str__(self) -> str:
        return self.words or " or ".join(map(str, self.parts))


def one_of(path: str, *choices: Any) -> FieldIs:
    """Holds where the field has one of `choices`."""
    words = f"{path} is {_one_of(choices)}"
    return FieldIs(path, lambda value: value in choices, words, _set(path, _either(choices)))


def none_of(path: str, *choices: Any, remedy: str) -> FieldIs:
    """Holds where the field has any value but `choices`."""
    words = f"{path} is not {_one_of(choices)}"
    return FieldIs(path, lambda value: value not in choices, words, remedy)


def given(path: str, example: Any) -> FieldIs:
    """Holds where an optional field has a value; `example` is one."""
    return FieldIs(path, lambda value: value is not None, f"{path} is given", _set(path, example))


def positive(path: str, example: Any) -> FieldIs:
    """Holds where a number is above 0 or a switch is on; `example` is such a value."""
    words = path if example is True else f"{path} is above 0"
    return FieldIs(path, bool, words, _set(path, example))


def off(path: str) -> FieldIs:
    """Holds where a switch is off, or is not used."""
    return FieldIs(path, lambda value: not value, f"not {path}", _set(path, False), if_unused=True)


def all_of(*parts: Condition, words: str = "") -> AllOf:
    """Holds where all of these do."""
    return AllOf(parts, words)


def any_of(*parts: Condition, otherwise: Unmet | None = None, words: str = "") -> AnyOf:
    """Holds where one of these does."""
    return AnyOf(parts, otherwise, words)


def _set(path: str, value: Any) -> str:
    return f"set --config.{path}={value}"


def _one_of(choices: tuple[Any, ...]) -> str:
    listed = ", ".join(map(str, choices))
    return f"one of {listed}" if len(choices) > 1 else listed


def _either(choices: tuple[Any, ...]) -> str:
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}" if others else last
