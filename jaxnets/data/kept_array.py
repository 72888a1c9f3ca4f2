"""Large arrays that are made once and then memory-mapped."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.errors import JaxnetsError, MachineError
from jaxnets.files import file_sha256, write_whole

FORMAT = 1
DESCRIPTION, UNFINISHED = "cache.json", ".unfinished"


def kept_array(
    folder: Path,
    name: str,
    fill: Callable[[np.ndarray], None],
    *,
    shape: tuple[int, ...],
    dtype: Any,
    about: Mapping[str, Any],
) -> np.ndarray:
    """The array FOLDER/NAME.npy, read-only; made by `fill` where it is not there, `about` beside it.

    A second process waits for the first; a process that is killed leaves nothing that counts. An array
    whose bytes have changed since is made anew. Raises MachineError where the disk is full, and what
    `fill` raises.
    """
    file = folder / f"{name}.npy"
    with _lock(folder.with_name(f".{folder.name}.lock")):
        if not _is_whole(folder, file):
            _remove_unfinished(folder)
            try:
                _build(folder, file.name, fill, shape, dtype, about)
            except OSError as error:
                _remove_unfinished(folder)
                raise MachineError(
                    f"the cache {folder} cannot be written ({error.strerror}): make room, "
                    "or set --config.data.cache_root"
                ) from error
            except JaxnetsError:
                _remove_unfinished(folder)
                raise
    return np.load(file, mmap_mode="r")


def _build(
    folder: Path,
    file: str,
    fill: Callable[[np.ndarray], None],
    shape: tuple[int, ...],
    dtype: Any,
    about: Mapping[str, Any],
) -> None:
    unfinished = folder.with_name(folder.name + UNFINISHED)
    unfinished.mkdir(parents=True)
    array = np.lib.format.open_memmap(unfinished / file, mode="w+", dtype=dtype, shape=shape)
    with (unfinished / file).open("r+b") as opened:
        # A full disk is an error here; met later, while writing to the map, it would kill the process.
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(opened.fileno(), 0, array.offset + array.nbytes)
    fill(array)
    array.flush()
    description = {"format": FORMAT, **about, "sha256": file_sha256(unfinished / file)}
    write_whole(unfinished / DESCRIPTION, json.dumps(description, indent=1) + "\n")
    unfinished.rename(folder)


def _is_whole(folder: Path, file: Path) -> bool:
    try:
        description: Mapping[str, Any] = json.loads((folder / DESCRIPTION).read_text())
        return description["format"] == FORMAT and file_sha256(file) == description["sha256"]
    except (OSError, ValueError, KeyError):
        return False


def _remove_unfinished(folder: Path) -> None:
    # Only under the lock: whatever stands here is this program's own and nobody is at work on it.
    for stale in (folder, folder.with_name(folder.name + UNFINISHED)):
        if stale.exists():
            shutil.rmtree(stale)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
