"""Locks run directories, and writes their files with checksums.

checksums.json lists the valid sha256 values of each file; null means that the file may be missing. To replace
a file, `write_files` lists both the old and the new sha256, replaces the file, then lists only the new one.
Each step is atomic: after a kill at any moment every file is valid, and the run can be resumed.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from ml_collections import config_dict

from jaxnets.errors import CheckpointError, ConfigError, MachineError
from jaxnets.io import (
    DISK_FULL,
    atomic_write,
    file_lock,
    lock_and_remove,
    read_regular,
    remove_stale_temporaries,
)
from jaxnets.schema import Length, Sha256, parse

CONFIG, MANIFEST, SPLIT, CHECKSUMS = "config.json", "manifest.json", "split.csv", "checksums.json"
CHECKPOINTS, CHECKSUMS_LOCK, LOCK = "checkpoints", ".checksums.lock", ".lock"
AllowedHashes = Mapping[str, Sequence[str | None]]
"""The valid sha256 values by relative file name; None means that the file may be missing."""


class Checksums(TypedDict):
    """The content of checksums.json; `sha256` covers `files`."""

    schema_version: Literal[1]
    files: dict[str, Annotated[list[Sha256 | None], Length(1, 3)]]
    sha256: Sha256


def default_workdir(config: config_dict.ConfigDict) -> Path:
    """runs/CONFIG-VARIANT-sSEED."""
    return Path("runs") / f"{config.name.replace(':', '-')}-s{config.seed}"


@contextlib.contextmanager
def lock_workdir(workdir: Path, flag: str = "--workdir") -> Iterator[None]:
    """Creates and locks the directory; if it is new and nothing was written, it is removed at the end.

    `flag` is the option to name in error messages. Raises ConfigError if the path is a file, MachineError if
    it cannot be written or another process has locked it.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"{workdir} is a file, not a directory: choose another {flag}")

    def refuse() -> None:
        raise MachineError(f"{workdir} is in use by another process: wait for it, or choose another {flag}")

    with contextlib.ExitStack() as stack:
        try:
            if not workdir.exists():
                workdir.mkdir(parents=True, exist_ok=True)
                stack.callback(_remove_empty, workdir)
            stack.enter_context(lock_and_remove(workdir / LOCK, before_waiting=refuse))
            for folder in (workdir, *(path for path in workdir.iterdir() if path.is_dir())):
                remove_stale_temporaries(folder)
            probe = workdir / ".probe"
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()
        except OSError as error:
            raise _not_written(workdir, error, flag) from error
        yield


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it has files
        folder.rmdir()


def _not_written(workdir: Path, error: OSError, flag: str) -> MachineError:
    remedy = "make room, or " if error.errno in DISK_FULL else ""
    return MachineError(f"{workdir} cannot be written ({error.strerror}): {remedy}choose another {flag}")


def read_hashes(directory: Path) -> AllowedHashes | None:
    """The hashes of checksums.json; None if it does not exist. Raises CheckpointError if it is damaged."""
    path = directory / CHECKSUMS
    try:
        data = read_regular(path)
        files = parse(data, Checksums)["files"]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error
    if data.decode() != _to_json(files):
        raise CheckpointError(f"{path} is damaged (its own sha256 does not match)")
    return files


def damage(hashes: AllowedHashes | None, directory: Path, name: str, data: bytes | None) -> str | None:
    """How a file's bytes (None if it is missing) differ from `hashes`, or None; None without `hashes`."""
    if hashes is None:
        return None
    path, allowed = directory / name, hashes.get(name)
    if allowed is None:
        return None if data is None else f"{path} is not listed in {CHECKSUMS}"
    if data is None:
        return None if None in allowed else f"{path} is missing"
    return None if _sha256(data) in allowed else f"{path} has changed since it was written"


def write_files(directory: Path, contents: Mapping[str, str | bytes], *, final: Sequence[str] = ()) -> None:
    """Writes files of a run directory, in order, and lists them.

    `contents` are by relative file name; `final` are existing files that will not change any more, which are
    listed too. A damaged checksums.json is not changed: the directory cannot be verified any more.
    """
    encoded = {name: text.encode() if isinstance(text, str) else text for name, text in contents.items()}
    with file_lock(directory / CHECKSUMS_LOCK):  # evaluation and training may write at the same time
        listed = _listed(directory)
        hashes = {**(listed or {}), **{name: [_sha256_now(directory / name)] for name in final}}
        after = {name: [_sha256(data)] for name, data in encoded.items()}
        before = {name: _sha256_now(directory / name) for name in encoded}
        both = {name: list(dict.fromkeys([before[name], *after[name]])) for name in encoded}
        if listed is not None:
            atomic_write(directory / CHECKSUMS, _to_json({**hashes, **both}))
        for name, data in encoded.items():
            (directory / name).parent.mkdir(exist_ok=True)
            atomic_write(directory / name, data)
        if listed is not None:
            atomic_write(directory / CHECKSUMS, _to_json({**hashes, **after}))


def _listed(directory: Path) -> AllowedHashes | None:
    """The hashes so far; None if checksums.json is missing or damaged and the user ignores that."""
    with contextlib.suppress(CheckpointError):
        hashes = read_hashes(directory)
        if hashes is not None or not (directory / CONFIG).exists():  # a new run
            return hashes or {}
    return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha256_now(path: Path) -> str | None:
    try:
        return _sha256(read_regular(path))
    except FileNotFoundError:
        return None


def _to_json(files: AllowedHashes) -> str:
    """The canonical text: any changed byte is detected."""
    digest = _sha256(json.dumps(files, sort_keys=True).encode())
    content = {"schema_version": 1, "files": files, "sha256": digest}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
