"""Strict JSON parsing, and validation against type annotations."""

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
    """Inclusive limits of a number."""

    ge: float | None = None
    le: float | None = None

    def problem(self, value: Any) -> str | None:
        """Returns what is wrong with `value`, or None."""
        if self.ge is not None and value < self.ge:
            return f"is {value!r}, below {self.ge:g}"
        if self.le is not None and value > self.le:
            return f"is {value!r}, above {self.le:g}"
        return None


@dataclasses.dataclass(frozen=True)
class Length:
    """Inclusive limits of the number of elements."""

    ge: int = 0
    le: int | None = None

    def problem(self, value: Any) -> str | None:
        """Returns what is wrong with `value`, or None."""
        if len(value) < self.ge or (self.le is not None and len(value) > self.le):
            return f"has {len(value)} elements"
        return None


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A regular expression that must match the full string."""

    expression: str

    def problem(self, value: Any) -> str | None:
        """Returns what is wrong with `value`, or None."""
        return None if re.fullmatch(self.expression, value) else f"is {_shown(value)}"


Sha256 = Annotated[str, Pattern("[0-9a-f]{64}")]
Fraction = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(0, 2**53)]


def parse(data: bytes) -> Any:
    """Parses JSON in UTF-8; raises ValueError, also for NaN and duplicate keys."""
    try:
        return json.loads(data.decode(), parse_constant=_no_constant, object_pairs_hook=_unique_keys)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def problem(value: Any, expected: Any, name: str = "") -> str | None:
    """Returns why a parsed value does not have the `expected` type, with its path, or None if it does.

    `expected` is Any, a plain type, Literal, a union, list, dict with string keys, a TypedDict, or Annotated
    with limits. A float must be finite and may be written as an integer; a bool is not a number.
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
        valid = any(value == each and type(value) is type(each) for each in arguments)
        return None if valid else f"{where} is {_shown(value)}"
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
    """Returns the type of each field of a TypedDict, and whether it is required."""
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
    raise ValueError(f"{name} is not valid JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("duplicate key")
    return made


def _shown(value: Any) -> str:
    return "null" if value is None else _plain(repr(value))


def _plain(text: str) -> str:
    """Returns at most 40 printable characters of a text."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
