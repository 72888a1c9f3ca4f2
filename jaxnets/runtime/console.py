"""Console output."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from jaxnets.text import printable, printable_lines


class Reporter:
    """Prints results and progress; nothing if `quiet` (in all processes but one).

    Progress goes to standard error unless standard output is a terminal, so that pipes carry only results.
    Control characters, for example in file names, are escaped.
    """

    def __init__(self, *, quiet: bool = False):
        self.console = Console(quiet=quiet, soft_wrap=True, highlight=False)
        self.progress = self.console
        if not self.console.is_terminal:
            self.progress = Console(quiet=quiet, soft_wrap=True, highlight=False, stderr=True)

    def print(self, text: str) -> None:
        """Prints text without markup or wrapping."""
        self.console.print(printable_lines(text), markup=False)

    def line(self, name: str, text: str) -> None:
        """Prints a line with a name in the first column."""
        self.print(_line(name, text))

    def report_progress(self, name: str, text: str) -> None:
        """Prints a line of progress."""
        self.progress.print(_line(name, text), markup=False)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator["Phase"]:
        """Times a phase and prints its line if it succeeds."""
        phase = Phase()
        start = time.perf_counter()
        with self._elapsed(name):
            yield phase
        self.line(name, f"{phase.text}  {time.perf_counter() - start:.1f} s".strip())

    @contextlib.contextmanager
    def _elapsed(self, name: str) -> Iterator[None]:
        """Shows the phase's name and elapsed time on a terminal."""
        if not self.progress.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.progress, transient=True) as clock:
            clock.add_task(name, total=None)
            yield

    @contextlib.contextmanager
    def counter(self, name: str) -> Iterator[Callable[[int, int | None], None]]:
        """Shows a bar for (done, total) on a terminal; otherwise prints a line at every tenth."""
        if self.progress.is_terminal:
            columns = (
                TextColumn("{task.description:<9}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self.progress, transient=True) as bar:
                task = bar.add_task(name, total=None)
                yield lambda done, total: bar.update(task, completed=done, total=total)
            return
        reported = 0

        def report(done: int, total: int | None) -> None:
            nonlocal reported
            tenth = 10 * done // total if total else 0
            reported = min(reported, tenth)  # the count may restart, for example for a second file
            if tenth > reported and done != total:
                reported = tenth
                self.report_progress(name, f"{done:,} of {total:,}")

        yield report


def _line(name: str, text: str) -> str:
    return f"{name:<10}{printable(text)}"


class Phase:
    """The text of a phase's line."""

    text = ""
