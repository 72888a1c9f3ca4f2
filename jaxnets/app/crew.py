"""Several processes that compute for this one, and do not outlive it."""

import contextlib
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

from jaxnets.app import tether


@contextlib.contextmanager
def crew(workers: int, prepare: Callable[[], None]) -> Iterator[Executor]:
    """Workers that call `prepare` first; they end with the block, or with this process.

    What still waits when the block is left by an error is not begun.
    """
    pool: Executor
    if workers == 1:  # a thread will do: nothing to start, nothing that could outlive us
        pool = ThreadPoolExecutor(1, initializer=prepare)
    else:
        pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context(
                "spawn"
            ),  # a fork would copy locks of JAX's threads
            initializer=_begin,
            initargs=(os.getpid(), prepare),
        )
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(parent: int, prepare: Callable[[], None]) -> None:
    tether.die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd metadata: the images are read
    prepare()
