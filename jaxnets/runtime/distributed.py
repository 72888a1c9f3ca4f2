"""Training as one of several processes: if another one dies, this one exits with one line and code 6.

JAX aborts a process that cannot reach the others (SIGABRT, after a C++ stack trace). So training runs in a
child, and a small parent, which never loads JAX, reports how it ended.
"""

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from jaxnets.errors import MachineError
from jaxnets.runtime import processes, signals

PARENT = "JAXNETS_DISTRIBUTED_PARENT"  # holds the parent's process ID in the child's environment
LOST = "another process of this training has ended or cannot be reached"
SECONDS_TO_DIE = 5.0  # the maximum between lines of one error log
RESTART = "start the same command again in all processes, and it resumes from the last checkpoint"
_LOG_OF_AN_ERROR = re.compile(r"[EF]\d{4} \d\d:\d\d:\d\d")
_LOST_CONNECTION = re.compile(
    r"gloo|nccl|connection (reset|closed|refused)|coordination service|heartbeat|barrier"
    r"|UNAVAILABLE|DEADLINE_EXCEEDED",
    re.IGNORECASE,
)


def run_in_child(command: Sequence[str], *, with_traceback: bool) -> None:
    """Runs a command in a child, which dies with this process, and exits with its code; nothing in the child.

    Raises MachineError if JAX aborted the child, whose log is shown `with_traceback`, or it was killed.
    """
    if os.environ.get(PARENT) == str(os.getppid()):
        return
    os.environ[PARENT] = str(os.getpid())
    errors = _Errors()
    result = processes.run(command, death_signal=signal.SIGKILL, show=errors.show)
    sys.stderr.write(errors.show("\n" if errors.line else ""))
    is_lost = LOST in result.errors  # the child reported it, before or while JAX aborted it
    aborted = result.code == -signal.SIGABRT and _LOST_CONNECTION.search(errors.hidden) is not None
    if with_traceback or not (is_lost or aborted):
        sys.stderr.write(errors.hidden)
    if is_lost:
        signals.leave(MachineError.exit_code)
    if aborted:
        raise MachineError(f"{LOST}: JAX aborted this one; {RESTART}")
    if (number := result.signal_number) is not None:
        sent = (number, signal.SIGTERM)  # the child gets SIGTERM instead of SIGINT
        if result.code in (0, *(code for each in sent for code in (-each, signals.EXIT_CODE + each))):
            signals.leave(signals.EXIT_CODE + number)
    if result.code < 0:
        hint = " (out of memory?)" if result.code == -signal.SIGKILL else ""
        name = signal.Signals(-result.code).name
        raise MachineError(f"the training process was killed by {name}{hint}; {RESTART}")
    signals.leave(result.code)


@contextlib.contextmanager
def lost_processes() -> Iterator[None]:
    """Raises MachineError if a collective operation in the block fails because a process is lost."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # JAX raises either
        if not _LOST_CONNECTION.search(str(error)):
            raise
        signals.skip_exit_callbacks()  # those of JAX would wait for the lost process
        raise MachineError(f"{LOST}; {RESTART}") from error


class _Errors:
    """Hides errors logged by a child's C++ code, with the lines that follow them, unless it survives them."""

    def __init__(self) -> None:
        self.hidden, self.line = "", ""
        self._time = 0.0

    def show(self, text: str) -> str:
        """Returns the part of new text to show now."""
        *lines, self.line = (self.line + text).split("\n")
        return "".join(map(self._filter, lines))

    def _filter(self, line: str) -> str:
        if LOST in line:
            return f"{line}\n"
        now = time.monotonic()
        if (self.hidden and now - self._time < SECONDS_TO_DIE) or _LOG_OF_AN_ERROR.match(line):
            self.hidden, self._time = f"{self.hidden}{line}\n", now
            return ""
        hidden, self.hidden = self.hidden, ""
        return f"{hidden}{line}\n"
