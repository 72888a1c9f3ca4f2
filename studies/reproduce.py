"""Runs a table of configs: skips finished runs, resumes interrupted ones, and starts the others."""

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
from studies.result_archive import archive_result, finished_result
from studies.sweeps import RUNS, TRAINER, Row, read_table

RESULTS = Path("results")
STOPPED_BY_US = (128 + signal.SIGTERM, -signal.SIGTERM)
FAULT_NOTICE = "internal error"


class State(enum.StrEnum):
    """State of a row."""

    UP_TO_DATE = "up to date"
    COMPLETE = "complete"
    RESUMED = "complete, resumed"
    PAUSED = "paused (budget)"
    SKIPPED = "skipped (budget)"
    FAILED = "failed"
    STARTED = "started"
    PENDING = "pending"
    IN_USE = "running in another process"


REMAINING = (State.PAUSED, State.SKIPPED)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A row, its state, and a detail such as the reason of a failure or the saved step."""

    row: Row
    state: State
    detail: str = ""
    result: Result | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of `reproduce`; times are in seconds."""

    runs: Path = RUNS
    results: Path = RESULTS
    only: Sequence[str] = ()
    budget: float | None = None
    train_flags: Sequence[str] = ()
    ignore_damage: bool = False
    trainer: Path = TRAINER
    patience: float = 60.0  # maximum wait for another process that still saves
    hardware: Callable[[], str | None] = runtime_estimate.hardware_here


def reproduce(table: str, options: Options | None = None) -> list[Outcome]:
    """Runs the rows of a table in order, archives their results, and returns their outcomes.

    Raises ConfigError if the table is invalid, InterruptedRunError if a signal stops a run, which has then
    been saved, and CheckFailedError at the end if a row failed. An exhausted budget is not an error.
    """
    options = options or Options()
    job = _Job(options, Reporter())
    rows = read_table(table, options.only)
    outcomes: list[Outcome] = []
    try:
        for number, row in enumerate(rows, 1):
            outcomes.append(job.run_row(row, f"{number} of {len(rows)}"))
    finally:
        if outcomes:
            job.reporter.print(format_outcomes(outcomes))
    remaining = [outcome.row.name for outcome in outcomes if outcome.state in REMAINING]
    if remaining:
        job.reporter.line("remaining", f"{', '.join(remaining)}; run the same command to resume")
    failed = [outcome.row.name for outcome in outcomes if outcome.state is State.FAILED]
    if failed:
        raise CheckFailedError(
            f"{len(failed)} of {len(rows)} rows failed: {', '.join(failed)}; "
            "fix the errors above and run the same command again"
        )
    return outcomes


def list_rows(table: str, options: Options | None = None) -> list[Outcome]:
    """Prints the rows of a table with their states; runs and writes nothing."""
    options = options or Options()
    outcomes = [_current_state(row, options) for row in read_table(table, options.only)]
    Reporter().print(format_outcomes(outcomes))
    return outcomes


