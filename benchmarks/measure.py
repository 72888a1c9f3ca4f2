"""Measures one comparison: checks that all implementations agree, then times them in alternating rounds."""

import contextlib
import dataclasses
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.baselines import PYTORCH, TUNED_ALLOCATOR, Baseline
from benchmarks.schema import BenchRow
from benchmarks.worker import PEAK_MEMORY, SharingWorkload, Worker
from jaxnets.errors import CheckFailedError
from studies.pages.bench_table import IN_JAX_ALONE

TOLERANCE = 1e-4
"""Maximum difference of outputs in single precision, relative to the largest value."""
LOSS_TOLERANCE = 1e-3
"""The same for training losses in single precision; those of Inception v3 at 128 px differ by 2e-4."""
GPU_MEMORY_FRACTION = "0.45"
"""Fraction of the GPU's memory that JAX preallocates; PyTorch's process gets as much."""
COOLDOWN_SECONDS = 0.5
"""Pause between measurements, in which data loader workers fill their queues and become idle."""
MEMORY_ROUNDS = 2
"""Measurements of a training step in a new process before its peak memory is read."""
TRIAL_ROUNDS = 3
"""Rounds that choose the fastest form of eager PyTorch, such as its memory layout, before the others start.

At 224 px, the processes of all forms would not fit into the memory of small computers.
"""
OURS, IN_JAX, IN_FLOAT32 = "ours", "ours, in JAX", "ours, in float32"
"""jaxnets, and if they are measured too, jaxnets without the C++ kernels and in another precision."""
WITH_KERNELS = "C++ kernels"
"""`implementation` of a row measured with the C++ kernels."""

Speeds = Mapping[str, list[float]]
"""Speed in each round by implementation."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A jaxnets workload and the baselines that it is compared with.

    Attributes:
      name: The row's name, such as train/lenet5/28/64.
      title: The description shown in tables.
      ours: Creates the jaxnets workload.
      baselines: The baselines by name; the fastest one counts. Of eager PyTorch with one allocator
        setting, only the form that is fastest in a trial is measured.
      needs_torch: Whether the baselines need PyTorch.
      has_kernels: Whether to use the C++ kernels; float32 is also measured without them.
      implementation: What jaxnets uses, if `has_kernels` is False and it matters.
      in_float32: Creates the jaxnets workload in float32, if `ours` has another precision.
      dtype: Precision of the computation; None if it does not matter.
      unit: What speeds count.
      on_gpu: Ignores kernels and allocator, and reports model FLOP utilization.
      warmup: Number of rounds that do not count.
      tolerance: Tolerance of the logits of the programs that are measured; None if they are not compared.
      loss_tolerance: Tolerance of training losses before and after a step; None if nothing is trained.
    """

    name: str
    title: str
    ours: Callable[[None], SharingWorkload]
    baselines: Mapping[str, Baseline]
    needs_torch: bool = True
    has_kernels: bool = False
    implementation: str | None = None
    in_float32: Callable[[None], SharingWorkload] | None = None
    dtype: str | None = "float32"
    unit: str = "images"
    on_gpu: bool = False
    warmup: int = 1
    tolerance: float | None = None
    loss_tolerance: float | None = None


def measure_row(
    comparison: Comparison,
    *,
    rounds: int,
    seconds: float,
    with_baselines: bool = True,
    kernels: Path | None = None,
    cooldown: float = COOLDOWN_SECONDS,
    worker_class: Callable[..., Any] = Worker,
) -> BenchRow:
    """Measures a comparison in `rounds` rounds of about `seconds` per implementation.

    `kernels` is a library of C++ kernels. Raises CheckFailedError if implementations disagree.
    """
    kernels = kernels if comparison.has_kernels else None
    flop_rates: Mapping[str, float] = {}
    with contextlib.ExitStack() as stack:
        workers = _start_workers(
            comparison,
            lambda *arguments, **options: stack.enter_context(worker_class(*arguments, **options)),
            kernels,
            with_baselines=with_baselines,
            measure_trial=lambda started: _measure_rounds(started, TRIAL_ROUNDS, seconds, cooldown),
        )
        speeds = _measure_rounds(workers, comparison.warmup + rounds, seconds, cooldown)
        memory = {name: worker.call(PEAK_MEMORY) for name, worker in workers.items()}
        if comparison.on_gpu:
            flop_rates = workers[OURS].call("flop_rates")
        of_training = comparison.loss_tolerance is not None and not comparison.on_gpu
        shared = workers[OURS].call("shared_data") if of_training and with_baselines else None
    if of_training:
        memory = _memory_of_training(comparison, list(workers), shared, kernels, seconds, worker_class)
    implementation = comparison.implementation
    if comparison.has_kernels:
        implementation = WITH_KERNELS if kernels is not None else IN_JAX_ALONE
    counted = {name: each[comparison.warmup :] for name, each in speeds.items()}
    row = summarize(comparison.name, counted, memory)
    row["title"], row["unit"], row["dtype"] = comparison.title, comparison.unit, comparison.dtype
    row["implementation"] = implementation
    if flop_rates:
        row["operations_per_image"] = flop_rates["operations_per_image"]
        row["operations_per_second_of_a_product"] = flop_rates["operations_per_second_of_a_product"]
        flops = row["ours"] * row["operations_per_image"]
        row["mfu"] = flops / row["operations_per_second_of_a_product"]
    return row


