"""Large arrays that are made once and then memory-mapped."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.errors import JaxnetsError, MachineError
from jaxnets.io import atomic_write, file_lock, file_sha256, try_file_lock

FORMAT = 2
DESCRIPTION, UNFINISHED = "cache.json", ".unfinished"
POLL_SECONDS = 0.05


class CachedMemmap(NamedTuple):
    """A memory-mapped array, read-only, and what it took to fill it, also where that was another process."""

    array: np.ndarray
    seconds: float


def cached_memmap(
    folder: Path,
    name: str,
    fill: Callable[[np.ndarray], None],
    *,
    shape: tuple[int, ...],
    dtype: Any,
    about: Mapping[str, Any],
) -> CachedMemmap:
    """The array FOLDER/NAME.npy; made by `fill` unless it is there.

    `about` is all that its values depend on, as JSON: an array that was made from anything else is made
    again, as is one whose bytes have changed. Every byte is hashed at every call; processes that start at
    the same time do that at the same time, under a shared lock. Only the one that fills an array holds an
    exclusive lock, and the others wait for it. A process that is killed leaves nothing that counts.
    Raises MachineError where the disk is full, and what `fill` raises.
    """
    file = folder / f"{name}.npy"
    lock = folder.with_name(f".{folder.name}.lock")
    about = json.loads(json.dumps({**about, "shape": shape, "dtype": np.dtype(dtype).name}))
    while True:
        with file_lock(lock, shared=True):
            before = _version(folder)
            description = _read_whole(folder, file, about)
            if description is not None:
                return CachedMemmap(np.load(file, mmap_mode="r"), description["seconds"])
        with try_file_lock(lock) as locked:
            if locked and _version(folder) == before:  # else another process has made it meanwhile
                seconds = _make(folder, file.name, fill, shape, dtype, about)
                return CachedMemmap(np.load(file, mmap_mode="r"), seconds)
        time.sleep(POLL_SECONDS)


def _make(
    folder: Path,
    file: str,
    fill: Callable[[np.ndarray], None],
    shape: tuple[int, ...],
    dtype: Any,
    about: Mapping[str, Any],
) -> float:
    """Builds the folder in the place of what is there; the seconds that `fill` took."""
    _remove_unfinished(folder)
    try:
        return _build(folder, file, fill, shape, dtype, about)
    except OSError as error:
        _remove_unfinished(folder)
        raise MachineError(
            f"the cache {folder} cannot be written ({error.strerror}): make room, "
            "or set --config.data.cache_root"
        ) from error
    except JaxnetsError:
        _remove_unfinished(folder)
        raise


def _build(
    folder: Path,
    file: str,
    fill: Callable[[np.ndarray], None],
    shape: tuple[int, ...],
    dtype: Any,
    about: Mapping[str, Any],
) -> float:
    unfinished = folder.with_name(folder.name + UNFINISHED)
    unfinished.mkdir(parents=True)
    array = np.lib.format.open_memmap(unfinished / file, mode="w+", dtype=dtype, shape=shape)
    with (unfinished / file).open("r+b") as opened:
        # A full disk is an error here; met later, while writing to the map, it would kill the process.
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(opened.fileno(), 0, array.offset + array.nbytes)
    start = time.perf_counter()
    fill(array)
    seconds = time.perf_counter() - start
    array.flush()
    description = {
        "format": FORMAT,
        "about": about,
        "seconds": seconds,
        "sha256": file_sha256(unfinished / file),
    }
    atomic_write(unfinished / DESCRIPTION, json.dumps(description, indent=1) + "\n")
    unfinished.rename(folder)
    return seconds


def _read_whole(folder: Path, file: Path, about: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The description of the array, if it was made from `about` and no byte of it has changed since."""
    try:
        found: Mapping[str, Any] = json.loads((folder / DESCRIPTION).read_text())
        same = found["format"] == FORMAT and found["about"] == about
        if same and found["seconds"] >= 0 and file_sha256(file) == found["sha256"]:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _version(folder: Path) -> tuple[int, int] | None:
    """Differs from one making of the array to the next."""
    with contextlib.suppress(OSError):
        found = (folder / DESCRIPTION).stat()
        return found.st_ino, found.st_mtime_ns
    return None


def _remove_unfinished(folder: Path) -> None:
    # Only under the lock: whatever stands here is this program's own and nobody is at work on it.
    for stale in (folder, folder.with_name(folder.name + UNFINISHED)):
        if stale.exists():
            shutil.rmtree(stale)
