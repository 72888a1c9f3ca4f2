"""Atomic writes, file locks, and escaping of external text for terminals and spreadsheets."""

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
    lock_and_remove,
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


def test_concurrent_writers_never_fail_or_mix(tmp_path: Path) -> None:
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
def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = tmp_path / "test.npz"
    atomic_write(path, "old")

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=os.strerror(number)):
        atomic_write(path, "new")
    assert os.listdir(tmp_path) == ["test.npz"]
    assert path.read_text() == "old"


def test_file_size_limit_counts_as_a_full_disk(tmp_path: Path) -> None:
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
def test_full_disk_errors_of_orbax_are_recognised(error: Exception, tmp_path: Path) -> None:
    found = _disk_error(error, tmp_path)
    assert isinstance(found, MachineError)
    assert "the disk is full" in str(found)


def test_longest_file_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    atomic_write(path, "content")
    assert path.read_text() == "content"


def test_interrupted_write_leaves_no_files(tmp_path: Path) -> None:
    def interrupted() -> Any:
        with atomic_replace(tmp_path / "file") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_exclusive_and_shared_locks(tmp_path: Path, first: bool, second: bool) -> None:
    acquired = threading.Event()

    def acquire() -> None:
        with file_lock(tmp_path / ".lock", shared=second):
            acquired.set()

    with ThreadPoolExecutor(1) as pool:
        with file_lock(tmp_path / ".lock", shared=first):
            pool.submit(acquire)
            assert acquired.wait(5 if first and second else 0.2) is (first and second)
        assert acquired.wait(5)


def test_a_waiting_process_is_announced_once(tmp_path: Path) -> None:
    calls: list[str] = []

    def refuse() -> None:
        calls.append("waits")
        raise MachineError("in use")

    path = tmp_path / ".lock"
    with lock_and_remove(path, before_waiting=refuse):
        assert calls == []
        with pytest.raises(MachineError), lock_and_remove(path, before_waiting=refuse):
            pass
    with lock_and_remove(path, before_waiting=refuse):
        assert calls == ["waits"]


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom jaxnets import io\n"
        "with io.lock_and_remove(Path(sys.argv[1]), before_waiting=print):\n"
        "    print('locked', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / ".lock")]
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            process.kill()


def test_a_system_without_fcntl_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(MachineError, match="only Linux and macOS"), file_lock(tmp_path / ".lock"):
        pass


def test_a_lock_in_a_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), file_lock(tmp_path / "missing" / ".lock"):
        pass


def test_old_temporary_files_are_removed(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (f".{'a' * 16}.tmp", f".{'b' * 16}.tmp", ".mine.tmp"))
    for path in (old, new, other):
        path.write_text("half")
    for path in (old, other):
        os.utime(path, (0, 0))
    remove_stale_temporaries(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([new, other])


def test_write_error_names_the_file(tmp_path: Path) -> None:
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
