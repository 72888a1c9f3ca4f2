"""Rows that could not be measured: the others are, and then it is said."""

import contextlib
from collections.abc import Iterator

from jaxnets.errors import CheckFailedError, ConfigError, InterruptedRunError, JaxnetsError
from jaxnets.runtime.console import Reporter


class Failures:
    """What went wrong, row by row."""

    def __init__(self, reporter: Reporter):
        self._screen = reporter
        self._found: dict[str, Exception] = {}

    @contextlib.contextmanager
    def caught(self, name: str) -> Iterator[None]:
        """Reports errors of a row and continues; a ConfigError or a signal ends all rows."""
        try:
            yield
        except (ConfigError, InterruptedRunError):
            raise
        except (
            JaxnetsError,
            RuntimeError,
        ) as error:  # RuntimeError: a worker's, with its traceback
            self._found[name] = error
            self._screen.line("failed", f"{name}: {error}")

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def reason(self, name: str) -> str:
        """The last line of what a row raised."""
        return str(self._found[name]).strip().splitlines()[-1]

    def report(self, rows: int) -> None:
        """Raises what the only row raised, or CheckFailedError where some of several rows failed."""
        if rows == 1:
            for error in self._found.values():
                raise error
        if self._found:
            raise CheckFailedError(
                f"{len(self._found)} of {rows} rows could not be measured: {', '.join(self._found)}"
            )
