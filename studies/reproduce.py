"""Runs a table of configs: skips finished runs, resumes interrupted ones, and starts the others."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxnets.errors import JaxnetsError
from jaxnets.evaluation.result import Result
from jaxnets.experiment.sweep import (
    Outcome,
    Row,
    State,
    Sweep,
    finished_result,
    format_outcomes,
    is_in_use,
    saved_step,
    select_shard,
)
from jaxnets.runtime import console
from studies import runtime_estimate
from studies.result_archive import archive_result
from studies.sweeps import RUNS, read_table

RESULTS = Path("results")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of `reproduce`; times are in seconds."""

    runs: Path = RUNS
    results: Path = RESULTS
    only: Sequence[str] = ()
    shard: str | None = None
    budget: float | None = None
    train_flags: Sequence[str] = ()
    ignore_damage: bool = False
    trainer: Path | None = None
    patience: float = 60.0  # maximum wait for another process that still saves
    hardware: Callable[[], str | None] = runtime_estimate.hardware_here


def reproduce(table: str, options: Options | None = None) -> list[Outcome]:
    """Runs the rows of a table in order, archives their results, and returns their outcomes.

    Raises ConfigError if the table is invalid, InterruptedRunError if a signal stops a run, which has then
    been saved, and CheckFailedError at the end if a row failed. An exhausted budget is not an error.
    """
    options = options or Options()
    return _ArchivedSweep(options).run(_rows(table, options))


def list_rows(table: str, options: Options | None = None) -> list[Outcome]:
    """Prints the rows of a table with their states; runs and writes nothing."""
    options = options or Options()
    sweep = _ArchivedSweep(options, writes=False)
    outcomes = [_current_state(sweep, row) for row in _rows(table, options)]
    console.log_text(format_outcomes(outcomes))
    return outcomes


def _current_state(sweep: Sweep, row: Row) -> Outcome:
    directory = sweep.runs / row.name
    try:
        result = sweep.result(row)
    except JaxnetsError as error:
        return Outcome(row, State.FAILED, str(error))
    if result is not None:
        return Outcome(row, State.UP_TO_DATE, result=result)
    saved = saved_step(directory)
    detail = "" if saved is None else f"saved at step {saved}"
    if is_in_use(directory):
        return Outcome(row, State.IN_USE, detail)
    return Outcome(row, State.PENDING if saved is None else State.STARTED, detail)


def _rows(table: str, options: Options) -> list[Row]:
    return select_shard(read_table(table, options.only), options.shard)


class _ArchivedSweep(Sweep):
    """A sweep with a budget, whose results are copied to a folder; with `writes` False they only may be."""

    def __init__(self, options: Options, *, writes: bool = True):
        super().__init__(
            options.runs,
            train_flags=options.train_flags,
            ignore_damage=options.ignore_damage,
            trainer=options.trainer,
            patience=options.patience,
            deadline=None if options.budget is None else time.monotonic() + options.budget,
        )
        self._options, self._writes = options, writes
        self._hardware: str | None = None

    def result(self, row: Row) -> Result | None:
        stored, ignore = self._options.results / row.name, self.ignore_damage
        if result := finished_result(stored, row.config, ignore_damage=ignore):
            return result
        if not self._writes:
            return super().result(row)
        return archive_result(row, self.runs / row.name, stored, ignore_damage=ignore)

    def fits_deadline(self, row: Row, *, started: bool) -> tuple[str, str]:
        """A started run is always resumed and stopped at the deadline, so that a long run can be split."""
        if self.deadline is None:
            return "", ""
        time_left = self.deadline - time.monotonic()
        if time_left <= 0:
            return "", "the budget is used up"
        if self._hardware is None:
            self._hardware = self._options.hardware()
        known = runtime_estimate.measurements((self.runs, self._options.results))
        estimate = runtime_estimate.estimate(row.config, self.runs / row.name, known, self._hardware)
        if estimate is None:
            return "; its speed is unknown, it is paused when the budget is used up", ""
        needs = f"needs about {_minutes(estimate.seconds)} ({estimate.basis})"
        if estimate.seconds > time_left and not started:
            whole = estimate.seconds > (self._options.budget or 0)
            remedy = f"; --budget={math.ceil(estimate.seconds / 60) + 1} starts it" if whole else ""
            return "", f"{needs}, {_minutes(time_left)} left{remedy}"
        return f", {needs}", ""


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
