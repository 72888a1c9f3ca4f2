"""Several processes that compute for this one, and do not outlive it."""

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
    """Workers that call `prepare` first; they end with the block, or with this process.

    What still waits when the block is left by an error is not begun.
    """
    if workers == 1:  # a thread will do: nothing to start, nothing that could outlive us
        pool: Executor = ThreadPoolExecutor(1, initializer=prepare)
    else:
        pool = _Processes(workers, prepare)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Processes(Executor):
    """A thread for each process, which sends it one call after another.

    Not a ProcessPoolExecutor: this process may end at any moment, and named semaphores would be left over.
    """

    def __init__(self, workers: int, prepare: Callable[[], None]):
        self._threads = ThreadPoolExecutor(workers)
        self._workers = [_Worker(prepare) for _ in range(workers)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Has a worker call a function that can be pickled."""
        return self._threads.submit(self._call, functools.partial(function, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the workers, after what they were given where `wait` is True."""
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
            process_group=0,  # Ctrl-C is for this process, which ends its workers
        )
        theirs.close()
        self._prepare: Callable[[], None] | None = prepare

    def call(self, function: Callable[[], T]) -> T:
        """What the function gives; raises what it raised, MachineError where the process has died."""
        try:
            if self._prepare is not None:
                self._connection.send(self._prepare)
                self._prepare = None
            self._connection.send(function)
            value, error = self._connection.recv()
        except (EOFError, ConnectionError) as problem:
            raise MachineError(
                f"a worker process ended with exit code {self._process.wait()}: "
                "where memory was short, try fewer --workers"
            ) from problem
        if error is not None:
            raise error
        return value

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.terminate()
        self._process.wait()
        self._connection.close()


def serve(connection: Connection) -> None:
    """Answers calls until the parent hangs up."""
    with contextlib.suppress(EOFError, ConnectionError):
        connection.recv()()
        while True:
            connection.send(_answer(connection.recv()))


def _answer(function: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return function(), None
    except (JaxnetsError, OSError, MemoryError) as error:
        return None, error
    except Exception:
        return None, RuntimeError(f"in a worker process:\n{traceback.format_exc()}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd metadata: the images are read
    serve(Connection(int(sys.argv[1])))
