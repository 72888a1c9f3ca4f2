"""Trains runs in child processes: skips finished ones, resumes interrupted ones, starts the others."""

import dataclasses
import enum
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import config_dict

from jaxnets.errors import CheckFailedError, ConfigError, InterruptedRunError, JaxnetsError, MachineError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.result import Result
from jaxnets.experiment import run_files, workdir
from jaxnets.experiment.run_directory import RunDirectory, open_run_if_exists
from jaxnets.io import command, project_folder
from jaxnets.runtime import console, processes
from jaxnets.training.checkpoint import Checkpoints

T = TypeVar("T")
STOPPED_BY_US = (128 + signal.SIGTERM, -signal.SIGTERM)
FAULT_NOTICE = "internal error"


@dataclasses.dataclass(frozen=True)
class Row:
    """A run of a sweep: directory name, config path, overrides including the seed, and full config."""

    name: str
    spec: str
    overrides: Mapping[str, Any]
    config: config_dict.ConfigDict

    def flags(self, directory: Path) -> list[str]:
        """The flags of scripts/train.py for this run in `directory`."""
        fields = [f"--config.{path}={value}" for path, value in self.overrides.items()]
        return [f"--config={self.spec}", *fields, f"--workdir={directory}"]

    def command(self, runs: Path) -> str:
        """The command line of this row in the folder `runs`."""
        return f"{command('train')} {shlex.join(self.flags(runs / self.name))}"


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


