"""One row: both sides give the same answer, then take turns; ratios are of the same round."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import PEAK_MEMORY, Make, OurSide, Worker
from jaxnets.errors import CheckFailedError
from studies.compare import IN_JAX_ALONE

TOLERANCE = 1e-4
"""The largest difference of answers, in units of the largest value."""
LOSS_TOLERANCE = 1e-3
"""The same of a training step's losses in single precision: Inception v3's at 128 px differ by 2e-4."""
GPU_MEMORY = "0.45"
"""Of the card's, that JAX takes at its start: PyTorch's process is to have as much."""
COOLDOWN_SECONDS = 0.5
"""Seconds between two turns, in which the readers of the last one fill their buffers and come to rest."""
OURS, IN_JAX = "ours", "ours, in JAX"
"""The second is measured beside the first where that uses the C++ kernels."""
WITH_KERNELS = "C++ kernels"
"""How ours computes where it does not compute in JAX alone."""
TUNED_ALLOCATOR = ", our allocator setting"
"""Follows the name of an opponent that keeps its freed memory, as ours does."""

Entry = dict[str, Any]
"""A row of a bench file."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What is measured against what.

    `theirs` are the forms of the opponent by name, of which the fastest counts. PyTorch's are measured
    as installed, and again with our allocator setting; another one of ours (`needs_torch` False)
    always has it. `title` describes the row; `unit` is what is counted per second.
    `has_kernels` where the C++ kernels make a difference to ours, which is then measured with and without;
    `implementation` names the one that a row measured once uses. `on_gpu` marks rows for which neither
    the kernels nor the allocator matter; they report the fraction of the device's peak. The first `untimed`
    turns do not count. Training steps have a `loss_tolerance`, to which their losses before and after a step
    must agree.
    """

    name: str
    title: str
    ours: Callable[[None], OurSide]
    theirs: Mapping[str, Make]
    needs_torch: bool = True
    has_kernels: bool = False
    implementation: str | None = None
    unit: str = "images"
    on_gpu: bool = False
    untimed: int = 1
    loss_tolerance: float | None = None


def measure_row(
    row: Row,
    *,
    rounds: int,
    seconds: float,
    with_theirs: bool = True,
    kernels: Path | None = None,
    pause: float = COOLDOWN_SECONDS,
    start: Callable[..., Any] = Worker,
) -> Entry:
    """Measures a row in turns of about `seconds`; without `theirs` our side alone.

    With `kernels`, a built library, ours uses it, and where that matters is measured without it too.
    Raises CheckFailedError where the sides do not give the same answer.
    """
    with contextlib.ExitStack() as stack:
        kernels = kernels if row.has_kernels else None
        share = {"environment": {"XLA_PYTHON_CLIENT_MEM_FRACTION": GPU_MEMORY}} if row.on_gpu else {}
        ours = stack.enter_context(start(row.ours, None, keep_memory=True, kernels=kernels, **share))
        sides, shared = {OURS: ours}, ours.call("share") if with_theirs else None
        agree = _agreement(row, ours)
        if kernels is not None:
            sides[IN_JAX] = stack.enter_context(start(row.ours, None, keep_memory=True))
            agree(IN_JAX, sides[IN_JAX])
        if with_theirs:
            for name, make, keep_memory in _opponents(row):
                sides[name] = stack.enter_context(start(make, shared, keep_memory=keep_memory))
                agree(name, sides[name])
        speeds: dict[str, list[float]] = {name: [] for name in sides}
        names = list(sides)
        for turn in range(row.untimed + rounds):
            first = turn % len(names)  # who goes first changes, lest one always follow the same other
            for name in names[first:] + names[:first]:
                time.sleep(pause)
                speeds[name].append(sides[name].call("measure", seconds))
        memory = {name: side.call(PEAK_MEMORY) for name, side in sides.items()}
        particulars = ours.call("particulars") if row.on_gpu else {}
    after_warm_up = {name: values[row.untimed :] for name, values in speeds.items()}
    implementation = row.implementation
    if row.has_kernels:
        implementation = WITH_KERNELS if kernels is not None else IN_JAX_ALONE
    message = {
        "title": row.title,
        "unit": row.unit,
        "implementation": implementation,
        "peak_memory": memory,
    }
    found: Entry = {**summary(row.name, after_warm_up), **message}
    return {**found, **_share_of_speed(found["ours"], particulars)}


def _agreement(row: Row, ours: Any) -> Callable[[str, Any], None]:
    """A check that a side, given its name, answers as ours does and, where it trains, has our losses."""
    answer, tolerance = ours.call("answer"), row.loss_tolerance
    losses, share = (None, None) if tolerance is None else ours.call("losses")

    def agree(name: str, side: Any) -> None:
        check_same(row.name, name, answer, side.call("answer"))
        if losses is not None and tolerance is not None:
            theirs, _ = side.call("losses", share)
            check_same(f"{row.name}, its training step,", name, losses, theirs, tolerance)

    return agree


def _share_of_speed(images_per_second: float, particulars: Mapping[str, float]) -> Entry:
    """What of the speed of a plain product is reached (model FLOP utilisation), where it was asked for."""
    if not particulars:
        return {}
    done = images_per_second * particulars["operations_per_image"]
    return {**particulars, "mfu": done / particulars["operations_per_second_of_a_product"]}


def check_same(
    row: str, opponent: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float = TOLERANCE
) -> None:
    """Raises CheckFailedError unless two answers agree to `tolerance` of the largest value."""
    if ours.shape != theirs.shape:
        raise CheckFailedError(f"{row} is not measured: we give {ours.shape}, {opponent} {theirs.shape}")
    difference = float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
    if not difference <= tolerance:
        raise CheckFailedError(
            f"{row} is not measured: our answer and that of {opponent} "
            f"differ by {difference:.1e} of the largest value, {tolerance:g} is allowed"
        )


def summary(name: str, speeds: Mapping[str, list[float]]) -> Entry:
    """A bench file's row from images per second by side and round, `ours` among them."""
    ours, in_jax = speeds[OURS], speeds.get(IN_JAX)
    others = {side: values for side, values in speeds.items() if side not in (OURS, IN_JAX)}
    plain = _best({n: s for n, s in others.items() if not n.endswith(TUNED_ALLOCATOR)})
    tuned = _best({n: s for n, s in others.items() if n.endswith(TUNED_ALLOCATOR)})
    ratios = _ratios(ours, speeds[plain]) if plain else None

    def median_ratio(mine: list[float] | None, opponent: str | None) -> float | None:
        if mine is None or opponent is None:
            return None
        return statistics.median(_ratios(mine, speeds[opponent]))

    return {
        "name": name,
        "ours": statistics.median(ours),
        "theirs": statistics.median(speeds[plain]) if plain else None,
        "ratio": median_ratio(ours, plain),
        "ratio_tuned": median_ratio(ours, tuned),
        "range": [min(ratios), max(ratios)] if ratios else None,
        "rounds": len(ours),
        "kernels": in_jax is not None,
        "ratio_in_jax": median_ratio(in_jax, plain),
        "ratio_tuned_in_jax": median_ratio(in_jax, tuned),
        "opponent": plain,
        "opponent_tuned": tuned,
        "images_per_second": {side: list(values) for side, values in speeds.items()},
    }


def single_side_row(speeds: list[float], batch_size: int) -> Entry:
    """What a row has of a step that is measured alone, from images per second by round."""
    return {
        "unit": "images",
        "ours": statistics.median(speeds),
        "theirs": None,
        "ratio": None,
        "ratio_tuned": None,
        "range": None,
        "rounds": len(speeds),
        "seconds_a_step": statistics.median([batch_size / speed for speed in speeds]),
        "images_per_second": {"ours": speeds},
    }


def _opponents(row: Row) -> list[tuple[str, Make, bool]]:
    """(name, how to make it, whether it keeps freed memory) of every form that is measured."""
    if row.on_gpu:
        return [(name, make, False) for name, make in row.theirs.items()]
    if not row.needs_torch:
        return [(name, make, True) for name, make in row.theirs.items()]
    return [
        (name + suffix, make, keep_memory)
        for suffix, keep_memory in (("", False), (TUNED_ALLOCATOR, True))
        for name, make in row.theirs.items()
    ]


def _best(speeds: Mapping[str, list[float]]) -> str | None:
    return max(speeds, key=lambda name: statistics.median(speeds[name])) if speeds else None


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]
