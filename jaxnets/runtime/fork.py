"""JAX does not survive os.fork(): a process that was forked after a network was loaded is refused."""

import os

from jaxnets.errors import ConfigError

_process: int | None = None


def require_not_forked() -> None:
    """Raises ConfigError in a child made by os.fork() of a process that has called this before.

    JAX's threads are not copied into such a child, but the locks that they hold are: it would hang or abort.
    """
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise ConfigError(
            "this process was made by os.fork() after JAX had started, which JAX does not support: "
            'use multiprocessing.get_context("spawn")'
        )
