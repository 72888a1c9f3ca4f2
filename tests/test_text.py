"""Escaping of external text for terminals and spreadsheets."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.text import csv_cell, from_csv_cell, printable, printable_lines

UNSAFE = {
    "escape": ("\x1b[2Ja", r"\x1b[2Ja"),
    "bell": ("a\x07", r"a\x07"),
    "lines": ("a\nb\r\nc\td", r"a\nb\r\nc\td"),
    "C1": ("\x9b31m", r"\x9b31m"),
    "separators": ("a\u2028b\u2029", r"a\u2028b\u2029"),
    "bidirectional": ("a\u202egpj.exe\u2066", r"a\u202egpj.exe\u2066"),
    "not UTF-8": (b"caf\xe9".decode(errors="surrogateescape"), r"caf\xe9"),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_control_characters_are_escaped(name: str) -> None:
    given_text, expected = UNSAFE[name]
    assert printable(given_text) == expected


@given(st.text())
def test_printable_is_one_line_and_valid_utf8(text: str) -> None:
    shown = printable(text)
    assert shown.encode().decode() == shown
    assert shown.splitlines() in ([shown], [])
    assert "\x1b" not in shown


def test_ordinary_names_are_unchanged() -> None:
    for name in ("tissue 1.png", "漢字 é", "صورة", "👩‍👧.jpg", r"C:\x", ""):
        assert printable(name) == name


def test_printable_lines_keeps_line_breaks() -> None:
    assert printable_lines("a\x1b\nb\n") == "a\\x1b\nb\n"


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@sum", "\t=1", "\r=1", "'=1"])
def test_formulas_are_prefixed_with_an_apostrophe(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    assert from_csv_cell(f"'{text}") == text


@given(st.text())
def test_csv_cells_round_trip_and_are_not_formulas(text: str) -> None:
    cell = csv_cell(text)
    assert isinstance(cell, str)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_csv_cell(cell) == text


def test_numbers_are_unchanged() -> None:
    text = io.StringIO()
    csv.writer(text).writerow([csv_cell(value) for value in (-0.5, 3, None)])
    assert text.getvalue() == "-0.5,3,\r\n"
