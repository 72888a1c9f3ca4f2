"""Text from outside (names of files and classes, messages of other libraries) made safe to show."""

import re
import unicodedata

_BIDIRECTIONAL = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNSAFE = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{_BIDIRECTIONAL}]")
"""Control characters, separators of lines, lone surrogates, and what turns the direction of writing."""
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""What a spreadsheet takes for a formula, or what `csv_cell` has made of it."""


def printable(text: str) -> str:
    r"""One line for a terminal: control characters and line breaks are shown as escapes such as \x1b.

    Without this the name of a file could clear the screen, change the terminal's title, or forge a line.
    """
    return _UNSAFE.sub(lambda match: _escaped(match.group()), text)


def printable_lines(text: str) -> str:
    """The same for text of several lines, which stay as they are."""
    return "\n".join(map(printable, text.split("\n")))


def csv_cell(value: object) -> object:
    """A value for a table that people open: an apostrophe before text that a spreadsheet would compute.

    Numbers stay numbers. `from_csv_cell` gives the text back.
    """
    if isinstance(value, str) and _FORMULA.match(value):
        return f"'{value}"
    return value


def from_csv_cell(text: str) -> str:
    """The text that `csv_cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _escaped(character: str) -> str:
    if unicodedata.category(character) == "Cs" and "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"  # a byte of a file's name that is not UTF-8
    return character.encode("unicode_escape").decode("ascii")
