"""Large arrays that are computed once and then memory-mapped."""

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
    """A read-only memory map, and the seconds that filling it took, in this or another process."""

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
    """Opens the array FOLDER/NAME.npy, computing it with `fill` if necessary.

    `about` lists everything the values depend on, as JSON: the array is rebuilt if it was made from anything
    else, or if its bytes have changed. Every call hashes all bytes, under a shared lock, so that processes
    can do it concurrently. Only the process that fills the array takes an exclusive lock; the others wait.
    A killed process leaves no usable partial array. Raises MachineError if the disk is full, and whatever
    `fill` raises.
    """
    file = folder / f"{name}.npy"
    lock = folder.with_name(f".{folder.name}.lock")
    about = json.loads(json.dumps({**about, "shape": shape, "dtype": np.dtype(dtype).name}))
    while True:
        with file_lock(lock, shared=True):
            before = _version(folder)
            description = _read_valid(folder, file, about)
            if description is not None:
                return CachedMemmap(np.load(file, mmap_mode="r"), description["seconds"])
        with try_file_lock(lock) as locked:
            if locked and _version(folder) == before:  # else another process has built it meanwhile
                seconds = _build(file, fill, shape, dtype, about)
                return CachedMemmap(np.load(file, mmap_mode="r"), seconds)
        time.sleep(POLL_SECONDS)


def _build(
    file: Path,
    fill: Callable[[np.ndarray], None],
    shape: tuple[int, ...],
    dtype: Any,
    about: Mapping[str, Any],
) -> float:
    """Replaces the folder of `file`; returns the seconds that `fill` took."""
    folder = file.parent
    unfinished = folder.with_name(folder.name + UNFINISHED)
    _remove(folder, unfinished)
    try:
        unfinished.mkdir(parents=True)
        target = unfinished / file.name
        array = np.lib.format.open_memmap(target, mode="w+", dtype=dtype, shape=shape)
        with target.open("r+b") as opened:
            # A full disk raises here; while writing to the map it would kill the process.
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
            "sha256": file_sha256(target),
        }
        atomic_write(unfinished / DESCRIPTION, json.dumps(description, indent=1) + "\n")
        unfinished.rename(folder)
        return seconds
    except OSError as error:
        _remove(folder, unfinished)
        raise MachineError(
            f"the cache {folder} cannot be written ({error.strerror}): free disk space, "
            "or set --config.data.cache_root"
        ) from error
    except JaxnetsError:
        _remove(folder, unfinished)
        raise


def _read_valid(folder: Path, file: Path, about: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The description of the array; None if it was not made from `about` or its bytes have changed."""
    try:
        found: Mapping[str, Any] = json.loads((folder / DESCRIPTION).read_text())
        same = found["format"] == FORMAT and found["about"] == about
        if same and found["seconds"] >= 0 and file_sha256(file) == found["sha256"]:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _version(folder: Path) -> tuple[int, int] | None:
    """Identifies one build of the array; None if there is none."""
    with contextlib.suppress(OSError):
        found = (folder / DESCRIPTION).stat()
        return found.st_ino, found.st_mtime_ns
    return None


def _remove(*folders: Path) -> None:
    # Only under the exclusive lock, so no other process uses these folders.
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)
