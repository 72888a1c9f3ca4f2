"""One side of a comparison in a process of its own, so that neither side's settings reach the other.

The parent starts `python -m benchmarks.worker` and talks to it over a pipe: first how to make the
side, then one method call after another. Nothing heavy is imported here: a PyTorch side never loads JAX.
"""

import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, Self

from benchmarks.subprocess_side import module_environment
from jaxnets.errors import JaxnetsError, MachineError

SECONDS_TO_END = 20.0
PEAK_MEMORY = "peak_memory"
"""A method that every side has: the most memory that it held so far, in bytes; None where that is not known.

A side that has no such method of its own is asked for the largest resident size of its process. That of a
network on a card is the card's, in arrays: what a library keeps there in reserve does not count.
"""
STATUS = Path("/proc/self/status")
MALLOC_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""The settings of `jaxnets.runtime.xla.MALLOPT` for a new process and its children."""


class Side(Protocol):
    """What is measured."""

    def answer(self) -> Any:
        """An array in which both sides must agree before either is measured."""
        ...

    def measure(self, seconds: float) -> float:
        """Images per second, over about so many seconds."""
        ...


class OurSide(Side, Protocol):
    """What is measured, and says what the other side begins with."""

    def share(self) -> Any:
        """Weights and a batch, or where the data are; pickled."""
        ...


Make = Callable[[Any], Side]
"""From what our side shared (None for our side itself) to a side. Pickled: a function of a module."""


class Worker:
    """A side in its own process; `call` asks it, leaving the `with` block ends it.

    With `keep_memory` glibc's allocator keeps freed memory, in the process and in what it starts. `kernels`
    is a library of our C++ kernels that the process uses; None for the forms in JAX. `environment` adds to
    the process's variables.
    """

    def __init__(
        self,
        make: Callable[[Any], Any],
        shared: Any,
        *,
        keep_memory: bool,
        kernels: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        self._connection, theirs = Pipe()
        settings = [str(theirs.fileno()), str(kernels or "")]
        allocator_environment = MALLOC_ENVIRONMENT if keep_memory else {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *settings],
            pass_fds=[theirs.fileno()],
            env={**module_environment(), **allocator_environment, **(environment or {})},
        )
        theirs.close()
        try:
            self._exchange((make, shared))
        except BaseException:
            self._end()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """What the side's method gives; raises what it raised, MachineError where the process died."""
        return self._exchange((method, arguments))

    def _exchange(self, message: Any) -> Any:
        try:
            self._connection.send(message)
            value, error = self._connection.recv()
        except (EOFError, ConnectionError) as problem:
            code = self._process.wait()
            why = ": out of memory? Try fewer rows at a time" if code == -signal.SIGKILL else ""
            raise MachineError(f"a worker process died (exit code {code}){why}") from problem
        if isinstance(error, JaxnetsError):
            raise error
        if error is not None:
            raise RuntimeError(f"in a worker process:\n{error}")
        return value

    def _end(self) -> None:
        self._connection.close()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()


def serve(connection: Connection, kernels: str) -> None:
    """Makes a side and answers calls, until the parent hangs up; `kernels` is a library or ""."""
    # Ctrl-C goes to the whole group of processes; the parent hangs up, and that is the end here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        side = _reply(connection, lambda: (_receive(connection, kernels), None))
        while side is not None:
            method, arguments = connection.recv()
            _reply(connection, lambda s=side, m=method, a=arguments: (None, _ask(s, m, a)))
    except (EOFError, ConnectionError):
        return


def process_peak_memory() -> int | None:
    """The largest resident size of this process so far, in bytes; None where there is no /proc.

    Not getrusage's: a process inherits that of the one that started it.
    """
    if not STATUS.is_file():
        return None
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


def _receive(connection: Connection, kernels: str) -> Side:
    make, shared = connection.recv()
    if kernels:
        from jaxnets.ops.cpu_kernels import enable

        enable(Path(kernels))
    return make(shared)


def _ask(side: Side, method: str, arguments: tuple[Any, ...]) -> Any:
    own = () if method != PEAK_MEMORY else (process_peak_memory,)
    return getattr(side, method, *own)(*arguments)


def _reply(connection: Connection, act: Callable[[], tuple[Any, Any]]) -> Any:
    """Sends what `act` returns second, or what it raised; returns what it returns first."""
    try:
        reply, value = act()
    except (EOFError, ConnectionError):
        raise  # the parent hung up
    except JaxnetsError as error:
        connection.send((None, error))
    except Exception:
        connection.send((None, traceback.format_exc()))
    else:
        connection.send((value, None))
        return reply
    return None


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2])
