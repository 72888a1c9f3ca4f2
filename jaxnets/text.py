"""Escaping of untrusted text, such as names of files and classes, for display."""

import csv
import io
import re
from collections.abc import Iterable

_BIDIRECTIONAL = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNSAFE = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{_BIDIRECTIONAL}]")
"""Control characters, line separators, lone surrogates and bidirectional controls."""
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Text that a spreadsheet interprets as a formula, also after `csv_cell`."""


def printable(text: str) -> str:
    r"""Escapes control characters and line breaks, such as \x1b, so that a terminal can show text."""
    return _UNSAFE.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """Like `printable`, but does not escape line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def csv_cell(value: object) -> object:
    """Prefixes text that a spreadsheet would interpret as a formula with an apostrophe."""
    if isinstance(value, str) and _FORMULA.match(value):
        return f"'{value}"
    return value


def csv_table(rows: Iterable[Iterable[object]]) -> str:
    """CSV of the rows, with `csv_cell` applied to every value."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(csv_cell, row) for row in rows)
    return text.getvalue()


def from_csv_cell(text: str) -> str:
    """Inverts `csv_cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _escaped(match: re.Match[str]) -> str:
    if "\udc80" <= match[0] <= "\udcff":
        return f"\\x{ord(match[0]) - 0xDC00:02x}"  # a byte of a file name that is not UTF-8
    return match[0].encode("unicode_escape").decode("ascii")
