"""Console output."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich import progress
from rich.console import Console

from jaxnets.io import printable, printable_lines


class Phase:
    """The text of a phase's line."""

    text = ""


class Reporter:
    """Prints results and progress, with control characters escaped; nothing if `quiet`.

    Progress goes to standard error unless standard output is a terminal, so that pipes carry only results.
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
        self.print(f"{name:<10}{printable(text)}")

    def report_progress(self, name: str, text: str) -> None:
        """Prints a line of progress."""
        self.progress.print(f"{name:<10}{printable(text)}", markup=False)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Times a phase, on a terminal with a clock, and prints its line if it succeeds."""
        phase, start = Phase(), time.perf_counter()
        text, hidden = progress.TextColumn("{task.description}"), not self.progress.is_terminal
        columns = (progress.SpinnerColumn(), text, progress.TimeElapsedColumn())
        with progress.Progress(*columns, console=self.progress, transient=True, disable=hidden) as clock:
            clock.add_task(name, total=None)
            yield phase
        self.line(name, f"{phase.text}  {time.perf_counter() - start:.1f} s".strip())

    @contextlib.contextmanager
    def counter(self, name: str) -> Iterator[Callable[[int, int | None], None]]:
        """Shows a bar for (done, total) on a terminal; otherwise prints a line at every tenth."""
        text, bar_column = progress.TextColumn("{task.description:<9}"), progress.BarColumn(bar_width=30)
        columns = (text, bar_column, progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
        hidden, reported = not self.progress.is_terminal, 0

        def report(done: int, total: int | None) -> None:
            nonlocal reported
            bar.update(task, completed=done, total=total)
            tenth = 10 * done // total if total else 0
            reported = min(reported, tenth)  # the count may restart, for example for a second file
            if hidden and tenth > reported and done != total:
                reported = tenth
                self.report_progress(name, f"{done:,} of {total:,}")

        with progress.Progress(*columns, console=self.progress, transient=True, disable=hidden) as bar:
            task = bar.add_task(name, total=None)
            yield report