def format_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Formats a table with name, state, test accuracy (or loss), split and images/s of each row."""
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
    """An invocation of the command."""

    def __init__(self, options: Options, reporter: Reporter):
        self.options, self.reporter = options, reporter
        self._deadline = None if options.budget is None else time.monotonic() + options.budget
        self._hardware: str | None = None

    def run_row(self, row: Row, position: str) -> Outcome:
        """Runs one row; errors are reported and the next row still runs."""

        def log(text: str) -> None:
            self.reporter.line("row", f"{position}  {row.name}  {text}")

        directory, stored = self.options.runs / row.name, self.options.results / row.name
        try:
            result = self._finished(row, directory, stored)
            if result is not None:
                log("is up to date")
                return Outcome(row, State.UP_TO_DATE, result=result)
            _wait_until_free(directory, self.options.patience, log)
            saved = runtime_estimate.saved_step(directory)
            estimate, reason = self._fits_budget(row, directory, started=saved is not None)
            if reason:
                log(f"is skipped: {reason}")
                return Outcome(row, State.SKIPPED, reason)
            log(f"{'starts' if saved is None else f'resumes at step {saved}'}{estimate}")
            outcome = self._run(row, directory, stored)
            if outcome.state is State.COMPLETE and saved is not None:
                return dataclasses.replace(outcome, state=State.RESUMED)
            return outcome
        except InterruptedRunError:
            raise
        except JaxnetsError as error:
            log(f"failed: {error}")
            return Outcome(row, State.FAILED, str(error))

    def _finished(self, row: Row, directory: Path, stored: Path) -> Result | None:
        ignore = self.options.ignore_damage
        result = finished_result(stored, row.config, ignore_damage=ignore)
        return result or archive_result(row, directory, stored, ignore_damage=ignore)

    def _fits_budget(self, row: Row, directory: Path, *, started: bool) -> tuple[str, str]:
        """Returns the estimated runtime as text, and the reason to skip the row, or "".

        A started run is always resumed and stopped at the deadline, so that a long run can be split.
        """
        if self._deadline is None:
            return "", ""
        time_left = self._deadline - time.monotonic()
        if time_left <= 0:
            return "", "the budget is used up"
        if self._hardware is None:
            self._hardware = self.options.hardware()
        known = runtime_estimate.measurements((self.options.runs, self.options.results))
        estimate = runtime_estimate.estimate(row.config, directory, known, self._hardware)
        if estimate is None:
            return "; its speed is unknown, it is paused when the budget is used up", ""
        needs = f"needs about {_minutes(estimate.seconds)} ({estimate.basis})"
        if estimate.seconds > time_left and not started:
            whole = estimate.seconds > (self.options.budget or 0)
            remedy = f"; --budget={math.ceil(estimate.seconds / 60) + 1} starts it" if whole else ""
            return "", f"{needs}, {_minutes(time_left)} left{remedy}"
        return f", {needs}", ""

    def _run(self, row: Row, directory: Path, stored: Path) -> Outcome:
        flags = [*row.flags(directory), *self.options.train_flags]
        command = [sys.executable, str(self.options.trainer), *flags]
        ending = processes.run(command, deadline=self._deadline)
        try:
            result = archive_result(row, directory, stored, ignore_damage=self.options.ignore_damage)
        finally:  # a stop request ends the command even if archiving fails
            if ending.signal_number is not None:
                raise InterruptedRunError(
                    f"stopped in {row.name}; run the same command to resume", ending.signal_number
                )
        if result is not None:
            return Outcome(row, State.COMPLETE, result=result)
        if ending.cut and ending.code in STOPPED_BY_US:
            step = runtime_estimate.saved_step(directory)
            return Outcome(row, State.PAUSED, "nothing saved yet" if step is None else f"at step {step}")
        raise CheckFailedError(_reason(ending, self.options.trainer))


def _current_state(row: Row, options: Options) -> Outcome:
    directory = options.runs / row.name
    try:
        ignore = options.ignore_damage
        stored = finished_result(options.results / row.name, row.config, ignore_damage=ignore)
        result = stored or finished_result(directory, row.config, ignore_damage=ignore)
    except JaxnetsError as error:
        return Outcome(row, State.FAILED, str(error))
    if result is not None:
        return Outcome(row, State.UP_TO_DATE, result=result)
    saved = runtime_estimate.saved_step(directory)
    detail = "" if saved is None else f"saved at step {saved}"
    if workdir.is_in_use(directory):
        return Outcome(row, State.IN_USE, detail)
    return Outcome(row, State.PENDING if saved is None else State.STARTED, detail)


def _wait_until_free(directory: Path, patience: float, log: Callable[[str], None]) -> None:
    """Waits for another process that uses a run; raises MachineError after `patience` seconds."""
    limit = time.monotonic() + patience
    if not workdir.is_in_use(directory):
        return
    log(f"is in use by another process: waiting up to {patience:.0f} s")
    while workdir.is_in_use(directory):
        if time.monotonic() >= limit:
            raise MachineError(f"{directory} is in use by another process: wait for it, then run again")
        time.sleep(processes.POLL_SECONDS)


def _reason(ending: processes.ProcessResult, trainer: Path) -> str:
    """Returns why a run failed in one line: its last error message, or the signal."""
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
