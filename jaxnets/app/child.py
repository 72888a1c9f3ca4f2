"""A command that runs below this process: it is stopped in time, hears our signals, and dies with us."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
POLL_SECONDS = 0.1
TETHER = Path(__file__).with_name("tether.py")


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a command ended: its exit code (-N: killed by signal N), whether we cut it, what it said last.

    `signal_number` is the first signal that this process had meanwhile and handed on.
    """

    code: int
    cut: bool
    errors: str
    signal_number: int | None


def run(command: Sequence[str], *, deadline: float | None = None) -> Ending:
    """Runs a command to its end; at `deadline` (time.monotonic) it gets SIGTERM, and time to save.

    Its standard output is ours, its standard error is copied to ours. SIGINT and SIGTERM are handed on,
    once each time they come. On Linux the command gets SIGTERM when this process dies.
    """
    with tempfile.TemporaryFile() as errors, _listening() as received:
        # A session of its own: Ctrl-C reaches it through us alone, so once and not twice.
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        told, handed_on, cut = 0, 0, False
        try:
            while not _ended(process):
                told += _echo(errors.fileno(), told)
                for number in received[handed_on:]:
                    process.send_signal(number)
                    handed_on += 1
                if not cut and deadline is not None and time.monotonic() >= deadline:
                    process.send_signal(signal.SIGTERM)
                    cut = True
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        _echo(errors.fileno(), told)
        first = received[0] if received else None
        return Ending(process.returncode, cut, _read(errors.fileno(), 0), first)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextlib.contextmanager
def _listening() -> Iterator[list[int]]:
    """The signals that come, in a list, instead of their handlers."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _echo(file: int, start: int) -> int:
    """Copies what is new in a file to standard error; how many bytes."""
    size = os.fstat(file).st_size - start
    if size > 0:
        sys.stderr.write(_read(file, start, size))
        sys.stderr.flush()
    return max(size, 0)


def _read(file: int, start: int, size: int | None = None) -> str:
    # pread: the child writes through the same open file, whose position must stay where it is.
    length = os.fstat(file).st_size - start if size is None else size
    return os.pread(file, length, start).decode(errors="replace")
