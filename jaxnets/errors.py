"""Exceptions and their exit codes.

Each message is one line that says what happened, where, and how to fix it.
"""


class JaxnetsError(Exception):
    """Base class of expected errors; commands exit with `exit_code`."""

    exit_code = 1


class ConfigError(JaxnetsError):
    """The command or its config is invalid."""

    exit_code = 2


class DataError(JaxnetsError):
    """The data is missing, damaged, unusable or leaks."""

    exit_code = 3


class CheckpointError(JaxnetsError):
    """A checkpoint or weights file is missing, damaged, or of another network."""

    exit_code = 4


class DivergedError(JaxnetsError):
    """Training diverged: a loss or gradient is not finite."""

    exit_code = 5


class MachineError(JaxnetsError):
    """A problem of the machine: disk full, directory locked or not writable, out of memory."""

    exit_code = 6


class CheckFailedError(JaxnetsError):
    """A check failed."""

    exit_code = 7


class InterruptedRunError(JaxnetsError):
    """Stopped by a signal; the exit code is 128 plus its number, as a shell reports it."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number
