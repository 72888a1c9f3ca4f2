"""Measures one comparison: checks that all implementations agree, then times them in alternating rounds."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.schema import BenchRow
from benchmarks.worker import PEAK_MEMORY, MakeWorkload, SharingWorkload, Worker
from jaxnets.errors import CheckFailedError
from studies.pages.bench_table import IN_JAX_ALONE

TOLERANCE = 1e-4
"""Maximum difference of outputs, relative to the largest value."""
LOSS_TOLERANCE = 1e-3
"""The same for training losses in single precision; those of Inception v3 at 128 px differ by 2e-4."""
GPU_MEMORY_FRACTION = "0.45"
"""Fraction of the GPU's memory that JAX preallocates; PyTorch's process gets as much."""
COOLDOWN_SECONDS = 0.5
"""Pause between measurements, in which data loader workers fill their queues and become idle."""
OURS, IN_JAX = "ours", "ours, in JAX"
"""jaxnets, and jaxnets without the C++ kernels if both are measured."""
WITH_KERNELS = "C++ kernels"
"""`implementation` of a row measured with the C++ kernels."""
TUNED_ALLOCATOR = ", our allocator setting"
"""Suffix of a baseline that keeps its freed memory, as jaxnets does."""

Speeds = Mapping[str, list[float]]
"""Speed in each round by implementation."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A jaxnets workload and the baselines that it is compared with.

    Attributes:
      name: The row's name, such as train/lenet5/28/64.
      title: The description shown in tables.
      ours: Creates the jaxnets workload.
      baselines: Create the baselines, by name; the fastest one counts.
      needs_torch: Whether the baselines are PyTorch's. These are measured as installed and with our
        allocator setting; others use our setting only.
      has_kernels: Whether to measure jaxnets with and without the C++ kernels.
      implementation: What jaxnets uses, if `has_kernels` is False and it matters.
      unit: What speeds count.
      on_gpu: Ignores kernels and allocator, and reports model FLOP utilization.
      warmup: Number of rounds that do not count.
      loss_tolerance: Tolerance of training losses before and after a step; None if nothing is trained.
    """

    name: str
    title: str
    ours: Callable[[None], SharingWorkload]
    baselines: Mapping[str, MakeWorkload]
    needs_torch: bool = True
    has_kernels: bool = False
    implementation: str | None = None
    unit: str = "images"
    on_gpu: bool = False
    warmup: int = 1
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
        workers = _start_workers(comparison, stack, worker_class, kernels, with_baselines=with_baselines)
        _check_agreement(comparison, workers)
        speeds: dict[str, list[float]] = {name: [] for name in workers}
        names = list(workers)
        for number in range(comparison.warmup + rounds):
            first = number % len(names)  # rotates, so that no implementation always follows the same other
            for name in names[first:] + names[:first]:
                time.sleep(cooldown)
                speeds[name].append(workers[name].call("measure", seconds))
        memory = {name: worker.call(PEAK_MEMORY) for name, worker in workers.items()}
        if comparison.on_gpu:
            flop_rates = workers[OURS].call("flop_rates")
    implementation = comparison.implementation
    if comparison.has_kernels:
        implementation = WITH_KERNELS if kernels is not None else IN_JAX_ALONE
    row = summarize(comparison.name, {name: each[comparison.warmup :] for name, each in speeds.items()})
    row["title"], row["unit"] = comparison.title, comparison.unit
    row["implementation"], row["peak_memory"] = implementation, memory
    if flop_rates:
        row["operations_per_image"] = flop_rates["operations_per_image"]
        row["operations_per_second_of_a_product"] = flop_rates["operations_per_second_of_a_product"]
        flops = row["ours"] * row["operations_per_image"]
        row["mfu"] = flops / row["operations_per_second_of_a_product"]
    return row


def _start_workers(
    comparison: Comparison,
    stack: contextlib.ExitStack,
    worker_class: Callable[..., Any],
    kernels: Path | None,
    *,
    with_baselines: bool,
) -> dict[str, Any]:
    """Starts a worker per implementation; they end with the stack."""
    options: dict[str, Any] = {}
    if comparison.on_gpu:
        options["environment"] = {"XLA_PYTHON_CLIENT_MEM_FRACTION": GPU_MEMORY_FRACTION}
    ours = worker_class(comparison.ours, None, keep_memory=True, kernels=kernels, **options)
    workers = {OURS: stack.enter_context(ours)}
    if kernels is not None:
        workers[IN_JAX] = stack.enter_context(worker_class(comparison.ours, None, keep_memory=True))
    if not with_baselines:
        return workers
    shared = ours.call("shared_data")
    allocators = {"": comparison.needs_torch is False}
    if comparison.needs_torch and not comparison.on_gpu:
        allocators[TUNED_ALLOCATOR] = True
    for suffix, keep_memory in allocators.items():
        for name, make in comparison.baselines.items():
            worker = worker_class(make, shared, keep_memory=keep_memory)
            workers[name + suffix] = stack.enter_context(worker)
    return workers


def _check_agreement(comparison: Comparison, workers: Mapping[str, Any]) -> None:
    """Raises CheckFailedError unless all outputs and training losses equal those of jaxnets."""
    ours = workers[OURS]
    outputs, tolerance = ours.call("outputs"), comparison.loss_tolerance
    losses, lr_fraction = (None, None) if tolerance is None else ours.call("losses")
    for name, worker in workers.items():
        if name == OURS:
            continue
        check_outputs_match(comparison.name, name, outputs, worker.call("outputs"))
        if losses is not None and tolerance is not None:
            theirs, _ = worker.call("losses", lr_fraction)
            check_outputs_match(f"{comparison.name}, its training step,", name, losses, theirs, tolerance)


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


def summarize(name: str, speeds: Speeds) -> BenchRow:
    """Returns the row of a comparison; `speeds` contains `OURS`."""
    ours, in_jax = speeds[OURS], speeds.get(IN_JAX)
    baselines = {other: each for other, each in speeds.items() if other not in (OURS, IN_JAX)}
    plain = _fastest({n: s for n, s in baselines.items() if not n.endswith(TUNED_ALLOCATOR)})
    tuned = _fastest({n: s for n, s in baselines.items() if n.endswith(TUNED_ALLOCATOR)})
    ratios = _ratios(ours, speeds.get(plain or ""))
    return {
        "name": name,
        "ours": statistics.median(ours),
        "theirs": statistics.median(speeds[plain]) if plain else None,
        "ratio": _median(ratios),
        "ratio_tuned": _median(_ratios(ours, speeds.get(tuned or ""))),
        "range": [min(ratios), max(ratios)] if ratios else None,
        "rounds": len(ours),
        "kernels": in_jax is not None,
        "ratio_in_jax": _median(_ratios(in_jax, speeds.get(plain or ""))),
        "ratio_tuned_in_jax": _median(_ratios(in_jax, speeds.get(tuned or ""))),
        "opponent": plain,
        "opponent_tuned": tuned,
        "images_per_second": {other: list(each) for other, each in speeds.items()},
    }


def row_without_baseline(name: str, speeds: list[float], batch_size: int) -> BenchRow:
    """Returns the row of a step that is compared with nothing; `speeds` are images per second."""
    return {
        "name": name,
        "unit": "images",
        "ours": statistics.median(speeds),
        "theirs": None,
        "ratio": None,
        "ratio_tuned": None,
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
