"""What a run directory is called, who may write it, and in what two runs differ."""

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

CONFIG, MANIFEST, SPLIT, CHECKPOINTS, LOCK = (
    "config.json",
    "manifest.json",
    "split.csv",
    "checkpoints",
    ".lock",
)
RECORD_LOCK = "hhqqi4x"
"""Linux's struct flock: type, whence, start, length (0: all of the file), process."""
FIELDS_ALLOWED_TO_DIFFER = (
    *("data.root", "data.cache_root", "data.threads", "data.path", "data.on_device"),
    *("train.steps_per_execution", "transfer.pretrained_on", "note"),
)
"""Fields that may differ when a run goes on: they say where things are and how, not what is computed."""


def default_workdir(config: config_dict.ConfigDict) -> Path:
    """runs/CONFIG-VARIANT-sSEED."""
    return Path("runs") / f"{config.name.replace(':', '-')}-s{config.seed}"


@contextlib.contextmanager
def lock_workdir(workdir: Path, flag: str = "--workdir") -> Iterator[None]:
    """Makes the directory and keeps other processes out of it.

    `flag` is what the user gave the directory with. Raises ConfigError if it is a file, MachineError if it
    cannot be written or another process has it.
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
    """Whether a process holds the directory. Asking never stops one that is about to begin."""
    try:
        with (workdir / LOCK).open() as lock:
            if hasattr(fcntl, "F_OFD_GETLK"):
                found = fcntl.fcntl(lock, fcntl.F_OFD_GETLK, _record_lock(fcntl.F_RDLCK))
                return struct.unpack(RECORD_LOCK, found)[0] != fcntl.F_UNLCK
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # elsewhere there is no way but to try
    except BlockingIOError:
        return True
    except OSError:
        return False  # none has it yet; what else is wrong, the run itself will report
    return False


def _mark_in_use(lock: IO[str]) -> None:
    """Sets, beside flock's lock, one of a kind that other processes can ask for without taking it."""
    if hasattr(fcntl, "F_OFD_SETLK"):
        with contextlib.suppress(OSError):  # a file system without: the directory then looks free
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, _record_lock(fcntl.F_WRLCK))


def _record_lock(kind: int) -> bytes:
    return struct.pack(RECORD_LOCK, kind, 0, 0, 0, 0)


def _not_written(workdir: Path, error: OSError, flag: str) -> MachineError:
    remedy = "make room, or " if error.errno in DISK_FULL else ""
    return MachineError(
        f"{workdir} cannot be written ({error.strerror}): {remedy}choose another {flag}"
    )


def copy_pretrained_settings(config: config_dict.ConfigDict, there: config_dict.ConfigDict) -> None:
    """Sets what a run took from the weights it began with, as its recipe `there` has it.

    That is the preprocessing, and the form of the network where `config` leaves it open.
    """
    config.data.mean, config.data.std = there.data.mean, there.data.std
    if config.model.variant is None:
        config.model.variant = there.model.variant


def describe_config_diff(there: config_dict.ConfigDict, now: config_dict.ConfigDict) -> str:
    """In what two recipes differ that counts, in words; "" where they are the same.

    A number of classes that still follows the data differs from none, and fields that neither run uses
    differ from nothing.
    """
    there, now = config_lib.used_fields(there), config_lib.used_fields(now)
    return ", ".join(
        f"{path}: {old!r} there, {new!r} now"
        for path, (old, new) in config_lib.differences(there, now).items()
        if path not in FIELDS_ALLOWED_TO_DIFFER and (path, new) != ("model.num_classes", 0)
    )
