"""A command that runs below this process: it is stopped in time, hears our signals, and dies with us."""

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
    """How a command ended: its exit code (-N: killed by signal N), whether we cut it, what it said last.

    `signal_number` is the first signal that this process had meanwhile and passed on.
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
    """Runs a command to its end; at `deadline` (time.monotonic) it gets SIGTERM, and time to save.

    Its standard output is ours, its standard error is copied to ours as `show` has it. Signals that end or
    stop a script are passed on; a third one ends this process. On Linux the command gets `death_signal`
    when this process dies.
    """
    received: list[int] = []
    with (
        tempfile.TemporaryFile() as errors,
        signals.stoppable(received.append, signals=2) as request,
    ):
        # A session of its own: Ctrl-C reaches it through us alone, so once and not twice.
        process = subprocess.Popen(
            with_parent_death(command, death_signal),
            stdin=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        shown, passed_on, cut = 0, 0, False
        try:
            while not _ended(process):
                shown += _echo(errors.fileno(), shown, show)
                for number in received[passed_on:]:
                    # Python answers SIGINT with a traceback until a script has installed its handlers.
                    process.send_signal(signal.SIGTERM if number == signal.SIGINT else number)
                    passed_on += 1
                if not cut and deadline is not None and time.monotonic() >= deadline:
                    process.send_signal(signal.SIGTERM)
                    cut = True
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        _echo(errors.fileno(), shown, show)
        said = _read(errors.fileno(), 0)
    return ProcessResult(process.returncode, cut, said, request.number)


def with_parent_death(command: Sequence[str], death_signal: int = signal.SIGTERM) -> list[str]:
    """The command as one that gets `death_signal` when this process dies (Linux)."""
    tether = [
        sys.executable,
        "-I",
        "-S",
        str(PARENT_DEATH_SCRIPT),
        str(os.getpid()),
        str(int(death_signal)),
    ]
    return [*tether, *command]


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _echo(file: int, start: int, show: Callable[[str], str]) -> int:
    """Copies what is new in a file to standard error; how many bytes."""
    size = os.fstat(file).st_size - start
    if size > 0:
        sys.stderr.write(show(_read(file, start, size)))
        sys.stderr.flush()
    return max(size, 0)


def _read(file: int, start: int, size: int | None = None) -> str:
    # pread: the child writes through the same open file, whose position must stay where it is.
    length = os.fstat(file).st_size - start if size is None else size
    return os.pread(file, length, start).decode(errors="replace")
