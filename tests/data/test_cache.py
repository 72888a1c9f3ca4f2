"""The cache of decoded images: checks, rebuilds, kills and concurrent processes."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jaxnets.data import cache
from jaxnets.data.cache import CachedMemmap, cached_memmap, open_cache, writable_cache_root
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.errors import DataError, MachineError
from jaxnets.io import file_lock


@pytest.fixture
def source() -> SyntheticTissue:
    return SyntheticTissue(12, 16)


def test_cached_rows_equal_the_examples(source: SyntheticTissue, tmp_path: Path) -> None:
    cached = open_cache(source, tmp_path, 16, threads=2)
    for index in range(len(source)):
        for name, value in source[index].items():
            np.testing.assert_array_equal(cached[index][name], value)
    batch = cache.gather(cached, [5, 3])
    np.testing.assert_array_equal(batch["image"][1], source[3]["image"])
    np.testing.assert_array_equal(batch["index"], [5, 3])
    assert cached.classes == source.classes


def test_second_open_decodes_nothing(source: SyntheticTissue, tmp_path: Path) -> None:
    seen: list[int] = []
    for _ in range(2):
        open_cache(source, tmp_path, 16, progress=lambda done, total: seen.append(done))
    assert seen == list(range(1, 13))


def test_drawing_in_processes_gives_the_same_images(
    source: SyntheticTissue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    expected = np.stack([source[index]["image"] for index in range(len(source))])
    monkeypatch.setattr(cache, "FEWEST_DRAWN_BY_PROCESSES", 12)
    monkeypatch.setattr(cache, "DRAWN_AT_A_TIME", 5)
    cached = open_cache(source, tmp_path, 16, threads=2, progress=lambda done, total: seen.append(done))
    np.testing.assert_array_equal(cached.images, expected)
    assert seen == [6, 12]


def test_changed_byte_rebuilds_the_cache(source: SyntheticTissue, tmp_path: Path) -> None:
    open_cache(source, tmp_path, 16)
    file = cache.cache_folder(tmp_path, source, 16, "crop") / "images.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    np.testing.assert_array_equal(open_cache(source, tmp_path, 16)[11]["image"], source[11]["image"])


@pytest.mark.parametrize("changed", ["PIL.__version__", "jaxnets.data.cache.PIXELS"])
def test_another_decoder_rebuilds_the_cache(
    source: SyntheticTissue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    seen: list[int] = []

    def decoded() -> int:
        seen.clear()
        open_cache(source, tmp_path, 16, progress=lambda done, total: seen.append(done))
        return len(seen)

    assert (decoded(), decoded()) == (12, 0)
    monkeypatch.setattr(changed, "another")
    assert (decoded(), decoded()) == (12, 0)


def test_older_format_is_rebuilt(source: SyntheticTissue, tmp_path: Path) -> None:
    open_cache(source, tmp_path, 16)
    folder = cache.cache_folder(tmp_path, source, 16, "crop")
    old = {
        "format": 1,
        **{"source": source.name, "fingerprint": source.fingerprint, "size": 16, "resize": "crop"},
        "sha256": json.loads((folder / cache.DESCRIPTION).read_text())["sha256"],
    }
    (folder / cache.DESCRIPTION).write_text(json.dumps(old))
    seen: list[int] = []
    open_cache(source, tmp_path, 16, progress=lambda done, total: seen.append(done))
    assert len(seen) == 12


def _fill_slowly(array: np.ndarray) -> None:
    time.sleep(0.05)
    array[:] = 1


def _open_memmap(folder: Path, fill: Callable[[np.ndarray], None]) -> CachedMemmap:
    return cached_memmap(folder / "one", "values", fill, shape=(3,), dtype=np.uint8, about={"body": "x"})


def test_cache_stores_the_seconds_of_filling_it(tmp_path: Path) -> None:
    first, second = _open_memmap(tmp_path, _fill_slowly), _open_memmap(tmp_path, _fill_slowly)
    assert first.seconds == second.seconds >= 0.05


def test_processes_can_check_a_cache_concurrently(tmp_path: Path) -> None:
    _open_memmap(tmp_path, _fill_slowly)
    with file_lock(tmp_path / ".one.lock", shared=True), ThreadPoolExecutor(1) as pool:
        assert pool.submit(_open_memmap, tmp_path, _fill_slowly).result(timeout=20).array.sum() == 3


FILL = """
import sys, time
from pathlib import Path
import numpy as np
from jaxnets.data.cache import cached_memmap