def _measure_rounds(workers: Mapping[str, Any], rounds: int, seconds: float, cooldown: float) -> Speeds:
    """Returns the speed of each worker in each round."""
    speeds: dict[str, list[float]] = {name: [] for name in workers}
    names = list(workers)
    for number in range(rounds):
        # In a new order each time, so that no implementation always follows the same other, whose threads
        # may still be spinning.
        for name in random.Random(number).sample(names, len(names)):
            time.sleep(cooldown)
            speeds[name].append(workers[name].call("measure", seconds))
    return speeds


def _start_workers(
    comparison: Comparison,
    start: Callable[..., Any],
    kernels: Path | None,
    *,
    with_baselines: bool,
    measure_trial: Callable[[Mapping[str, Any]], Speeds],
) -> dict[str, Any]:
    """Starts a worker per implementation by `start`, and checks that it agrees with jaxnets."""
    options: dict[str, Any] = {}
    if comparison.on_gpu:
        options["environment"] = {"XLA_PYTHON_CLIENT_MEM_FRACTION": GPU_MEMORY_FRACTION}
    ours = start(comparison.ours, None, keep_memory=True, kernels=kernels, **options)
    workers, check = {OURS: ours}, _make_check(comparison, ours)
    if comparison.in_float32 is not None:
        workers[IN_FLOAT32] = start(comparison.in_float32, None, keep_memory=True, kernels=kernels)
        check(IN_FLOAT32, workers[IN_FLOAT32])
    elif kernels is not None:
        workers[IN_JAX] = start(comparison.ours, None, keep_memory=True)
        check(IN_JAX, workers[IN_JAX])
    if not with_baselines:
        return workers
    shared = ours.call("shared_data")
    for forms in _forms(comparison.baselines):
        started = {}
        for name in forms:
            baseline = comparison.baselines[name]
            started[name] = start(baseline.make, shared, keep_memory=baseline.keep_memory)
            check(name, started[name])
        fastest = _fastest(measure_trial(started)) if len(started) > 1 else forms[0]
        for name, worker in started.items():
            if name == fastest:
                workers[name] = worker
            else:
                worker.close()
    return workers


def _memory_of_training(
    comparison: Comparison,
    names: Iterable[str],
    shared: Any,
    kernels: Path | None,
    seconds: float,
    worker_class: Callable[..., Any],
) -> dict[str, int | None]:
    """Returns the peak memory of processes that only train: the others ran more programs, as checks."""
    ours = {OURS: kernels, IN_JAX: None, IN_FLOAT32: kernels}
    memory = {}
    for name in names:
        if name in ours:
            make = comparison.in_float32 if name == IN_FLOAT32 else comparison.ours
            worker = worker_class(make, None, keep_memory=True, kernels=ours[name])
        else:
            baseline = comparison.baselines[name]
            worker = worker_class(baseline.make, shared, keep_memory=baseline.keep_memory)
        with worker:
            for _ in range(MEMORY_ROUNDS):
                worker.call("measure", seconds)
            memory[name] = worker.call(PEAK_MEMORY)
    return memory


def _forms(baselines: Iterable[str]) -> list[list[str]]:
    """Returns the names of baselines, with the forms of eager PyTorch with one allocator setting together."""
    forms: dict[object, list[str]] = {}
    for name in baselines:
        key = name.endswith(TUNED_ALLOCATOR) if name.startswith(PYTORCH) else name
        forms.setdefault(key, []).append(name)
    return list(forms.values())


