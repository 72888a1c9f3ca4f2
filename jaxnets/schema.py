"""Strict JSON parsing, and validation against type annotations."""

import functools
import json
import math
import re
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Union


class Range(NamedTuple):
    """Inclusive limits of a number."""

    ge: float
    le: float = math.inf

    def problem(self, value: Any) -> str | None:
        if value < self.ge:
            return f"is {value!r}, below {self.ge:g}"
        return f"is {value!r}, above {self.le:g}" if value > self.le else None


class Length(NamedTuple):
    """Inclusive limits of the number of elements."""

    ge: int
    le: int

    def problem(self, value: Any) -> str | None:
        return None if self.ge <= len(value) <= self.le else f"has {len(value)} elements"


class Pattern(NamedTuple):
    """A regular expression that must match the full string."""

    expression: str

    def problem(self, value: Any) -> str | None:
        return None if re.fullmatch(self.expression, value) else f"is {_shown(value)}"


_type_hints = functools.cache(typing.get_type_hints)
Sha256 = Annotated[str, Pattern("[0-9a-f]{64}")]
Fraction = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(0, 2**53)]


def parse(data: bytes, expected: Any = Any) -> Any:
    """Parses JSON in UTF-8 of the `expected` type; raises ValueError, also for NaN and duplicate keys."""
    try:
        value = json.loads(data.decode(), parse_constant=_no_constant, object_pairs_hook=_unique_keys)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if found := problem(value, expected):
        raise ValueError(found)
    return value


def problem(value: Any, expected: Any, name: str = "") -> str | None:
    """Returns why a parsed value does not have the `expected` type, with its path, or None if it does.

    `expected` is Any, a plain type, Literal, a union, list, dict with string keys, a TypedDict, or Annotated
    with limits. A float must be finite and may be written as an integer; a bool is not a number.
    """
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    where = name or "it"
    if expected is Any:
        return None
    if origin in (Annotated, NotRequired):
        if found := problem(value, arguments[0], name):
            return found
        broken = _first(limit.problem(value) for limit in arguments[1:])
        return f"{where} {broken}" if broken else None
    if origin in (Union, types.UnionType):
        found = [problem(value, option, name) for option in arguments]
        deeper = (text for text in found if text and not text.startswith(f"{where} is "))
        return None if None in found else next(deeper, found[0])
    if typing.is_typeddict(expected):
        return _problem_of_fields(value, expected, name)
    if origin in (list, dict):
        if not isinstance(value, origin):
            return f"{where} is {_shown(value)}, not {'a list' if origin is list else 'an object'}"
        if isinstance(value, dict):
            elements = {f"{where}.{key}": each for key, each in value.items()}
        else:
            elements = {f"{where}[{place}]": each for place, each in enumerate(value)}
        return _first(problem(each, arguments[-1], path) for path, each in elements.items())
    if origin is Literal:
        valid = any(value == each and type(value) is type(each) for each in arguments)
    elif expected is float:  # an integer may be too large for a float
        valid = type(value) in (int, float) and abs(value) < 1e300
    else:
        valid = type(value) is (type(None) if expected is None else expected)
    return None if valid else f"{where} is {_shown(value)}"


def _problem_of_fields(value: Any, expected: Any, name: str) -> str | None:
    if not isinstance(value, dict):
        return f"{name or 'it'} is {_shown(value)}, not an object"
    prefix, fields = f"{name}." if name else "", _type_hints(expected, include_extras=True)
    if unknown := [key for key in value if key not in fields]:
        return f"{prefix}{_plain(unknown[0])} is not a known field"
    if missing := [key for key in fields if key in expected.__required_keys__ and key not in value]:
        return f"{prefix}{missing[0]} is missing"
    return _first(problem(value[key], kind, prefix + key) for key, kind in fields.items() if key in value)


def _first(problems: Iterable[str | None]) -> str | None:
    return next(filter(None, problems), None)


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
    """At most 40 printable characters of a text."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
