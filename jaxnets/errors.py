"""What can go wrong, each with the exit code that the command ends with.

The message of an error is one line for a person: what happened, where, and how to mend it.
"""


class JaxnetsError(Exception):
    """A fault whose cause is known; `exit_code` is what the command returns."""

    exit_code = 1


class ConfigError(JaxnetsError):
    """The command or its config is wrong."""

    exit_code = 2


class DataError(JaxnetsError):
    """The data is missing, damaged, leaking or cannot be used."""

    exit_code = 3


class CheckpointError(JaxnetsError):
    """A checkpoint or weights file is missing, damaged, or of another network."""

    exit_code = 4


class DivergedError(JaxnetsError):
    """Training diverged: a loss or gradient that is not finite."""

    exit_code = 5


class MachineError(JaxnetsError):
    """The machine cannot: disk full, directory in use or not writable, out of memory."""

    exit_code = 6


class CheckFailedError(JaxnetsError):
    """A check did not hold."""

    exit_code = 7


class InterruptedRunError(JaxnetsError):
    """Stopped by a signal; the exit code is 128 plus its number, as a shell reports it."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number
