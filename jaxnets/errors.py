"""Exceptions and their exit codes; a message is one line: what happened, where, and how to fix it."""

import difflib
from collections.abc import Iterable
from typing import Any

SIMILAR = 0.7
"""The minimum difflib ratio of a suggestion for a misspelled name."""


class JaxnetsError(Exception):
    """Base class of expected errors; commands exit with `exit_code`."""

    exit_code = 1

    def __init_subclass__(cls, exit_code: int | None = None) -> None:
        cls.exit_code = exit_code or cls.exit_code


class ConfigError(JaxnetsError, exit_code=2):
    """The command or its config is invalid."""


class DataError(JaxnetsError, exit_code=3):
    """The data is missing, damaged or unusable, or the split leaks."""


class CheckpointError(JaxnetsError, exit_code=4):
    """A checkpoint, weights file or run directory is missing, damaged, or of another network."""


class DivergedError(JaxnetsError, exit_code=5):
    """Training diverged: a loss or gradient is not finite."""


class MachineError(JaxnetsError, exit_code=6):
    """A problem of the machine: disk full, directory locked or not writable, out of memory."""


class CheckFailedError(JaxnetsError, exit_code=7):
    """A check failed."""


class InterruptedRunError(JaxnetsError, exit_code=128):
    """Stopped by a signal; the exit code is 128 plus its number, as a shell reports it."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def closest(name: Any, names: Iterable[str]) -> str | None:
    """Returns the one of `names` that is most similar to `name`, or None if none is similar."""
    found = difflib.get_close_matches(str(name), list(names), n=1, cutoff=SIMILAR)
    return found[0] if found else None


def suggest(name: Any, names: Iterable[str]) -> str:
    """Returns " (did you mean ...?)" with the closest of `names`, or "" if none is similar."""
    found = closest(name, names)
    return f" (did you mean {found}?)" if found else ""
