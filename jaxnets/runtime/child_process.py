"""Runs a child process with a deadline, signal forwarding and parent-death handling."""

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxnets.runtime import signals

POLL_SECONDS = 0.1
PARENT_DEATH_SCRIPT = Path(__file__).with_name("parent_death.py")


@dataclasses.dataclass(frozen=True)
class ProcessResult:
    """The result of a command: exit code (-N: killed by signal N), whether it hit the deadline, and stderr.

    `signal_number` is the first signal that this process received and forwarded meanwhile.
    """

    code: int
    cut: bool
    errors: str
    signal_number: int | None


def run(
    command: Sequence[str],
    *,
    deadline: float | None = None,
    death_signal: int = signal.SIGTERM,
    show: Callable[[str], str] = str,
) -> ProcessResult:
    """Runs a command; at `deadline` (time.monotonic) it gets SIGTERM, and may still save.

    It inherits standard output; its standard error is copied through `show`. The first two signals that stop
    a script are forwarded; a third one ends this process. On Linux the command gets `death_signal` when this
    process dies.
    """
    received: list[int] = []
    with (
        tempfile.TemporaryFile() as errors,
        signals.stoppable(received.append, signals=2) as request,
    ):
        # In a new session, so that it receives Ctrl-C only once, forwarded by this process.
        process = subprocess.Popen(
            with_parent_death(command, death_signal),
            stdin=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        shown, forwarded, cut = 0, 0, False
        try:
            while not _ended(process):
                shown += _echo(errors.fileno(), shown, show)
                for number in received[forwarded:]:
                    # Python prints a traceback on SIGINT until a script has installed its handlers.
                    process.send_signal(signal.SIGTERM if number == signal.SIGINT else number)
                    forwarded += 1
                if not cut and deadline is not None and time.monotonic() >= deadline:
                    process.send_signal(signal.SIGTERM)
                    cut = True
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        _echo(errors.fileno(), shown, show)
        stderr = _read(errors.fileno(), 0)
    return ProcessResult(process.returncode, cut, stderr, request.number)


def with_parent_death(command: Sequence[str], death_signal: int = signal.SIGTERM) -> list[str]:
    """Returns the command wrapped so that it gets `death_signal` when this process dies (Linux)."""
    script = [sys.executable, "-I", "-S", str(PARENT_DEATH_SCRIPT)]
    return [*script, str(os.getpid()), str(int(death_signal)), *command]


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _echo(file: int, start: int, show: Callable[[str], str]) -> int:
    """Copies the new part of a file to standard error; returns its size in bytes."""
    size = os.fstat(file).st_size - start
    if size > 0:
        sys.stderr.write(show(_read(file, start, size)))
        sys.stderr.flush()
    return max(size, 0)


def _read(file: int, start: int, size: int | None = None) -> str:
    # pread does not move the position of the file, through which the child writes.
    length = os.fstat(file).st_size - start if size is None else size
    return os.pread(file, length, start).decode(errors="replace")
