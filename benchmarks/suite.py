"""A suite, from what a person asked for to a file: choose rows, measure each, write each."""

import dataclasses
import datetime
import importlib.metadata
from pathlib import Path

from benchmarks import bench_file, drift, rows, suites
from benchmarks.environment import circumstances
from benchmarks.failures import Failures
from benchmarks.jax_workloads import Machine
from benchmarks.measure import Entry, measure_row
from benchmarks.oracles import TORCH, has_torch, require_networks
from benchmarks.worker import Worker
from jaxnets import config as config_lib
from jaxnets.errors import ConfigError
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.xla import cpu_threads
from studies.compare import format_rate
from studies.pages.markdown import milliseconds

DRIFT = "drift"
ON_CPUS = {
    suites.OPS: suites.ops_rows,
    suites.GROWTH: suites.growth_rows,
    suites.PROFILE: suites.profile_rows,
}
SUITES = (*rows.ROWS, *suites.SUITES, DRIFT)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a person may choose: rows (none: all), rounds, seconds a turn, a folder of JPEGs, the file.

    And `kernels`, a library of the C++ kernels, None for the forms in JAX alone. Of campaigns the
    minutes that they may take (`budget`); of the suite "gpu" whether it is only tried, on any device.
    """

    rows: tuple[str, ...] = ()
    rounds: int = 5
    seconds: float = 3.0
    images: Path | None = None
    output: Path | None = None
    kernels: Path | None = None
    budget: float | None = None
    dry_run: bool = False


def run(suite: str, options: Options) -> Path:
    """Measures a suite, writing each row when it is done; the file that holds them.

    Raises ConfigError for rows that the suite does not have and outside a checkout, CheckFailedError
    where two sides do not give the same answer.
    """
    reporter = Reporter()
    _require_meaning(suite, options)
    require_networks()
    if suite == DRIFT:
        return _run_drift(options, reporter)
    if suite in suites.SUITES:
        return _run_campaign(suite, options, reporter)
    chosen = rows.choose(suite, options.rows)
    machine, versions = describe()
    path = options.output or bench_file.default_path(machine, suite, datetime.date.today())
    reporter.line("machine", machine)
    root, failures = config_lib.data_root(config_lib.default_config()), Failures(reporter)
    library = options.kernels
    bench_file.require_usable(path, machine, versions)
    reporter.line("kernels", _format_kernels(library))
    with rows.setting(suite, options.images, cpu_threads(), reporter, root, library) as setting:
        for name, make in chosen.items():
            row, conditions = make(name, setting), circumstances(reporter, library)
            entry: Entry | None = None
            with failures.caught(name), reporter.phase("measure") as phase:
                entry = measure_row(
                    row,
                    rounds=options.rounds,
                    seconds=options.seconds,
                    with_theirs=has_torch() or not row.needs_torch,
                    kernels=library,
                )
                phase.text = as_text(entry)
            if entry is not None:
                bench_file.add_row(path, machine, versions, {**entry, **conditions})
    _say_saved(path, reporter)
    failures.report(len(chosen))
    return path


def _format_kernels(library: Path | None) -> str:
    return "C++" if library else "none: scripts/build_kernels.py builds them"


def _say_saved(path: Path, reporter: Reporter) -> None:
    if path.is_file():
        reporter.line("saved", str(path))


def _require_meaning(suite: str, options: Options) -> None:
    """Raises ConfigError for options that the suite does not have."""
    if options.budget is not None and suite not in suites.SUITES:
        raise ConfigError(f"--budget is not for --suite={suite}: name rows instead")
    if options.dry_run and suite != suites.GPU:
        raise ConfigError(f"--dry_run is for --suite={suites.GPU}, not {suite}")
    if options.images is not None and suite != rows.PIPELINE:
        raise ConfigError(f"--images is for --suite={rows.PIPELINE}, not {suite}")
    if options.images is not None and not options.images.is_dir():
        raise ConfigError(
            f"--images={options.images} is not a folder: name one with JPEGs, one folder per class"
        )


def _run_campaign(suite: str, options: Options, reporter: Reporter) -> Path:
    if suite == suites.GPU:
        with Worker(Machine, None, keep_memory=False) as worker:
            suites.require_gpu(worker.call("platform"), dry=options.dry_run)
    machine, versions = describe()
    reporter.line("machine", machine)
    path = options.output or suites.default_path(suite, machine, versions, goes_on=options.budget is not None)
    if suite == suites.GPU:
        if options.dry_run and options.output is None:
            raise ConfigError("--dry_run measures nothing worth keeping: say --output=FILE")
        found = suites.gpu_rows(options.rounds, options.seconds, with_theirs=has_torch(), dry=options.dry_run)
    else:
        found = ON_CPUS[suite](options.rounds, options.seconds, options.kernels)
        reporter.line("kernels", _format_kernels(options.kernels))
    bench_file.require_usable(path, machine, versions)
    suites.measure_all(
        suites.choose(found, options.rows, suite),
        path,
        machine,
        versions,
        reporter,
        message=as_text,
        kernels=options.kernels,
        budget=options.budget,
    )
    _say_saved(path, reporter)
    return path


def describe() -> tuple[str, dict[str, str]]:
    """A description of the machine, and the versions of the packages, PyTorch's included."""
    with Worker(Machine, None, keep_memory=False) as worker:
        machine, versions = worker.call("describe")
    if has_torch():
        versions["torch"] = importlib.metadata.version("torch")
    return machine, versions


def as_text(entry: Entry) -> str:
    """A row for a person."""
    unit = entry.get("unit", "images")
    ours = f"{entry['name']}: ours {format_rate(entry['ours'], unit)}"
    if "mfu" in entry:
        ours += f", {entry['mfu']:.0%} of a product's speed"
    if "seconds_a_step" in entry:
        return f"{ours}, {milliseconds(entry['seconds_a_step'])} ms a step"
    if entry["theirs"] is None:
        return f"{ours}; PyTorch is not installed, so nothing is beside it (pip install {TORCH})"
    low, high = entry["range"]
    tuned = entry["ratio_tuned"]
    beside = f", {tuned:.2f} of PyTorch with our allocator setting" if tuned is not None else ""
    return (
        f"{ours}, {entry['opponent']} {format_rate(entry['theirs'], unit)}: "
        f"ratio {entry['ratio']:.2f} [{low:.2f}, {high:.2f}] in {entry['rounds']} rounds{beside}"
    )


def _run_drift(options: Options, reporter: Reporter) -> Path:
    if options.rows:
        raise ConfigError("--suite=drift has no rows: leave --rows out")
    if not has_torch():
        raise ConfigError(f"--suite=drift needs PyTorch: pip install {TORCH} torchvision==0.28.0")
    machine, versions = describe()
    path = options.output or bench_file.FOLDER / "drift.json"
    with reporter.phase(DRIFT) as phase:
        found = drift.measure()
        bench_file.write(path, {"machine": machine, "versions": versions, "rows": [], **found})
        drift.draw(found, drift.FIGURE)
        phase.text = drift.as_text(found)
    reporter.line("saved", f"{path}, {drift.FIGURE}")
    return path
