"""Child processes that end with this one: a command with a deadline, and a pool of workers."""

import contextlib
import dataclasses
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from jaxnets.errors import JaxnetsError, MachineError
from jaxnets.runtime import signals

T = TypeVar("T")
POLL_SECONDS = 0.1
WITH_PARENT_DEATH = """
import ctypes, os, sys
parent, number = map(int, sys.argv[1:3])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG
if os.getppid() != parent:  # it died before prctl
    sys.exit(128 + number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""A program that executes a command so that it gets a signal when its parent dies (Linux)."""
_thread = threading.local()


@dataclasses.dataclass(frozen=True)
class ProcessResult:
    """How a command ended."""

    code: int  # -N if it was killed by signal N
    cut: bool  # whether it hit the deadline
    errors: str  # its standard error
    signal_number: int | None  # the first signal that this process received and forwarded


def run(
    command: Sequence[str],
    *,
    deadline: float | None = None,
    death_signal: int = signal.SIGTERM,
    show: Callable[[str], str] = str,
) -> ProcessResult:
    """Runs a command; at `deadline` (time.monotonic) it gets SIGTERM, and may still save.

    Its standard error is copied through `show`. The first two signals that stop a script are forwarded; a
    third one ends this process. On Linux the command gets `death_signal` when this process dies.
    """
    received: list[int] = []
    with tempfile.TemporaryFile() as errors, signals.stoppable(received.append, signals=2):
        # In a new session, so that it receives Ctrl-C only once, forwarded by this process.
        process = subprocess.Popen(
            _with_parent_death(command, death_signal),
            stdin=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        shown, forwarded, cut = b"", 0, False
        try:
            while process.poll() is None:
                shown += _echo(errors.fileno(), len(shown), show)
                for number in received[forwarded:]:
                    # Python prints a traceback on SIGINT until a script has installed its handlers.
                    process.send_signal(signal.SIGTERM if number == signal.SIGINT else number)
                    forwarded += 1
                if not cut and deadline is not None and time.monotonic() >= deadline:
                    process.send_signal(signal.SIGTERM)
                    cut = True
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
        finally:
            process.terminate()  # nothing if it has ended
            process.wait()
        shown += _echo(errors.fileno(), len(shown), show)
    text = shown.decode(errors="replace")
    return ProcessResult(process.returncode, cut, text, received[0] if received else None)


def _with_parent_death(command: Sequence[str], death_signal: int = signal.SIGTERM) -> list[str]:
    python = (sys.executable, "-I", "-S", "-c", WITH_PARENT_DEATH)
    return [*python, str(os.getpid()), str(int(death_signal)), *command]


def _echo(file: int, start: int, show: Callable[[str], str]) -> bytes:
    """Copies the new part of a file to standard error and returns it."""
    # pread does not move the position of the file, through which the child writes.
    if new := os.pread(file, max(os.fstat(file).st_size - start, 0), start):
        sys.stderr.write(show(new.decode(errors="replace")))
        sys.stderr.flush()
    return new


@contextlib.contextmanager
def worker_pool(workers: int, prepare: Callable[[], None]) -> Iterator[Executor]:
    """An executor whose workers call `prepare` first and end, with pending calls, at the end of the block."""
    processes = [_Worker(prepare) for _ in range(workers)] if workers > 1 else []  # one may be a thread
    idle = list(processes)

    def start() -> None:
        _thread.worker = idle.pop()

    pool = _Processes(workers, initializer=start) if idle else ThreadPoolExecutor(1, initializer=prepare)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in processes:
            worker.end()


class _Processes(ThreadPoolExecutor):
    """Has a process per thread; a ProcessPoolExecutor would leak semaphores if this process is killed."""

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Calls a picklable function in a worker."""
        call = functools.partial(function, *args, **kwargs)
        return super().submit(lambda: _thread.worker.call(call))


class _Worker:
    def __init__(self, prepare: Callable[[], None]):
        self._connection, theirs = Pipe()
        command = [sys.executable, "-m", "jaxnets.runtime.processes", str(theirs.fileno())]
        self._process = subprocess.Popen(
            _with_parent_death(command),
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C must reach only this process
        )
        theirs.close()
        with contextlib.suppress(ConnectionError):  # the first call reports it
            self._connection.send(prepare)

    def call(self, function: Callable[[], T]) -> T:
        """Returns the result of a function or raises its error; MachineError if the process has died."""
        try:
            self._connection.send(function)
            value, error = self._connection.recv()
        except (EOFError, ConnectionError) as problem:
            raise MachineError(
                f"a worker process ended with exit code {self._process.wait()}: "
                "if it ran out of memory, use fewer --workers"
            ) from problem
        if error is not None:
            raise error
        return value

    def end(self) -> None:
        """Terminates the process."""
        self._process.terminate()
        self._process.wait()
        self._connection.close()


def _serve(connection: Connection) -> None:
    """Calls functions in a worker process until the parent closes the connection."""
    with contextlib.suppress(EOFError, ConnectionError):
        connection.recv()()
        while True:
            function = connection.recv()
            try:
                value, error = function(), None
            except (JaxnetsError, OSError, MemoryError) as problem:
                value, error = None, problem
            except Exception:
                value, error = None, RuntimeError(f"in a worker process:\n{traceback.format_exc()}")
            connection.send((value, error))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd metadata of readable images
    _serve(Connection(int(sys.argv[1])))
