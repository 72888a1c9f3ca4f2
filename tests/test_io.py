"""Atomic writes: two writers, failures, full disks; and text from outside in a terminal and a spreadsheet."""

import csv
import errno
import io
import os
import resource
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.errors import MachineError
from jaxnets.io import (
    DISK_FULL,
    atomic_replace,
    atomic_write,
    csv_cell,
    file_lock,
    from_csv_cell,
    printable,
    printable_lines,
    remove_stale_temporaries,
)
from jaxnets.training.checkpoint import _disk_error

WRITES = 300
WRITER = """
import sys
from pathlib import Path
from jaxnets.io import atomic_write
path, letter, size, writes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for _ in range(writes):
    atomic_write(path, letter * size)
    found = path.read_text()
    assert found in ("a" * 20_000, "b" * 30_000), f"{len(found)} mixed bytes"
"""


def test_two_processes_that_write_one_file_never_fail_and_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    sizes = {"a": 20_000, "b": 30_000}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), letter, str(size), str(WRITES)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for letter, size in sizes.items()
    ]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], errors
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize("number", DISK_FULL)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "test.npz"
    atomic_write(path, "old")

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=os.strerror(number)):
        atomic_write(path, "new")
    assert os.listdir(tmp_path) == ["test.npz"]
    assert path.read_text() == "old"


def test_a_limit_on_the_size_of_files_counts_as_a_full_disk(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            atomic_write(tmp_path / "file", b"0" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert errno.EFBIG in DISK_FULL
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EFBIG, "File too large"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("Error writing 'state': File too large [OS error 27: EFBIG]"),
        ValueError("RESOURCE_EXHAUSTED: no space"),
    ],
)
def test_orbax_s_errors_of_a_full_disk_are_known(error: Exception, tmp_path: Path) -> None:
    found = _disk_error(error, tmp_path)
    assert isinstance(found, MachineError)
    assert "the disk is full" in str(found)


def test_the_longest_name_that_a_file_may_have(tmp_path: Path) -> None:
    path = tmp_path / ("x" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    atomic_write(path, "whole")
    assert path.read_text() == "whole"


def test_an_interrupt_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Any:
        with atomic_replace(tmp_path / "file") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_locks_exclude_and_shared_ones_do_not(tmp_path: Path, first: bool, second: bool) -> None:
    taken = threading.Event()

    def take() -> None:
        with file_lock(tmp_path / ".lock", shared=second):
            taken.set()

    with ThreadPoolExecutor(1) as pool:
        with file_lock(tmp_path / ".lock", shared=first):
            pool.submit(take)
            assert taken.wait(5 if first and second else 0.2) is (first and second)
        assert taken.wait(5)


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (f".{'a' * 16}.tmp", f".{'b' * 16}.tmp", ".mine.tmp"))
    for path in (old, new, other):
        path.write_text("half")
    for path in (old, other):
        os.utime(path, (0, 0))
    remove_stale_temporaries(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([new, other])


def test_an_error_names_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing") as raised:
        atomic_write(tmp_path / "missing" / "file.json", "{}")
    assert raised.value.filename == str(tmp_path / "missing" / "file.json")


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
def test_unsafe_characters_are_shown_as_escapes(name: str) -> None:
    given_text, expected = UNSAFE[name]
    assert printable(given_text) == expected


@given(st.text())
def test_what_is_printed_is_one_line_and_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert shown.encode().decode() == shown
    assert shown.splitlines() in ([shown], [])
    assert "\x1b" not in shown


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("tissue 1.png", "漢字 é", "صورة", "👩‍👧.jpg", r"C:\x", ""):
        assert printable(name) == name


def test_lines_stay_lines() -> None:
    assert printable_lines("a\x1b\nb\n") == "a\\x1b\nb\n"


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@sum", "\t=1", "\r=1", "'=1"])
def test_formulas_get_an_apostrophe_and_come_back(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    assert from_csv_cell(f"'{text}") == text


@given(st.text())
def test_every_text_comes_back_and_no_cell_is_a_formula(text: str) -> None:
    cell = csv_cell(text)
    assert isinstance(cell, str)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_csv_cell(cell) == text


def test_numbers_stay_numbers() -> None:
    text = io.StringIO()
    csv.writer(text).writerow([csv_cell(value) for value in (-0.5, 3, None)])
    assert text.getvalue() == "-0.5,3,\r\n"
