"""Base class of workloads that run commands in subprocesses."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.errors import CheckFailedError

REPOSITORY = Path(__file__).parents[1]
RESOURCE_USAGE = Path(__file__).with_name("resource_usage.py")


def module_environment() -> dict[str, str]:
    """Returns the environment for running a module of benchmarks/, which is not installed."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def measured_command(command: Sequence[str]) -> list[str]:
    """Returns a command that runs `command` with its output on stderr, and prints its usage on stdout.

    The last line of stdout is that of `benchmarks.resource_usage`.
    """
    to_stderr = ["/bin/sh", "-c", 'exec "$@" >&2', "sh", *command]
    return [sys.executable, "-I", str(RESOURCE_USAGE), *to_stderr]


class CommandResult(NamedTuple):
    """Duration of a command and the lines of its output."""

    seconds: float
    lines: list[str]


class SubprocessWorkload:
    """Runs commands and records the peak memory of their processes."""

    _peak: int | None = None

    def run(self, command: Sequence[str], description: str, **options: Any) -> CommandResult:
        """Runs a command with options of `subprocess.run`; raises CheckFailedError if it fails."""
        wrapped = [sys.executable, "-I", str(RESOURCE_USAGE), *command]
        done = subprocess.run(wrapped, capture_output=True, text=True, **options)
        *lines, last = done.stdout.splitlines() or [""]
        usage = json.loads(last) if done.returncode == 0 else {"code": done.returncode}
        if usage["code"]:
            raise CheckFailedError(f"{description} failed: {done.stderr.strip().splitlines()[-1:]}")
        self._peak = max(self._peak or 0, usage["peak_memory"])
        return CommandResult(usage["seconds"], [line for line in lines if line])

    def peak_memory(self) -> int | None:
        """Returns the peak memory of any process in bytes; None if none was started."""
        return self._peak
