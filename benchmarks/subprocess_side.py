"""A side whose work is done by processes that it starts."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.errors import CheckFailedError

REPOSITORY = Path(__file__).parents[1]
USAGE = Path(__file__).with_name("usage.py")


def module_environment() -> dict[str, str]:
    """The environment of a process that runs a module of benchmarks/, which is not installed."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


class TaskResult(NamedTuple):
    """Seconds that a command took, and the lines that it wrote."""

    seconds: float
    lines: list[str]


class SubprocessSide:
    """Runs commands one after another and keeps the most memory that one of their processes held."""

    _peak: int | None = None

    def run(self, command: Sequence[str], what: str, **options: Any) -> TaskResult:
        """Runs a command, with options of `subprocess.run`; raises CheckFailedError where it fails."""
        usage = [sys.executable, "-I", str(USAGE), *command]
        done = subprocess.run(usage, capture_output=True, text=True, **options)
        *lines, last = done.stdout.splitlines() or [""]
        message = json.loads(last) if done.returncode == 0 else {"code": done.returncode}
        if message["code"]:
            raise CheckFailedError(f"{what} failed: {done.stderr.strip().splitlines()[-1:]}")
        self._peak = max(self._peak or 0, message["peak_memory"])
        return TaskResult(message["seconds"], [line for line in lines if line])

    def peak_memory(self) -> int | None:
        """The most that a process held of those that it started, in bytes; None where there was none."""
        return self._peak
