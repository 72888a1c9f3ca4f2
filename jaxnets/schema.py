"""JSON that is what it should be: strict parsing, and values checked against type annotations."""

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, Union


@dataclasses.dataclass(frozen=True)
class Range:
    """Limits of a number, both included; None for none."""

    ge: float | None = None
    le: float | None = None

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, or None."""
        if self.ge is not None and value < self.ge:
            return f"is {value!r}, below {self.ge:g}"
        if self.le is not None and value > self.le:
            return f"is {value!r}, above {self.le:g}"
        return None


@dataclasses.dataclass(frozen=True)
class Length:
    """Limits of the number of elements, both included."""

    ge: int = 0
    le: int | None = None

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, or None."""
        if len(value) < self.ge or (self.le is not None and len(value) > self.le):
            return f"has {len(value)} elements"
        return None


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A regular expression that a text must match from its beginning to its end."""

    expression: str

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, or None."""
        return None if re.fullmatch(self.expression, value) else f"is {_shown(value)}"


Sha256 = Annotated[str, Pattern("[0-9a-f]{64}")]
Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(0, 2**53)]


def parse(data: bytes) -> Any:
    """The value of a JSON text in UTF-8; raises ValueError, also for NaN and for keys that occur twice."""
    try:
        return json.loads(
            data.decode(), parse_constant=_no_constant, object_pairs_hook=_each_key_once
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def problem(value: Any, expected: Any, name: str = "") -> str | None:
    """What keeps a parsed value from being of an annotated type, in words with its path; None where it is.

    `expected` is Any, a plain type, Literal, a union, list, dict with text keys, a TypedDict, or Annotated
    with limits. A float may be written as an integer and must be finite; a bool is no number.
    """
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    where = name or "it"
    if expected is Any:
        return None
    if origin is Annotated:
        inner, *limits = arguments
        found = problem(value, inner, name)
        broken = (text for limit in limits if (text := limit.problem(value)))
        return found or next((f"{where} {text}" for text in broken), None)
    if origin in (Union, types.UnionType):
        found = [problem(value, option, name) for option in arguments]
        if None in found:
            return None
        deeper = (text for text in found if text and not text.startswith(f"{where} is "))
        return next(deeper, found[0])
    if origin is Literal:
        alike = any(value == each and type(value) is type(each) for each in arguments)
        return None if alike else f"{where} is {_shown(value)}"
    if typing.is_typeddict(expected):
        return _problem_of_fields(value, expected, name)
    if origin is list:
        if not isinstance(value, list):
            return f"{where} is {_shown(value)}, not a list"
        elements = enumerate(value)
        found = (problem(each, arguments[0], f"{where}[{place}]") for place, each in elements)
        return next((text for text in found if text), None)
    if origin is dict:
        if not isinstance(value, dict):
            return f"{where} is {_shown(value)}, not an object"
        found = (problem(each, arguments[1], f"{where}.{key}") for key, each in value.items())
        return next((text for text in found if text), None)
    return None if _is_plain(value, expected) else f"{where} is {_shown(value)}"


def _problem_of_fields(value: Any, expected: Any, name: str) -> str | None:
    if not isinstance(value, dict):
        return f"{name or 'it'} is {_shown(value)}, not an object"
    prefix, fields = f"{name}." if name else "", _fields(expected)
    for key in value:
        if key not in fields:
            return f"{prefix}{_plain(key)} is not a known field"
    for key, (kind, required) in fields.items():
        if key not in value:
            if required:
                return f"{prefix}{key} is missing"
        elif found := problem(value[key], kind, f"{prefix}{key}"):
            return found
    return None


@functools.cache
def _fields(expected: Any) -> Mapping[str, tuple[Any, bool]]:
    """The fields of a TypedDict: each one's type, and whether it is required."""
    hints = typing.get_type_hints(expected, include_extras=True)
    return {
        key: (typing.get_args(kind)[0], False)
        if typing.get_origin(kind) is NotRequired
        else (kind, key in expected.__required_keys__)
        for key, kind in hints.items()
    }


def _is_plain(value: Any, expected: Any) -> bool:
    if expected is None or expected is type(None):
        return value is None
    if expected is float:
        # An integer may be too large for a float.
        return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
    return type(value) is expected


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key occurs twice")
    return made


def _shown(value: Any) -> str:
    return "null" if value is None else _plain(repr(value))


def _plain(text: str) -> str:
    """A text of at most 40 printable characters: what is damaged may hold anything."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
