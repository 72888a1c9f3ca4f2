"""Benchmark suites: which rows they have, and running one from the command line's options."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks import (
    baselines,
    bench_file,
    comparisons,
    conv_implementations,
    drift,
    gpu,
    growth,
    layer_implementations,
    processes,
    step_profile,
)
from benchmarks.comparisons import BenchContext, MakeComparison
from benchmarks.jax_workloads import MachineInfo
from benchmarks.measure import measure_row
from benchmarks.oracles import TORCH, check_torch_libraries, has_torch
from benchmarks.runner import Suite, measure_suite
from benchmarks.schema import BenchRow, DriftFile, Machine
from benchmarks.worker import Worker
from jaxnets import config as config_lib
from jaxnets.errors import ConfigError, MachineError, suggest
from jaxnets.runtime import console
from jaxnets.runtime.xla import cpu_threads

T = TypeVar("T")
OPS, GROWTH, PROFILE, PROCESSES = "ops", "growth", "profile", "processes"
GPU, DRIFT = "gpu", "drift"
RESUMABLE = (OPS, GROWTH, PROFILE, PROCESSES, GPU)
"""Suites that accept --budget."""
SUITES = (*comparisons.SUITES, *RESUMABLE, DRIFT)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a suite.

    Attributes:
      rows: Names of the rows to measure; all if empty.
      rounds: Rounds per row.
      seconds: Approximate duration of a measurement in a round.
      images: Folder of JPEGs for the pipeline suite; synthetic images if None.
      output: The bench file; today's file under results/bench if None.
      kernels: Library of C++ kernels; None measures without them.
      baselines: What the cpu suite compares networks with, of `baselines.KINDS`.
      budget: Minutes that a resumable suite may take.
      dry_run: Runs the gpu suite at tiny sizes on any device.
    """

    rows: tuple[str, ...] = ()
    rounds: int = 5
    seconds: float = 3.0
    images: Path | None = None
    output: Path | None = None
    kernels: Path | None = None
    baselines: tuple[str, ...] = baselines.KINDS
    budget: float | None = None
    dry_run: bool = False


def run(name: str, options: Options) -> Path:
    """Runs a suite and returns its bench file, which is written after every row.

    Raises ConfigError for unknown rows or options, CheckFailedError if rows could not be measured.
    """
    _check_options(name, options)
    check_torch_libraries()
    if name == DRIFT:
        return _run_drift(options)
    with _open_suite(name, options) as suite:
        machine = describe_machine()
        console.log("machine", machine["machine"])
        resume = options.budget is not None
        path = options.output or bench_file.default_path(machine, name, resume=resume)
        bench_file.check_usable(path, machine)
        if name != GPU:
            hint = "none: scripts/build_kernels.py builds them"
            console.log("kernels", "C++" if options.kernels else hint)
        measure_suite(suite, path, machine, kernels=options.kernels, budget=options.budget)
    console.log("saved", str(path))
    return path


def _check_options(name: str, options: Options) -> None:
    """Raises ConfigError for options that the suite does not have."""
    if options.budget is not None and name not in RESUMABLE:
        raise ConfigError(f"--budget is not for --suite={name}: name rows instead")
    if options.dry_run and name != GPU:
        raise ConfigError(f"--dry_run is for --suite={GPU}, not {name}")
    if options.dry_run and options.output is None:
        raise ConfigError("--dry_run needs --output=FILE: its speeds do not belong in results/bench")
    baselines.check_kinds(options.baselines)
    if options.baselines != baselines.KINDS and name != comparisons.CPU:
        raise ConfigError(f"--baselines is for --suite={comparisons.CPU}, not {name}")
    if options.images is not None and name != comparisons.PIPELINE:
        raise ConfigError(f"--images is for --suite={comparisons.PIPELINE}, not {name}")
    if options.images is not None and not options.images.is_dir():
        raise ConfigError(
            f"--images={options.images} is not a folder: name one with JPEGs, one folder per class"
        )


