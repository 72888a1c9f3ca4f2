"""Files that are whole or not there, locks between processes, and what a file's bytes are."""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from jaxnets.errors import MachineError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""EFBIG is a limit on the size of one file (`ulimit -f`, or the file system's own)."""
STALE_SECONDS = 3600.0
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR)


def user_cache_folder() -> Path:
    """~/.cache/jaxnets; of a user without a home folder, one of its own among the temporary files."""
    try:
        return Path.home() / ".cache" / "jaxnets"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"jaxnets-{os.getuid()}"


def require_folder(path: Path) -> None:
    """Makes a folder and those above it; raises MachineError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"{path} cannot be made ({error.strerror}): choose another place"
        ) from error


@contextlib.contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """A new name beside `path` to write to; renamed to `path` at the end, removed after an error.

    The name is used by no other process, so that several may write the same file at once: each version is
    whole, and the last to finish stays.
    """
    temporary = path.with_name(
        f".{secrets.token_hex(8)}.tmp"
    )  # short: `path` may have the longest name
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None  # the name that the user knows
        raise


def remove_stale_temporaries(folder: Path) -> None:
    """Removes temporary files older than an hour that killed processes left in a folder."""
    for path in folder.glob(f".{'[0-9a-f]' * 16}.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def atomic_write(path: Path, content: str | bytes) -> None:
    """Writes a file of text or bytes under a temporary name beside it, to the disk, then renames it."""
    with atomic_replace(path) as temporary, temporary.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def file_lock(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Waits for an advisory lock on the file `path`, which is made; the system releases it after a kill."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def try_file_lock(path: Path) -> Iterator[bool]:
    """The exclusive lock of `file_lock` if it is free now; False if another process has it."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def lock_and_remove(path: Path, *, before_waiting: Callable[[], None]) -> Iterator[None]:
    """The exclusive lock of `file_lock`, on a file that is removed at the end."""
    while True:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                before_waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(path, file):  # else the process that was waited for has removed it
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return


def _is_still(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file for reading. A FIFO, socket or device is not opened, which could wait for ever.

    Raises OSError, for those too.
    """
    _check_regular(path, path.stat().st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_regular(path, os.fstat(descriptor).st_mode)  # it may have been replaced in between
        return io.BufferedReader(io.FileIO(descriptor))
    except OSError:
        os.close(descriptor)
        raise


def _check_regular(path: Path, mode: int) -> None:
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'not a regular file')}", str(path))


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file; raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def file_sha256(path: Path) -> str:
    """The sha256 of a regular file's bytes, in hex; raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