def select_shard(rows: Sequence[T], shard: str | None) -> list[T]:
    """The rows of one of N machines: shard "I/N" has every N-th row, starting with the I-th; None has all.

    Raises ConfigError unless 1 <= I <= N.
    """
    if shard is None:
        return list(rows)
    found = re.fullmatch(r"(\d+)/(\d+)", shard, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard={shard} must be I/N with I from 1 to N, such as 2/5")
    return list(rows[int(found[1]) - 1 :: int(found[2])])


class Sweep:
    """Trains rows one after the other, each in its own directory in `runs`.

    Args:
        runs: the folder of the run directories.
        train_flags: more flags of scripts/train.py.
        ignore_damage: files of finished runs that do not match their checksum only cause warnings.
        trainer: the script to start; by default scripts/train.py or its copy in the installed package.
        patience: the maximum time to wait for another process that still saves a run, in seconds.
        deadline: the value of time.monotonic() at which a run is saved and stopped; None for never.
    """

    def __init__(
        self,
        runs: Path,
        *,
        train_flags: Sequence[str] = (),
        ignore_damage: bool = False,
        trainer: Path | None = None,
        patience: float = 60.0,
        deadline: float | None = None,
    ):
        self.runs, self.ignore_damage = runs, ignore_damage
        self.deadline = deadline
        self._train_flags, self._patience = train_flags, patience
        self._trainer = trainer or project_folder("scripts") / "train.py"

    def run(self, rows: Sequence[Row]) -> list[Outcome]:
        """Trains the rows in order, prints a table, and returns their outcomes.

        Raises InterruptedRunError if a signal stops a run, which has then been saved, and CheckFailedError at
        the end if a row failed. A deadline is not an error.
        """
        outcomes: list[Outcome] = []
        try:
            for number, row in enumerate(rows, 1):
                outcomes.append(self._run_row(row, f"{number} of {len(rows)}"))
        finally:
            if outcomes:
                console.log_text(format_outcomes(outcomes))
        remaining = [outcome.row.name for outcome in outcomes if outcome.state in REMAINING]
        if remaining:
            console.log("remaining", f"{', '.join(remaining)}; run the same command to resume")
        failed = [outcome.row.name for outcome in outcomes if outcome.state is State.FAILED]
        if failed:
            raise CheckFailedError(
                f"{len(failed)} of {len(rows)} rows failed: {', '.join(failed)}; "
                "fix the errors above and run the same command again"
            )
        return outcomes

    def result(self, row: Row) -> Result | None:
        """The result of a row; None if its run has not finished."""
        return finished_result(self.runs / row.name, row.config, ignore_damage=self.ignore_damage)

    def fits_deadline(self, row: Row, *, started: bool) -> tuple[str, str]:
        """An estimate of the runtime as text, and the reason to skip the row, or ""."""
        del row, started
        return "", ""

    def _run_row(self, row: Row, position: str) -> Outcome:
        """Runs one row; errors are reported and the next row still runs."""

        def log(text: str) -> None:
            console.log("row", f"{position}  {row.name}  {text}")

        directory = self.runs / row.name
        try:
            result = self.result(row)
            if result is not None:
                log("is up to date")
                return Outcome(row, State.UP_TO_DATE, result=result)
            _wait_until_free(directory, self._patience, log)
            saved = saved_step(directory)
            estimate, reason = self.fits_deadline(row, started=saved is not None)
            if reason:
                log(f"is skipped: {reason}")
                return Outcome(row, State.SKIPPED, reason)
            log(f"{'starts' if saved is None else f'resumes at step {saved}'}{estimate}")
            outcome = self._train(row, directory)
            if outcome.state is State.COMPLETE and saved is not None:
                return dataclasses.replace(outcome, state=State.RESUMED)
            return outcome
        except InterruptedRunError:
            raise
        except JaxnetsError as error:
            log(f"failed: {error}")
            return Outcome(row, State.FAILED, str(error))

    def _train(self, row: Row, directory: Path) -> Outcome:
        flags = [*row.flags(directory), *self._train_flags]
        ending = processes.run([sys.executable, str(self._trainer), *flags], deadline=self.deadline)
        try:
            result = self.result(row)
        finally:  # a stop request ends the command even if reading the result fails
            if ending.signal_number is not None:
                raise InterruptedRunError(
                    f"stopped in {row.name}; run the same command to resume", ending.signal_number
                )
        if result is not None:
            return Outcome(row, State.COMPLETE, result=result)
        if ending.cut and ending.code in STOPPED_BY_US:
            step = saved_step(directory)
            return Outcome(row, State.PAUSED, "nothing saved yet" if step is None else f"at step {step}")
        raise CheckFailedError(_reason(ending, self._trainer))


def finished_result(
    folder: Path, config: config_dict.ConfigDict, *, ignore_damage: bool = False
) -> Result | None:
    """Returns the result of a run directory or of a folder under results/; None if there is none.

    Raises ConfigError if it has another config, CheckpointError if it is damaged; with `ignore_damage` a
    wrong checksum is a warning.
    """
    opened = open_finished(folder, config, ignore_damage=ignore_damage)
    return None if opened is None else opened.result


def open_finished(
    folder: Path, config: config_dict.ConfigDict, *, ignore_damage: bool
) -> RunDirectory | None:
    """Like `finished_result`, but returns the whole directory."""
    if not (folder / results.RESULT).exists():  # it may be an interrupted copy
        return None
    opened = open_run_if_exists(folder, ignore_damage=ignore_damage)
    if opened is None or opened.result is None:
        return None
    console.warn(*opened.warnings)
    changed = run_files.describe_config_diff(opened.config, config)
    if changed:
        raise ConfigError(
            f"{folder} has a result of another config ({changed}): "
            "move it away, or give the row another 'name'"
        )
    return opened


def saved_step(folder: Path) -> int | None:
    """Returns the step of a run's newest checkpoint, or None."""
    steps = Checkpoints(folder / workdir.CHECKPOINTS, keep=1).steps()
    return steps[-1] if steps else None


def format_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Formats a table with name, state, test accuracy (or loss), split and images/s of each row."""
    return "\n".join(console.table([("row", "state", "test", "split", "images/s"), *map(_columns, outcomes)]))


def _columns(outcome: Outcome) -> tuple[str, ...]:
    state = f"{outcome.state}: {outcome.detail}" if outcome.detail else str(outcome.state)
    if outcome.result is None:
        return outcome.row.name, state, "", "", ""
    result = outcome.result
    speed, clean = result["images_per_second"], result["tests"].get("clean")
    return (
        outcome.row.name,
        state,
        "not tested" if clean is None else results.format_test(clean),
        results.format_split_kind(result),
        "not known" if speed is None else f"{speed:,.0f}",
    )


def _wait_until_free(directory: Path, patience: float, log: Callable[[str], None]) -> None:
    """Waits for another process that uses a run; raises MachineError after `patience` seconds."""
    limit = time.monotonic() + patience
    if not is_in_use(directory):
        return
    log(f"is in use by another process: waiting up to {patience:.0f} s")
    while is_in_use(directory):
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


def is_in_use(directory: Path) -> bool:
    """Returns whether a process of this machine has locked a run directory.

    Reads Linux's table of locks: an attempt to lock the directory could stop a run that is just starting.
    """
    try:
        inode = (directory / workdir.LOCK).stat().st_ino
        locks = Path("/proc/locks").read_text().splitlines()
    except FileNotFoundError:
        return False
    return any(f":{inode} " in line and "FLOCK" in line for line in locks)
