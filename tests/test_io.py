"""Atomic writes and file locks."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jaxnets.errors import MachineError
from jaxnets.io import (
    DISK_FULL,
    atomic_replace,
    atomic_write,
    file_lock,
    remove_stale_temporaries,
    try_file_lock,
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


def test_exclusive_and_shared_locks(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with file_lock(lock, shared=True), file_lock(lock, shared=True), try_file_lock(lock) as free:
        assert not free
    with try_file_lock(lock) as free:
        assert free
        with try_file_lock(lock) as again:
            assert not again


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
