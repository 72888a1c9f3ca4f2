"""Detection of os.fork() after JAX has started."""

import os

from jaxnets.errors import ConfigError

_process: int | None = None


def check_not_forked() -> None:
    """Raises ConfigError in a child that was forked after this function was called.

    The child has the locks of JAX's threads but not the threads, and would hang or abort.
    """
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise ConfigError(
            "this process was forked (os.fork) after JAX had started, which JAX does not support: "
            'use multiprocessing.get_context("spawn")'
        )
