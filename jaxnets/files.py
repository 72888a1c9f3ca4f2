"""Files that are whole or not there, and what their bytes are."""

import errno
import hashlib
import io
import os
import stat
from pathlib import Path

from jaxnets.errors import MachineError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR)


def require_folder(path: Path) -> None:
    """Makes a folder and those above it; raises MachineError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"{path} cannot be made ({error.strerror}): choose another place"
        ) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file of text or bytes under a temporary name beside it, to the disk, then renames it."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file for reading; OSError for others, of which FIFOs and devices might never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return io.BufferedReader(io.FileIO(descriptor))


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file; OSError for what is not one."""
    with open_regular(path) as file:
        return file.read()
