"""The library's log, and its display by the scripts.

The library logs to `logging.getLogger("jaxnets")`, results as INFO and progress as DEBUG, and prints nothing
itself; scripts call `show`. Control characters are escaped. On a terminal lines wrap between words.
"""

import contextlib
import logging
import re
import textwrap
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from rich import progress
from rich.console import Console

from jaxnets.io import printable, printable_lines

logger = logging.getLogger("jaxnets")
FIRST_COLUMN = re.compile(r" +|\S+(?: \S+)* {2,}")
MAX_INDENT = 24  # of the continuation of a wrapped line, which begins below the second column
UNBROKEN = re.compile(r" %|(python scripts/\w+\.py|jaxnets \w+)( \w+(?= --))?( --\S+( [^\s-]\S*/\S*)?)*")
"""Percentages and commands are not broken, so that they can be read and copied."""
_HARD_SPACE = "\N{NO-BREAK SPACE}"


class Display(logging.Handler):
    """Prints results on standard output, all else on standard error unless the output is a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.output = Console(soft_wrap=True, highlight=False)
        self.error = Console(soft_wrap=True, highlight=False, stderr=True)

    @property
    def live(self) -> Console:
        """Where progress is shown."""
        return self.output if self.output.is_terminal else self.error

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record; an OSError, such as of a closed pipe, is raised."""
        console = self.output if record.levelno == logging.INFO else self.live
        console.print(_wrap(record.getMessage(), console), markup=False, emoji=False)


def show() -> None:
    """Displays the log, once per process."""
    if display() is None:
        logger.addHandler(Display())
        logger.propagate = False  # absl, which orbax uses, adds a handler to the root logger
        logger.setLevel(logging.DEBUG)


def display() -> Display | None:
    """The display, or None without `show` and while the log is silenced."""
    if logger.disabled:
        return None
    return next((handler for handler in logger.handlers if isinstance(handler, Display)), None)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Suppresses the log, for example in all processes but one."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def log(name: str, text: str) -> None:
    """Logs a line with a name in the first column."""
    logger.info("%s", f"{name:<10}{printable(text)}")


def log_text(text: str) -> None:
    """Logs lines without a name."""
    logger.info("%s", printable_lines(text))


def log_progress(name: str, text: str) -> None:
    """Logs a line of progress."""
    logger.debug("%s", f"{name:<10}{printable(text)}")


def warn(*texts: str) -> None:
    """Logs warnings."""
    for text in texts:
        logger.warning("%s", f"{'warning':<10}{printable(text)}")


def table(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Lines of cells in aligned columns; the columns with the numbers `right` are aligned on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        aligned = (cell.rjust(size) if n in right else cell.ljust(size) for n, (cell, size) in cells)
        lines.append("  ".join(aligned).rstrip())
    return lines


def wrap_error(text: str) -> str:
    """Wraps the lines of a text for standard error."""
    return _wrap(text, Console(stderr=True))


def _wrap(text: str, console: Console) -> str:
    """Wraps the lines of a text between words if the console is a terminal; longer words stay whole."""
    if not console.is_terminal:
        return text
    lines = []
    for line in text.split("\n"):
        column = FIRST_COLUMN.match(line)
        indent = column.end() if column is not None and column.end() <= MAX_INDENT else 2
        lines += textwrap.wrap(
            UNBROKEN.sub(lambda found: found[0].replace(" ", _HARD_SPACE), line),
            console.width,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(lines).replace(_HARD_SPACE, " ")


class Phase:
    """The text of a phase's line."""

    text = ""


@contextlib.contextmanager
def phase(name: str) -> Iterator[Phase]:
    """Times a phase, on a terminal with a clock, and logs its line if it succeeds."""
    phase, start = Phase(), time.perf_counter()
    text = progress.TextColumn("{task.description:<9}")
    with _live_display(text, progress.SpinnerColumn(), progress.TimeElapsedColumn()) as clock:
        clock.add_task(name, total=None)
        yield phase
    seconds = time.perf_counter() - start
    log(name, f"{phase.text}  {seconds:.1f} s".strip() if seconds >= 0.05 else phase.text)


@contextlib.contextmanager
def counter(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Shows a bar for (done, total) on a terminal; otherwise logs a line at every tenth."""
    text, bar_column = progress.TextColumn("{task.description:<9}"), progress.BarColumn(bar_width=30)
    columns = (text, bar_column, progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
    reported = 0

    def report(done: int, total: int | None) -> None:
        nonlocal reported
        bar.update(task, completed=done, total=total)
        tenth = 10 * done // total if total else 0
        reported = min(reported, tenth)  # the count may restart, for example for a second file
        if bar.disable and tenth > reported and done != total:
            reported = tenth
            log_progress(name, f"{done:,} of {total:,}")

    with _live_display(*columns) as bar:
        task = bar.add_task(name, total=None)
        yield report


def _live_display(*columns: progress.ProgressColumn) -> progress.Progress:
    """A transient display on a terminal; elsewhere it is disabled."""
    console = live.live if (live := display()) is not None else Console(quiet=True)
    disable = live is None or not console.is_terminal
    return progress.Progress(*columns, console=console, transient=True, disable=disable)
