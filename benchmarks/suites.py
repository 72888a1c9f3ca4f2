"""Further suites: implementations of operations, scaling, step profiles, and rows on a GPU."""

import datetime
import functools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import bench_file, gpu, growth, layer_forms, ops_forms, step_profile
from benchmarks.environment import circumstances, code_of
from benchmarks.failures import Failures
from benchmarks.measure import Entry, measure_row
from jaxnets.config import nearest
from jaxnets.errors import ConfigError, MachineError
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.xla import cpu_threads
from studies.compare import FAILED

OPS, GROWTH, PROFILE, GPU = "ops", "growth", "profile", "gpu"
SUITES = (OPS, GROWTH, PROFILE, GPU)

Rows = dict[str, Callable[[], Iterable[Entry]]]
"""By name, what measures a row, or the rows of one shape."""


def ops_rows(rounds: int, seconds: float, kernels: Path | None) -> Rows:
    """By shape, a convolution's three passes; pooling and batch normalisation as a whole."""
    options = {"rounds": rounds, "seconds": seconds, "kernels": kernels}
    convolutions = {
        f"ops/{shape.name}": functools.partial(ops_forms.measure, shape, **options)
        for shape in ops_forms.SHAPES
    }
    layers = {
        layer.name: functools.partial(layer_forms.measure, layer, **options) for layer in layer_forms.LAYERS
    }
    return {**convolutions, **layers}


def growth_rows(rounds: int, seconds: float, kernels: Path | None) -> Rows:
    """A row a point."""
    return {
        point.name: lambda point=point: [
            growth.measure(point, rounds=rounds, seconds=seconds, kernels=kernels)
        ]
        for point in growth.POINTS
    }


def profile_rows(rounds: int, seconds: float, kernels: Path | None) -> Rows:
    """By network and size."""
    return {
        step.name: functools.partial(
            step_profile.measure, step, rounds=rounds, seconds=seconds, kernels=kernels
        )
        for step in step_profile.STEPS_PROFILED
    }


def gpu_rows(rounds: int, seconds: float, *, with_theirs: bool, dry: bool) -> Rows:
    """Every network's, training and inference."""
    return {
        name: lambda make=make: [
            measure_row(make(cpu_threads()), rounds=rounds, seconds=seconds, with_theirs=with_theirs)
        ]
        for name, make in gpu.rows(dry=dry).items()
    }


def require_gpu(platform: str, *, dry: bool) -> None:
    """Raises MachineError if there is no GPU, unless it is a dry run."""
    if platform == "cpu" and not dry:
        raise MachineError(
            "--suite=gpu: JAX sees no GPU here (pip install -e '.[cuda12,oracles]'); "
            "--dry_run tries everything on the CPU at tiny sizes"
        )


def choose(rows: Rows, names: tuple[str, ...], suite: str) -> Rows:
    """All rows, or those that are named; raises ConfigError for others."""
    for name in names:
        if name not in rows:
            hint = nearest(name, rows)
            raise ConfigError(f"no row {name!r} in --suite={suite}{hint}; there are {', '.join(rows)}")
    return {name: rows[name] for name in names or rows}


def measure_all(
    rows: Rows,
    path: Path,
    machine: str,
    versions: dict[str, str],
    reporter: Reporter,
    *,
    message: Callable[[Entry], str],
    kernels: Path | None = None,
    budget: float | None = None,
) -> None:
    """Measures rows, writing each when it is done.

    With a `budget`, in minutes, those that the file has already with the same code and kernels are left
    alone, and so is one that would not be done in time, judged by the longest so far; what is left is said.
    A row that fails is noted in the file and does not keep the others from being measured; CheckFailedError
    at the end.
    """
    begin, longest, failures = time.monotonic(), 0.0, Failures(reporter)
    code = code_of(kernels)
    there = bench_file.measured(path) if budget is not None else {}
    left = [name for name in rows if name not in there or there[name] != code]
    older = [name for name in left if name in there]
    if older:
        reporter.line("older", f"other code or kernels gave {', '.join(older)}: measured again")
    while left:
        spent = time.monotonic() - begin
        if budget is not None and spent + longest > 60 * budget:
            reporter.line("budget", f"{len(left)} rows remain; run the same command to measure them")
            break
        name, conditions = left.pop(0), circumstances(reporter, kernels)
        entries: list[Entry] = []
        with failures.caught(name):
            entries = [{**entry, **conditions} for entry in rows[name]()]
        if entries:
            bench_file.add_rows(path, machine, versions, name, entries)
        for entry in entries:
            reporter.line("measure", message(entry))
        # Noted, or the same command would begin with it again; what was measured before stays.
        if name in failures and name not in bench_file.measured(path):
            failed = {"name": name, FAILED: failures.reason(name), **conditions}
            bench_file.add_row(path, machine, versions, failed)
        longest = max(longest, time.monotonic() - begin - spent)
    for row in bench_file.read(path)["rows"] if there else ():
        if FAILED in row and row["name"] in rows and row["name"] not in failures:
            again = f"--rows={row['name']} without --budget tries it again"
            reporter.line("failed", f"{row['name']}, before: {row[FAILED]}; {again}")
    failures.report(len(rows))


def default_path(suite: str, machine: str, versions: dict[str, str], *, goes_on: bool) -> Path:
    """Where a suite's rows of today lie; where it `goes_on`, the newest file of the same versions."""
    today = bench_file.default_path(machine, suite, datetime.date.today())
    found = bench_file.newest(machine, suite, versions) if goes_on else None
    return found or today
