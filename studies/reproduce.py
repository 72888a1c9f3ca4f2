"""The job of making a table's runs: what is done is skipped, what was cut goes on, what is new begins."""

import dataclasses
import enum
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxnets.errors import CheckFailedError, InterruptedRunError, JaxnetsError, MachineError
from jaxnets.evaluation.result import Result, format_split_kind, format_test
from jaxnets.experiment import workdir
from jaxnets.runtime import processes
from jaxnets.runtime.console import Reporter
from studies import runtime_estimate
from studies.result_archive import finished, keep
from studies.sweeps import RUNS, TRAINER, Row, read_table

RESULTS = Path("results")
STOPPED_BY_US = (128 + signal.SIGTERM, -signal.SIGTERM)
FAULT_NOTICE = "internal error"


class State(enum.StrEnum):
    """What became of a row, or where it stands."""

    WAS_COMPLETE = "was complete"
    COMPLETE = "complete"
    RESUMED = "complete, resumed"
    CUT = "cut: budget"
    LEFT_OUT = "left out: budget"
    FAILED = "failed"
    STARTED = "started"
    NEW = "pending"
    IN_USE = "running in another process"


LEFT = (State.CUT, State.LEFT_OUT)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A row and what became of it; `detail` is the reason, or how far it is."""

    row: Row
    state: State
    detail: str = ""
    result: Result | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """Where runs and results are, and how much may be done now; times in seconds."""

    runs: Path = RUNS
    results: Path = RESULTS
    only: Sequence[str] = ()
    budget: float | None = None
    train_flags: Sequence[str] = ()
    ignore_damage: bool = False
    trainer: Path = TRAINER
    patience: float = 60.0  # for the process of an earlier start that is still saving
    hardware: Callable[[], str | None] = runtime_estimate.hardware_here


def reproduce(table: str, options: Options | None = None) -> list[Outcome]:
    """Makes the rows of a table, one after another, and keeps each one's result; what became of them.

    Raises ConfigError where the table is wrong, InterruptedRunError when a signal stopped it after a
    save, and at the end CheckFailedError where a row failed. A budget that is over is no failure.
    """
    options = options or Options()
    job = _Job(options, Reporter())
    rows = read_table(table, options.only)
    outcomes: list[Outcome] = []
    try:
        for number, row in enumerate(rows, 1):
            outcomes.append(job.make(row, f"{number} of {len(rows)}"))
    finally:
        if outcomes:
            job.reporter.print(report(outcomes))
    left = [outcome.row.name for outcome in outcomes if outcome.state in LEFT]
    if left:
        job.reporter.line("left", f"{', '.join(left)}; run the same command to resume")
    failed = [outcome.row.name for outcome in outcomes if outcome.state is State.FAILED]
    if failed:
        raise CheckFailedError(
            f"{len(failed)} of {len(rows)} rows failed: {', '.join(failed)}; "
            "fix the errors above and run the same command again"
        )
    return outcomes


def list_rows(table: str, options: Options | None = None) -> list[Outcome]:
    """Prints the rows of a table and where each stands; nothing is run or written."""
    options = options or Options()
    outcomes = [_standing(row, options) for row in read_table(table, options.only)]
    Reporter().print(report(outcomes))
    return outcomes


def report(outcomes: Sequence[Outcome]) -> str:
    """A line a row: name, state, test accuracy with its interval (or the loss), split, images/s."""
    lines = [("row", "state", "test", "split", "images/s"), *map(_columns, outcomes)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _columns(outcome: Outcome) -> tuple[str, ...]:
    state = f"{outcome.state}: {outcome.detail}" if outcome.detail else str(outcome.state)
    if outcome.result is None:
        return outcome.row.name, state, "", "", ""
    result = outcome.result
    speed = result["images_per_second"]
    speed_text = "not known" if speed is None else f"{speed:,.0f}"
    return (
        outcome.row.name,
        state,
        format_test(result["tests"]["clean"]),
        format_split_kind(result),
        speed_text,
    )


class _Job:
    """One start of the command: its options, its clock, its screen."""

    def __init__(self, options: Options, reporter: Reporter):
        self.options, self.reporter = options, reporter
        self._deadline = None if options.budget is None else time.monotonic() + options.budget
        self._hardware: str | None = None

    def make(self, row: Row, place: str) -> Outcome:
        """Runs one row; errors are reported and the next row still runs."""

        def say(text: str) -> None:
            self.reporter.line("row", f"{place}  {row.name}  {text}")

        directory, stored = self.options.runs / row.name, self.options.results / row.name
        try:
            result = self._finished(row, directory, stored)
            if result is not None:
                say("is complete")
                return Outcome(row, State.WAS_COMPLETE, result=result)
            _wait_until_free(directory, self.options.patience, say)
            saved = runtime_estimate.saved_step(directory)
            needs, refusal = self._judge(row, directory, started=saved is not None)
            if refusal:
                say(f"is left out: {refusal}")
                return Outcome(row, State.LEFT_OUT, refusal)
            say(f"{'starts' if saved is None else f'resumes at step {saved}'}{needs}")
            outcome = self._run(row, directory, stored)
            if outcome.state is State.COMPLETE and saved is not None:
                return dataclasses.replace(outcome, state=State.RESUMED)
            return outcome
        except InterruptedRunError:
            raise
        except JaxnetsError as error:
            say(f"failed: {error}")
            return Outcome(row, State.FAILED, str(error))

    def _finished(self, row: Row, directory: Path, stored: Path) -> Result | None:
        ignore = self.options.ignore_damage
        result = finished(stored, row.config, ignore_damage=ignore)
        return result or keep(row, directory, stored, ignore_damage=ignore)

    def _judge(self, row: Row, directory: Path, *, started: bool) -> tuple[str, str]:
        """The estimated need of a row as text, and the reason why it is not to run now, or "".

        A run that has started is resumed however long it needs, and stopped in time: a long run can be made
        in pieces.
        """
        if self._deadline is None:
            return "", ""
        time_left = self._deadline - time.monotonic()
        if time_left <= 0:
            return "", "no time is left"
        if self._hardware is None:
            self._hardware = self.options.hardware()
        known = runtime_estimate.measurements((self.options.runs, self.options.results))
        estimate = runtime_estimate.estimate(row.config, directory, known, self._hardware)
        if estimate is None:
            return "; its speed is not known yet, it is cut when the budget is over", ""
        needs = f"needs about {_minutes(estimate.seconds)} ({estimate.basis})"
        if estimate.seconds > time_left and not started:
            whole = estimate.seconds > (self.options.budget or 0)
            remedy = f"; --budget={math.ceil(estimate.seconds / 60) + 1} begins it" if whole else ""
            return "", f"{needs}, {_minutes(time_left)} left{remedy}"
        return f", {needs}", ""

    def _run(self, row: Row, directory: Path, stored: Path) -> Outcome:
        flags = [*row.flags(directory), *self.options.train_flags]
        command = [sys.executable, str(self.options.trainer), *flags]
        ending = processes.run(command, deadline=self._deadline)
        try:
            result = keep(row, directory, stored, ignore_damage=self.options.ignore_damage)
        finally:  # a stop request ends the sweep even if an error occurs here
            if ending.signal_number is not None:
                raise InterruptedRunError(
                    f"stopped in {row.name}; run the same command to resume", ending.signal_number
                )
        if result is not None:
            return Outcome(row, State.COMPLETE, result=result)
        if ending.cut and ending.code in STOPPED_BY_US:
            step = runtime_estimate.saved_step(directory)
            return Outcome(row, State.CUT, "nothing saved yet" if step is None else f"at step {step}")
        raise CheckFailedError(_reason(ending, self.options.trainer))


def _standing(row: Row, options: Options) -> Outcome:
    directory = options.runs / row.name
    try:
        ignore = options.ignore_damage
        stored = finished(options.results / row.name, row.config, ignore_damage=ignore)
        result = stored or finished(directory, row.config, ignore_damage=ignore)
    except JaxnetsError as error:
        return Outcome(row, State.FAILED, str(error))
    if result is not None:
        return Outcome(row, State.WAS_COMPLETE, result=result)
    saved = runtime_estimate.saved_step(directory)
    detail = "" if saved is None else f"saved at step {saved}"
    if workdir.is_in_use(directory):
        return Outcome(row, State.IN_USE, detail)
    return Outcome(row, State.NEW if saved is None else State.STARTED, detail)


def _wait_until_free(directory: Path, patience: float, say: Callable[[str], None]) -> None:
    """Waits for an earlier start's process that is still saving; MachineError after `patience` seconds."""
    limit = time.monotonic() + patience
    if not workdir.is_in_use(directory):
        return
    say(f"is in use by another process: waiting up to {patience:.0f} s")
    while workdir.is_in_use(directory):
        if time.monotonic() >= limit:
            raise MachineError(f"{directory} is in use by another process: let it end, then run again")
        time.sleep(processes.POLL_SECONDS)


def _reason(ending: processes.ProcessResult, trainer: Path) -> str:
    """One line on why a run failed: its own last words, or how it died."""
    if ending.code < 0:
        name = signal.Signals(-ending.code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = [line.strip() for line in ending.errors.splitlines()]
    lines = [line for line in lines if line and not line.startswith(FAULT_NOTICE)]
    if ending.code == 0 or not lines:
        return f"ended with exit code {ending.code} and no result"
    return lines[-1].removeprefix(f"{trainer.name}: ")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
