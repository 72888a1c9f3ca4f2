"""Measures the rows of a suite, writes each to the bench file, and reports failures at the end."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from benchmarks import bench_file
from benchmarks.conditions import code_conditions, measurement_conditions
from benchmarks.oracles import TORCH, has_torch
from benchmarks.schema import BenchRow, Machine
from jaxnets.errors import CheckFailedError, ConfigError, InterruptedRunError, JaxnetsError
from jaxnets.runtime import console
from studies.pages.bench_table import FAILED, format_rate
from studies.pages.markdown import milliseconds

Suite = Mapping[str, Callable[[], Iterable[BenchRow]]]
"""Functions that measure a row, or several rows, by name."""
OTHER_RATIOS = (
    ("ratio_eager", "eager PyTorch"),
    ("ratio_eager_tuned", "eager PyTorch with our allocator setting"),
    ("ratio_float32", "our float32"),
    ("ratio_memory", "memory"),
)
"""Ratios of a row that are printed too, and what they compare."""


def measure_suite(
    suite: Suite, path: Path, machine: Machine, *, kernels: Path | None = None, budget: float | None = None
) -> None:
    """Measures every row of a suite and writes it to a bench file.

    With a `budget` (minutes), rows that the file has with the same code and kernels are skipped, and no row
    starts that would exceed the budget if it took as long as the longest so far; failures are stored, so
    that the next run does not begin with the same row. Raises CheckFailedError at the end if rows failed.
    """
    start, longest, errors = time.monotonic(), 0.0, dict[str, Exception]()
    stored = bench_file.read_conditions(path) if budget is not None else {}
    code = code_conditions(kernels)
    remaining = [name for name in suite if stored.get(name) != code]
    stale = [name for name in remaining if name in stored]
    if stale:
        console.log("stale", f"other code or kernels gave {', '.join(stale)}: measured again")
    while remaining:
        elapsed = time.monotonic() - start
        if budget is not None and elapsed + longest > 60 * budget:
            console.log("budget", f"{len(remaining)} rows remain; run the same command to measure them")
            break
        name = remaining.pop(0)
        error = _measure(name, suite[name], path, machine, kernels, store_failure=budget is not None)
        if error is not None:
            errors[name] = error
        longest = max(longest, time.monotonic() - start - elapsed)
    for row in bench_file.read(path)["rows"] if stored else ():
        if FAILED in row and row["name"] in suite and row["name"] not in errors:
            retry = f"--rows={row['name']} without --budget tries it again"
            console.log("failed", f"{row['name']}, before: {row[FAILED]}; {retry}")
    if len(suite) == 1:
        for error in errors.values():
            raise error
    if errors:
        raise CheckFailedError(
            f"{len(errors)} of {len(suite)} rows could not be measured: {', '.join(errors)}"
        )


def _measure(
    name: str,
    measure: Callable[[], Iterable[BenchRow]],
    path: Path,
    machine: Machine,
    kernels: Path | None,
    *,
    store_failure: bool,
) -> Exception | None:
    """Measures and writes the rows of one name, and returns the error if it failed."""
    conditions, start = measurement_conditions(kernels), time.perf_counter()
    try:
        rows = list(measure())
    except (ConfigError, InterruptedRunError):
        raise
    except (JaxnetsError, RuntimeError) as error:  # RuntimeError: a worker's, with its traceback
        console.log("failed", f"{name}: {error}")
        if store_failure and name not in bench_file.read_conditions(path):  # keeps an earlier measurement
            reason = str(error).strip().splitlines()[-1]
            failure: BenchRow = {"name": name, "failed": reason}
            bench_file.add_rows(path, machine, name, [{**failure, **conditions}])
        return error
    measured_on = machine["machine"]
    bench_file.add_rows(path, machine, name, [{**row, "machine": measured_on, **conditions} for row in rows])
    for row in rows:
        console.log("measure", f"{format_row(row)}  {time.perf_counter() - start:.1f} s")
    return None


def format_row(row: BenchRow) -> str:
    """Formats a row as one line of console output."""
    unit = row.get("unit", "images")
    ours = f"{row['name']}: ours {format_rate(row['ours'], unit)}"
    if "mfu" in row:
        ours += f", {row['mfu']:.0%} of a matrix product's speed"
    if "seconds_a_step" in row:
        return f"{ours}, {milliseconds(row['seconds_a_step'])} ms per step"
    if row["theirs"] is None:
        reason = (
            "no baseline is selected" if has_torch() else f"PyTorch is not installed (pip install {TORCH})"
        )
        return f"{ours}; not compared: {reason}"
    low, high = row["range"] or (0.0, 0.0)
    others = "".join(
        f", {what} {ratio:.2f}" for field, what in OTHER_RATIOS if (ratio := row.get(field)) is not None
    )
    return (
        f"{ours}, {row['baseline']} {format_rate(row['theirs'], unit)}: "
        f"ratio {row['ratio']:.2f} [{low:.2f}, {high:.2f}] in {row['rounds']} rounds{others}"
    )