def fill(array):
    with open(sys.argv[1] + "/fills", "a") as fills:
        fills.write("x")
    time.sleep(0.3)
    array[:] = np.arange(len(array))

cached = cached_memmap(Path(sys.argv[1], "one"), "v", fill, shape=(1000,), dtype=np.int64, about={})
assert cached.array.sum() == 499500 and cached.seconds >= 0.3
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_only_one_process_fills(tmp_path: Path, damaged: bool) -> None:
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    if damaged:
        subprocess.run(command, check=True)
        with (tmp_path / "one" / "v.npy").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"x")
        (tmp_path / "fills").unlink()
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert (tmp_path / "fills").read_text() == "x"


def test_leftovers_of_a_killed_process_are_ignored(source: SyntheticTissue, tmp_path: Path) -> None:
    folder = cache.cache_folder(tmp_path, source, 16, "crop")
    unfinished = folder.with_name(folder.name + cache.UNFINISHED)
    unfinished.mkdir()
    (unfinished / "images.npy").write_bytes(b"half")
    assert len(open_cache(source, tmp_path, 16)) == 12
    assert not unfinished.exists()


def test_caches_are_separate_by_size(source: SyntheticTissue, tmp_path: Path) -> None:
    assert open_cache(source, tmp_path, 16).images.shape == (12, 16, 16, 3)
    assert open_cache(source, tmp_path, 8).images.shape == (12, 8, 8, 3)


def test_concurrent_processes_build_one_valid_cache(source: SyntheticTissue, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from jaxnets.data.cache import open_cache\n"
        "from jaxnets.data.sources.synthetic_tissue import SyntheticTissue\n"
        "open_cache(SyntheticTissue(12, 16), Path(sys.argv[1]), 16)"
    )
    workers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    description = json.loads(
        (cache.cache_folder(tmp_path, source, 16, "crop") / cache.DESCRIPTION).read_text()
    )
    assert description["about"]["fingerprint"] == source.fingerprint


class _Broken(SyntheticTissue):
    def __getitem__(self, index: int) -> dict:
        if index in (4, 7):
            raise DataError(f"image {index} is damaged")
        return super().__getitem__(index)


def test_unreadable_images_raise_and_leave_no_files(tmp_path: Path) -> None:
    source = _Broken(12, 16)
    with pytest.raises(DataError, match=r"image 4 is damaged \(also image 7 is damaged\)"):
        open_cache(source, tmp_path, 16)
    assert not cache.cache_folder(tmp_path, source, 16, "crop").exists()


def test_full_disk_raises_machine_error(
    source: SyntheticTissue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "atomic_write", full)
    with pytest.raises(MachineError, match="No space left"):
        open_cache(source, tmp_path, 16)


def test_fallback_folder_is_used_if_the_first_is_not_writable(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert writable_cache_root(blocked / "cache", tmp_path / "home") == tmp_path / "home"
    with pytest.raises(MachineError, match="cache_root"):
        writable_cache_root(blocked / "cache", blocked / "home")
    read_only = tmp_path / "read_only"
    read_only.mkdir(mode=0o555)
    assert writable_cache_root(read_only / "cache", tmp_path / "home") == tmp_path / "home"
    assert not (read_only / "cache").exists()


def test_full_disk_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(MachineError, match=r"No space left on device\): free disk space"):
        open_cache(SyntheticTissue(3, 16), tmp_path, 16)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_without_fallocate_zeros_reserve_the_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, which has no posix_fallocate."""
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(cache, "ZEROS", bytes(1000))
    expected, reserved = np.arange(50_001, dtype=np.int16), []

    def fill(array: np.ndarray) -> None:
        (file,) = tmp_path.glob("two*/images.npy")
        reserved.append(file.stat().st_blocks * 512)
        array[:] = expected

    shape = expected.shape
    found = cached_memmap(tmp_path / "two", "images", fill, shape=shape, dtype=np.int16, about={})
    np.testing.assert_array_equal(found.array, expected)
    assert reserved[0] >= expected.nbytes
