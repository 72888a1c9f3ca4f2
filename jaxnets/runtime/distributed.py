"""Training as one of several processes: when another one dies, this one ends with one line and exit code 6.

JAX aborts a process that cannot reach the others (SIGABRT, after a stack of C++), which nothing in the
process can prevent. So the training runs in a child, and a small parent, which never loads JAX, says what its
end means.
"""

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from jaxnets.errors import MachineError
from jaxnets.runtime import child_process, signals

PARENT = "JAXNETS_DISTRIBUTED_PARENT"
"""The environment variable that holds the parent's process ID in the child."""
LOST = "another process of this training has ended or cannot be reached"
SECONDS_TO_DIE = 5.0
"""Between lines of one log of an error; a process that JAX aborts dies within that."""
RESTART = "start the same command again in all processes, and it resumes from the last checkpoint"
_LOG_OF_AN_ERROR = re.compile(r"[EF]\d{4} \d\d:\d\d:\d\d")
_LOST_CONNECTION = re.compile(
    r"gloo|nccl|connection (reset|closed|refused)|coordination service|heartbeat|barrier"
    r"|UNAVAILABLE|DEADLINE_EXCEEDED",
    re.IGNORECASE,
)


def is_child() -> bool:
    """True in the process that trains."""
    return os.environ.get(PARENT) == str(os.getppid())


def run_in_child(command: Sequence[str], *, with_traceback: bool) -> None:
    """Runs a command in a child, which dies with this process, and exits as the child did.

    Raises MachineError where JAX aborted the child or it was killed; what it had logged in C++ before is
    shown `with_traceback` alone.
    """
    os.environ[PARENT] = str(os.getpid())
    errors = _Errors()
    ending = child_process.run(command, death_signal=signal.SIGKILL, show=errors.show)
    sys.stderr.write(errors.show("\n" if errors.line else ""))
    log = errors.hidden_log()
    is_lost = LOST in ending.errors  # it has noticed by itself, before or while JAX aborted it
    aborted = ending.code == -signal.SIGABRT and _LOST_CONNECTION.search(log) is not None
    if with_traceback or not (is_lost or aborted):
        sys.stderr.write(log)
    if is_lost:
        signals.leave(MachineError.exit_code)
    if aborted:
        raise MachineError(f"{LOST}: JAX aborted this one; {RESTART}")
    if ending.signal_number is not None and ending.code in (0, *_stopped_by(ending.signal_number)):
        signals.leave(signals.EXIT_CODE + ending.signal_number)
    if ending.code < 0:
        number = -ending.code
        name = signal.Signals(number).name
        hint = " (out of memory?)" if number == signal.SIGKILL else ""
        raise MachineError(f"the process that trains was killed by {name}{hint}; {RESTART}")
    signals.leave(ending.code)


@contextlib.contextmanager
def lost_processes() -> Iterator[None]:
    """Code that raises MachineError, in one line, where a collective fails since another process is gone."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # JAX raises either, by where it meets Python
        if not _LOST_CONNECTION.search(str(error)):
            raise
        signals.skip_exit_callbacks()  # JAX's would wait for the lost process
        raise MachineError(f"{LOST}; {RESTART}") from error


def _stopped_by(number: int) -> Iterator[int]:
    """The exit codes of a child that a signal has stopped; it gets SIGTERM in the place of SIGINT."""
    for each in (number, signal.SIGTERM):
        yield from (-each, signals.EXIT_CODE + each)


class _Errors:
    """What a child writes to standard error, without the errors that C++ code logs and the lines after them.

    What was hidden is shown once the child writes something else later on: it did not die of it.
    """

    def __init__(self) -> None:
        self._hidden: list[str] = []
        self._time = 0.0
        self.line = ""

    def hidden_log(self) -> str:
        """The lines that are hidden now."""
        return "".join(self._hidden)

    def show(self, text: str) -> str:
        """The part of a new text that is shown at once."""
        *lines, self.line = (self.line + text).split("\n")
        shown = ""
        for line in lines:
            now = time.monotonic()
            follows = bool(self._hidden) and now - self._time < SECONDS_TO_DIE
            if LOST not in line and (follows or _LOG_OF_AN_ERROR.match(line)):
                self._hidden.append(line + "\n")
                self._time = now
            else:
                if LOST not in line:
                    shown += self.hidden_log()
                    self._hidden = []
                shown += line + "\n"
        return shown
