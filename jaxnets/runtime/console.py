"""What a person reads while a job runs."""

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
    """Lines and bars on standard output; a screen that is `quiet` shows nothing (all processes but one).

    Progress is on standard error unless standard output is a terminal, so that a pipe carries results alone.
    Control characters, which names of files may have, are shown as escapes.
    """

    def __init__(self, *, quiet: bool = False):
        self.console = Console(quiet=quiet, soft_wrap=True, highlight=False)
        to_terminal = self.console.is_terminal
        self.progress = (
            self.console
            if to_terminal
            else Console(quiet=quiet, soft_wrap=True, highlight=False, stderr=True)
        )

    def print(self, text: str) -> None:
        """Prints lines as they are: no markup, no wrapping."""
        self.console.print(printable_lines(text), markup=False)

    def line(self, name: str, text: str) -> None:
        """A line of the flow: its name in the first column."""
        self.print(_line(name, text))

    def report_progress(self, name: str, text: str) -> None:
        """A line that is no result: of what is being waited for."""
        self.progress.print(_line(name, text), markup=False)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator["Phase"]:
        """Times a phase and prints its line when it ends well."""
        phase = Phase()
        start = time.perf_counter()
        with self._elapsed(name):
            yield phase
        self.line(name, f"{phase.text}  {time.perf_counter() - start:.1f} s".strip())

    @contextlib.contextmanager
    def _elapsed(self, name: str) -> Iterator[None]:
        """On a terminal, the phase's name and the time since it began, as long as it runs."""
        if not self.progress.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.progress, transient=True) as clock:
            clock.add_task(name, total=None)
            yield

    @contextlib.contextmanager
    def counter(self, name: str) -> Iterator[Callable[[int, int | None], None]]:
        """A bar for (done, total) on a terminal; elsewhere a line at every tenth, on standard error."""
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
        message = 0

        def tell(done: int, total: int | None) -> None:
            nonlocal message
            tenth = 10 * done // total if total else 0
            message = min(message, tenth)  # it may begin again: a file after another
            if tenth > message and done != total:
                message = tenth
                self.report_progress(name, f"{done:,} of {total:,}")

        yield tell


def _line(name: str, text: str) -> str:
    return f"{name:<10}{printable(text)}"


class Phase:
    """What a phase's line will say."""

    text = ""