def _make_check(comparison: Comparison, ours: Any) -> Callable[[str, Any], None]:
    """Returns a function that raises CheckFailedError if a worker, by its name, disagrees with ours."""
    row, outputs, tolerance = comparison.name, ours.call("outputs"), comparison.tolerance
    program, training_step = f"{row}, its program,", f"{row}, its training step,"
    measured = ours.call("measured_outputs") if tolerance is not None else None
    losses, lr_fraction = ours.call("losses") if comparison.loss_tolerance is not None else (None, None)
    if measured is not None and tolerance is not None:
        check_outputs_match(program, "the network", measured, outputs, tolerance)

    def check(name: str, worker: Any) -> None:
        check_outputs_match(row, name, outputs, worker.call("outputs"))
        if measured is not None and tolerance is not None:
            check_outputs_match(program, name, measured, worker.call("measured_outputs"), tolerance)
        if losses is not None and comparison.loss_tolerance is not None:
            theirs, _ = worker.call("losses", lr_fraction)
            check_outputs_match(training_step, name, losses, theirs, comparison.loss_tolerance)

    return check


def check_outputs_match(
    row: str, baseline: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float = TOLERANCE
) -> None:
    """Raises CheckFailedError unless two arrays agree to `tolerance` times the largest value."""
    if ours.shape != theirs.shape:
        raise CheckFailedError(
            f"{row} is not measured: our outputs have shape {ours.shape}, those of {baseline} {theirs.shape}"
        )
    difference = float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
    if not difference <= tolerance:
        raise CheckFailedError(
            f"{row} is not measured: our outputs and those of {baseline} "
            f"differ by {difference:.1e} of the largest value, {tolerance:g} is allowed"
        )


def summarize(name: str, speeds: Speeds, memory: Mapping[str, int | None] | None = None) -> BenchRow:
    """Returns the row of a comparison; `speeds` contains `OURS`, `memory` is peak bytes by implementation.

    Memory is compared with eager PyTorch as installed, the speed with the fastest baseline of all.
    """
    memory, ours, in_jax = memory or {}, speeds[OURS], speeds.get(IN_JAX)
    baselines = {other: each for other, each in speeds.items() if other not in (OURS, IN_JAX, IN_FLOAT32)}
    eager = {other: each for other, each in baselines.items() if other.startswith(PYTORCH)}
    baseline = _fastest(baselines)
    plain = _fastest({n: s for n, s in eager.items() if not n.endswith(TUNED_ALLOCATOR)})
    tuned = _fastest({n: s for n, s in eager.items() if n.endswith(TUNED_ALLOCATOR)})
    theirs, theirs_plain, theirs_tuned = (speeds.get(other or "") for other in (baseline, plain, tuned))
    peak, their_peak = memory.get(OURS), memory.get(plain or baseline or "")
    ratios = _ratios(ours, theirs)
    return {
        "name": name,
        "ours": statistics.median(ours),
        "theirs": statistics.median(theirs) if theirs else None,
        "baseline": baseline,
        "ratio": _median(ratios),
        "range": [min(ratios), max(ratios)] if ratios else None,
        "rounds": len(ours),
        "baseline_eager": plain,
        "ratio_eager": _median(_ratios(ours, theirs_plain)),
        "ratio_eager_tuned": _median(_ratios(ours, theirs_tuned)),
        "kernels": in_jax is not None,
        "ratio_in_jax": _median(_ratios(in_jax, theirs)),
        "ratio_eager_in_jax": _median(_ratios(in_jax, theirs_plain)),
        "ratio_eager_tuned_in_jax": _median(_ratios(in_jax, theirs_tuned)),
        "ratio_float32": _median(_ratios(ours, speeds.get(IN_FLOAT32))),
        "ratio_memory": peak / their_peak if peak and their_peak else None,
        "images_per_second": {other: list(each) for other, each in speeds.items()},
        "peak_memory": dict(memory),
    }


def row_without_baseline(name: str, speeds: list[float], batch_size: int) -> BenchRow:
    """Returns the row of a step that is compared with nothing; `speeds` are images per second."""
    return {
        "name": name,
        "unit": "images",
        "dtype": "float32",
        "ours": statistics.median(speeds),
        "theirs": None,
        "ratio": None,
        "range": None,
        "rounds": len(speeds),
        "seconds_a_step": statistics.median([batch_size / speed for speed in speeds]),
        "images_per_second": {OURS: speeds},
    }


def _fastest(speeds: Speeds) -> str | None:
    return max(speeds, key=lambda name: statistics.median(speeds[name])) if speeds else None


def _ratios(ours: list[float] | None, theirs: list[float] | None) -> list[float]:
    if ours is None or theirs is None:
        return []
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