@contextlib.contextmanager
def _open_suite(name: str, options: Options) -> Iterator[Suite]:
    """Yields the selected rows of a suite; images drawn for the pipeline suite are removed at the end."""
    if name in comparisons.SUITES:
        makers = select(comparisons.SUITES[name], options.rows, name)
        data_root = config_lib.data_root(config_lib.default_config())
        context = BenchContext(cpu_threads(), None, data_root, options.kernels)
        if name == comparisons.CPU and has_torch():
            context = dataclasses.replace(context, baselines=baselines.available(options.baselines))
        if name != comparisons.PIPELINE:
            yield _comparison_suite(makers, context, options)
            return
        with comparisons.pipeline_images(options.images) as images:
            yield _comparison_suite(makers, dataclasses.replace(context, images=images), options)
    elif name == GPU:
        with Worker(MachineInfo, None, keep_memory=False) as worker:
            check_gpu(worker.call("platform"), dry_run=options.dry_run)
        makers = select(gpu.comparisons(dry_run=options.dry_run), options.rows, name)
        yield _comparison_suite(makers, BenchContext(cpu_threads()), options)
    else:
        yield select(cpu_suite(name, options), options.rows, name)


def cpu_suite(name: str, options: Options) -> Suite:
    """Returns the ops, growth, profile or processes suite."""
    arguments = {"rounds": options.rounds, "seconds": options.seconds, "kernels": options.kernels}
    if name == GROWTH:
        return {p.name: functools.partial(growth.measure, p, **arguments) for p in growth.POINTS}
    if name == PROFILE:
        steps = step_profile.STEPS_PROFILED
        return {step.name: functools.partial(step_profile.measure, step, **arguments) for step in steps}
    if name == PROCESSES:
        return {run.name: functools.partial(processes.measure, run, **arguments) for run in processes.RUNS}
    convolutions = {
        f"ops/{shape.name}": functools.partial(conv_implementations.measure, shape, **arguments)
        for shape in conv_implementations.SHAPES
    }
    layers = {
        layer.name: functools.partial(layer_implementations.measure, layer, **arguments)
        for layer in layer_implementations.LAYERS
    }
    return {**convolutions, **layers}


def _comparison_suite(makers: Mapping[str, MakeComparison], context: BenchContext, options: Options) -> Suite:
    return {
        name: functools.partial(_measure_comparison, name, make, context, options)
        for name, make in makers.items()
    }


def _measure_comparison(
    name: str, make: MakeComparison, context: BenchContext, options: Options
) -> list[BenchRow]:
    comparison = make(name, context)
    row = measure_row(
        comparison,
        rounds=options.rounds,
        seconds=options.seconds,
        with_baselines=has_torch() or not comparison.needs_torch,
        kernels=options.kernels,
    )
    return [row]


def select(rows: Mapping[str, T], names: Sequence[str], suite: str) -> dict[str, T]:
    """Returns the named rows, all if there are no names; raises ConfigError for an unknown name."""
    for name in names:
        if name not in rows:
            others = [other for other, makers in comparisons.SUITES.items() if name in makers]
            hint = f" (it is in --suite={others[0]})" if others else suggest(name, rows)
            raise ConfigError(f"no row {name!r} in --suite={suite}{hint}; there are {', '.join(rows)}")
    return {name: rows[name] for name in names or rows}


def check_gpu(platform: str, *, dry_run: bool) -> None:
    """Raises MachineError if there is no GPU, unless it is a dry run."""
    if platform == "cpu" and not dry_run:
        raise MachineError(
            "--suite=gpu: JAX finds no GPU (pip install -e '.[cuda12,oracles]'); "
            "--dry_run runs everything on the CPU at tiny sizes"
        )


def describe_machine() -> Machine:
    """Returns the hardware and the versions of the packages, including those of baselines."""
    with Worker(MachineInfo, None, keep_memory=False) as worker:
        machine, versions = worker.call("describe")
    for package in ("torch", *baselines.ENGINES):
        if importlib.util.find_spec(package) is not None:
            versions[package] = importlib.metadata.version(package)
    return {"machine": machine, "versions": versions}


def _run_drift(options: Options) -> Path:
    if options.rows:
        raise ConfigError("--suite=drift has no rows: remove --rows")
    if not has_torch():
        raise ConfigError(f"--suite=drift needs PyTorch: pip install {TORCH} torchvision==0.28.0")
    machine = describe_machine()
    path = options.output or bench_file.FOLDER / "drift.json"
    with console.phase(DRIFT) as phase:
        found = drift.measure()
        content: DriftFile = {**machine, "rows": [], **found}
        bench_file.write(path, content)
        drift.draw(found, drift.FIGURE)
        phase.text = drift.format_drift(found)
    console.log("saved", f"{path}, {drift.FIGURE}")
    return path
