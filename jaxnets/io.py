"""Files (atomic writes, locks, regular files), and untrusted text, such as their names, for display."""

import contextlib
import csv
import errno
import hashlib
import io
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from jaxnets.errors import MachineError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # EFBIG: of `ulimit -f` or the file system
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR)

_BIDIRECTIONAL = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNSAFE = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{_BIDIRECTIONAL}]")
"""Control characters, line separators, lone surrogates and bidirectional controls."""
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Text that a spreadsheet interprets as a formula, also after `csv_cell`."""


def project_folder(name: str) -> Path:
    """Returns the checkout's folder configs or scripts, or its copy in an installed package."""
    package = Path(__file__).parent
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name


def command(name: str) -> str:
    """Returns how to start a script: "python scripts/NAME.py", or "jaxnets NAME" without a checkout."""
    if project_folder("scripts").name == "_scripts":
        return f"jaxnets {name}"
    return f"python scripts/{name}.py"


def user_cache_folder() -> Path:
    """Returns ~/.cache/jaxnets, or a temporary folder of a user without a home folder."""
    try:
        return Path.home() / ".cache" / "jaxnets"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"jaxnets-{os.getuid()}"


def require_folder(path: Path) -> None:
    """Creates a folder and its parents; raises MachineError on failure."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{path} cannot be created ({error.strerror}): choose another folder") from error


@contextlib.contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Yields a temporary path, renamed to `path` at the end, removed after an error."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # `path` may have the maximum length
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None  # the name for the user
        raise


def remove_stale_temporaries(folder: Path) -> None:
    """Removes temporary files of killed processes, older than an hour, from a folder."""
    for path in folder.glob(f".{'[0-9a-f]' * 16}.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()


def atomic_write(path: Path, content: str | bytes) -> None:
    """Writes text or bytes atomically: to a temporary file, then fsync and rename."""
    with atomic_replace(path) as temporary, temporary.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def file_lock(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Waits for an advisory lock on the file `path`, which is created if it does not exist."""
    with path.open("a") as file:
        _flock(file, shared=shared)
        yield


@contextlib.contextmanager
def lock_and_remove(path: Path, *, before_waiting: Callable[[], None]) -> Iterator[None]:
    """Waits for the exclusive lock of `file_lock`; the file is removed at the end."""
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(path.open("a"))
            try:
                _flock(file, wait=False)
            except BlockingIOError:
                before_waiting()
                _flock(file)
            with contextlib.suppress(FileNotFoundError):  # the other process has removed it
                if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    break
        stack.callback(path.unlink, missing_ok=True)
        yield


def _flock(file: IO[str], *, shared: bool = False, wait: bool = True) -> None:
    """Locks an open file until it is closed; raises MachineError where Python lacks fcntl."""
    try:
        import fcntl
    except ImportError as error:
        raise MachineError("files are locked by fcntl, which only Linux and macOS have") from error
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """Opens a regular file for reading; raises OSError, also for a FIFO, socket or device (it may block)."""
    _check_regular(path, path.stat().st_mode)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        _check_regular(path, os.fstat(file.fileno()).st_mode)  # it may have been replaced
        yield file


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        names = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        raise OSError(errno.EINVAL, f"it is {names.get(stat.S_IFMT(mode), 'a device')}", str(path))


def read_regular(path: Path) -> bytes:
    """Returns the bytes of a regular file; raises OSError like `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def file_sha256(path: Path) -> str:
    """Returns the hex sha256 of a regular file; raises OSError like `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def printable(text: str) -> str:
    r"""Escapes control characters and line breaks, such as \x1b, so that a terminal can show text."""
    return _UNSAFE.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """Like `printable`, but does not escape line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def csv_cell(value: object) -> object:
    """Prefixes text that a spreadsheet would interpret as a formula with an apostrophe."""
    if isinstance(value, str) and _FORMULA.match(value):
        return f"'{value}"
    return value


def csv_table(rows: Iterable[Iterable[object]]) -> str:
    """CSV of the rows, with `csv_cell` applied to every value."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(csv_cell, row) for row in rows)
    return text.getvalue()


def from_csv_cell(text: str) -> str:
    """Inverts `csv_cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _escaped(match: re.Match[str]) -> str:
    if "\udc80" <= match[0] <= "\udcff":
        return f"\\x{ord(match[0]) - 0xDC00:02x}"  # a byte of a file name that is not UTF-8
    return match[0].encode("unicode_escape").decode("ascii")
