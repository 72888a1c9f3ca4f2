"""A pool of worker processes that exit with this process."""

import contextlib
import functools
import queue
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from jaxnets.errors import JaxnetsError, MachineError
from jaxnets.runtime import child_process

T = TypeVar("T")


@contextlib.contextmanager
def worker_pool(workers: int, prepare: Callable[[], None]) -> Iterator[Executor]:
    """An executor whose workers call `prepare` first and exit with the block or this process.

    Pending calls are cancelled at the end of the block.
    """
    if workers == 1:  # a thread is enough
        pool: Executor = ThreadPoolExecutor(1, initializer=prepare)
    else:
        pool = _Processes(workers, prepare)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Processes(Executor):
    """An executor with one thread per worker process.

    A ProcessPoolExecutor would leak named semaphores if this process is killed.
    """

    def __init__(self, workers: int, prepare: Callable[[], None]):
        self._threads = ThreadPoolExecutor(workers)
        self._workers = [_Worker(prepare) for _ in range(workers)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Calls a picklable function in a worker."""
        return self._threads.submit(self._call, functools.partial(function, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Terminates the workers; with `wait` after their current calls."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        for worker in self._workers:
            worker.end()

    def _call(self, function: Callable[[], T]) -> T:
        worker = self._idle.get()
        try:
            return worker.call(function)
        finally:
            self._idle.put(worker)


class _Worker:
    def __init__(self, prepare: Callable[[], None]):
        self._connection, theirs = Pipe()
        command = [sys.executable, "-m", "jaxnets.runtime.worker_pool", str(theirs.fileno())]
        self._process = subprocess.Popen(
            child_process.with_parent_death(command),
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C must reach only this process
        )
        theirs.close()
        self._prepare: Callable[[], None] | None = prepare

    def call(self, function: Callable[[], T]) -> T:
        """Returns the result of a function or raises its error; MachineError if the process has died."""
        try:
            if self._prepare is not None:
                self._connection.send(self._prepare)
                self._prepare = None
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


def serve(connection: Connection) -> None:
    """Serves calls until the parent closes the connection."""
    with contextlib.suppress(EOFError, ConnectionError):
        connection.recv()()
        while True:
            connection.send(_run(connection.recv()))


def _run(function: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return function(), None
    except (JaxnetsError, OSError, MemoryError) as error:
        return None, error
    except Exception:
        return None, RuntimeError(f"in a worker process:\n{traceback.format_exc()}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd metadata of readable images
    serve(Connection(int(sys.argv[1])))
