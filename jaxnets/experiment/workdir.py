"""Names, locks and compares run directories."""

import contextlib
import fcntl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets.errors import ConfigError, MachineError
from jaxnets.io import DISK_FULL, remove_stale_temporaries

CONFIG, MANIFEST, SPLIT = "config.json", "manifest.json", "split.csv"
CHECKPOINTS, LOCK = "checkpoints", ".lock"
RECORD_LOCK = "hhqqi4x"
"""Linux's struct flock: type, whence, start, length (0: the entire file), process."""
FIELDS_ALLOWED_TO_DIFFER = (
    *("data.root", "data.cache_root", "data.threads", "data.path", "data.on_device"),
    *("train.steps_per_execution", "transfer.pretrained_on", "note"),
)
"""Fields that may differ on resume: they do not change what is computed."""


def default_workdir(config: config_dict.ConfigDict) -> Path:
    """runs/CONFIG-VARIANT-sSEED."""
    return Path("runs") / f"{config.name.replace(':', '-')}-s{config.seed}"


@contextlib.contextmanager
def lock_workdir(workdir: Path, flag: str = "--workdir") -> Iterator[None]:
    """Creates and locks the directory.

    `flag` is the option to name in error messages. Raises ConfigError if the path is a file, MachineError if
    it cannot be written or another process has locked it.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"{workdir} is a file, not a directory: choose another {flag}")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / LOCK).open("a")
    except OSError as error:
        raise _not_written(workdir, error, flag) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MachineError(
                f"{workdir} is in use by another process: wait for it, or choose another {flag}"
            ) from error
        _mark_in_use(lock)
        for folder in (workdir, *(path for path in workdir.iterdir() if path.is_dir())):
            remove_stale_temporaries(folder)
        try:
            probe = workdir / ".probe"
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()
        except OSError as error:
            raise _not_written(workdir, error, flag) from error
        yield


def is_in_use(workdir: Path) -> bool:
    """Whether a process has locked the directory. The query itself never blocks another process."""
    try:
        with (workdir / LOCK).open() as lock:
            if hasattr(fcntl, "F_OFD_GETLK"):
                found = fcntl.fcntl(lock, fcntl.F_OFD_GETLK, _record_lock(fcntl.F_RDLCK))
                return struct.unpack(RECORD_LOCK, found)[0] != fcntl.F_UNLCK
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # other systems: try to lock it
    except BlockingIOError:
        return True
    except OSError:
        return False  # no run has locked it yet; the run itself reports other errors
    return False


def _mark_in_use(lock: IO[str]) -> None:
    """Adds a record lock, which other processes can query without acquiring it (unlike flock's)."""
    if hasattr(fcntl, "F_OFD_SETLK"):
        with contextlib.suppress(OSError):  # unsupported by the file system
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, _record_lock(fcntl.F_WRLCK))


def _record_lock(kind: int) -> bytes:
    return struct.pack(RECORD_LOCK, kind, 0, 0, 0, 0)


def _not_written(workdir: Path, error: OSError, flag: str) -> MachineError:
    remedy = "make room, or " if error.errno in DISK_FULL else ""
    return MachineError(f"{workdir} cannot be written ({error.strerror}): {remedy}choose another {flag}")


def describe_config_diff(stored: config_dict.ConfigDict, new: config_dict.ConfigDict) -> str:
    """The relevant differences between two configs; "" if there are none.

    Ignores fields that neither run uses, and those of `new` that are resolved when a run starts:
    model.num_classes=0 follows the data, preprocessing and variant follow the pretrained weights.
    """
    stored, new = config_lib.used_fields(stored), config_lib.used_fields(new)
    ignored = {*FIELDS_ALLOWED_TO_DIFFER}
    if new.model.num_classes == 0:
        ignored.add("model.num_classes")
    if new.transfer.weights not in (None, "random") and new.transfer.weights == stored.transfer.weights:
        ignored |= {"data.mean", "data.std"} | ({"model.variant"} if new.model.variant is None else set())
    return ", ".join(
        f"{path}: {before!r} -> {after!r}"
        for path, (before, after) in config_lib.differences(stored, new).items()
        if path not in ignored
    )
