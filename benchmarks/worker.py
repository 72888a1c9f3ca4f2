"""Runs a workload in its own process, so that settings of JAX and PyTorch do not affect each other.

The parent starts `python -m benchmarks.worker`, sends a function that creates the workload through a pipe,
then calls its methods. This module imports neither library: a PyTorch workload never loads JAX.
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

from benchmarks.subprocess_workload import module_environment
from jaxnets.errors import JaxnetsError, MachineError

SHUTDOWN_SECONDS = 20.0
PEAK_MEMORY = "peak_memory"
"""Method that returns the peak memory in bytes, None if unknown.

For workloads without this method the worker returns the peak resident size of its process. For networks on
a GPU it is the memory of arrays there, without what the library reserves.
"""
STATUS = Path("/proc/self/status")
MALLOC_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""The settings of `jaxnets.runtime.xla.MALLOPT` as environment variables."""


class Workload(Protocol):
    """An implementation that is measured."""

    def outputs(self) -> Any:
        """Returns an array that must be the same for all implementations of a comparison."""
        ...

    def measure(self, seconds: float) -> float:
        """Returns images per second, measured for about `seconds`."""
        ...


class SharingWorkload(Workload, Protocol):
    """A workload that provides the inputs of the baselines."""

    def shared_data(self) -> Any:
        """Returns picklable inputs, such as weights and a batch, or file names."""
        ...


MakeWorkload = Callable[[Any], Workload]
"""Creates a workload from the shared data, which is None for the workload that provides it. Picklable."""


class Worker:
    """Context manager that runs a workload in its own process.

    Args:
      make: Creates the workload from `shared`; both are pickled.
      shared: Inputs of the workload.
      keep_memory: Whether glibc's allocator keeps freed memory, in the process and its children.
      kernels: Library of C++ kernels; None runs without them.
      environment: Additional environment variables.
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
        self._connection, remote = Pipe()
        arguments = [str(remote.fileno()), str(kernels or "")]
        allocator_environment = MALLOC_ENVIRONMENT if keep_memory else {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *arguments],
            pass_fds=[remote.fileno()],
            env={**module_environment(), **allocator_environment, **(environment or {})},
        )
        remote.close()
        try:
            self._exchange((make, shared))
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the workload; raises what it raises, MachineError if the process died."""
        return self._exchange((method, arguments))

    def _exchange(self, message: Any) -> Any:
        try:
            self._connection.send(message)
            value, error = self._connection.recv()
        except (EOFError, ConnectionError) as problem:
            code = self._process.wait()
            hint = (
                ": out of memory? Close other programs, or choose fewer --baselines"
                if code == -signal.SIGKILL
                else ""
            )
            raise MachineError(f"a worker process died (exit code {code}){hint}") from problem
        if isinstance(error, JaxnetsError):
            raise error
        if error is not None:
            raise RuntimeError(f"in a worker process:\n{error}")
        return value

    def close(self) -> None:
        """Ends the process; it may be called again."""
        self._connection.close()
        try:
            self._process.wait(SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(connection: Connection, kernels: str) -> None:
    """Creates a workload and serves calls until the parent closes the connection.

    `kernels` is the path of a library or "".
    """
    # Ctrl-C reaches the whole process group; this process ends when the parent closes the connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        try:
            workload = _create(connection, kernels)
            connection.send((None, None))
        except Exception as error:
            return _send_error(connection, error)
        while True:
            method, arguments = connection.recv()
            try:
                connection.send((_call(workload, method, arguments), None))
            except Exception as error:
                _send_error(connection, error)
    except (EOFError, ConnectionError):
        return


def process_peak_memory() -> int | None:
    """Returns the peak resident size of this process in bytes; None without /proc.

    getrusage does not work: a process inherits the peak of its parent.
    """
    if not STATUS.is_file():
        return None
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


def _create(connection: Connection, kernels: str) -> Workload:
    make, shared = connection.recv()
    if kernels:
        from jaxnets.ops.cpu_kernels import enable

        enable(Path(kernels))
    return make(shared)


def _call(workload: Workload, method: str, arguments: tuple[Any, ...]) -> Any:
    if method == PEAK_MEMORY and not hasattr(workload, method):
        return process_peak_memory()
    return getattr(workload, method)(*arguments)


def _send_error(connection: Connection, error: Exception) -> None:
    """Sends an error of ours as it is, others as their traceback; raises it if the connection is closed."""
    if isinstance(error, EOFError | ConnectionError):
        raise error
    connection.send((None, error if isinstance(error, JaxnetsError) else traceback.format_exc()))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2])
