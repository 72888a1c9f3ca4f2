"""Rounds, ratios of the same round, and failed checks, with fake workloads."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import measure
from benchmarks.baselines import TUNED_ALLOCATOR, Baseline, with_both_allocators
from benchmarks.measure import Comparison, check_outputs_match, measure_row, summarize
from benchmarks.worker import PEAK_MEMORY
from jaxnets.errors import CheckFailedError


class FakeWorkload:
    """Recalls the given speeds one after another."""

    def __init__(
        self, speeds: list[float], output: float = 1.0, fall: float = 0.02, measured_output: float = 1.0
    ):
        self._speeds, self._output, self._fall = iter(speeds), output, fall
        self._measured_output = measured_output

    def shared_data(self) -> str:
        return "weights"

    def outputs(self) -> np.ndarray:
        return np.full(3, self._output)

    def losses(self, lr_fraction: float | None = None) -> tuple[np.ndarray, float]:
        lr_fraction = 0.5 if lr_fraction is None else lr_fraction
        return np.array([3.0, 3.0 * (1 - self._fall * lr_fraction)]), lr_fraction

    def measured_outputs(self) -> np.ndarray:
        return np.full(3, self._measured_output)

    def measure(self, seconds: float) -> float:
        assert seconds == 2.0
        return next(self._speeds)


@pytest.fixture
def calls() -> list[tuple[str, bool]]:
    return []


@pytest.fixture
def fake_worker(calls: list[tuple[str, bool]]) -> Iterator[Any]:
    """A worker in this process, which records measurements in `calls`."""

    class FakeWorker:
        def __init__(self, make: Any, shared: Any, *, keep_memory: bool, kernels: Path | None = None):
            self._name, workloads = make(shared)
            self._name += " with kernels" if kernels else ""
            self._workload, self._keep_memory = workloads[keep_memory], keep_memory
            self._peak = 5_000_000  # more in the checks

        def __enter__(self) -> "FakeWorker":
            return self

        def __exit__(self, *_: object) -> None: ...

        def close(self) -> None:
            calls.append((f"end of {self._name}", self._keep_memory))

        def call(self, method: str, *arguments: Any) -> Any:
            if method == "measure":
                calls.append((self._name, self._keep_memory))
            if method == PEAK_MEMORY:
                return self._peak
            if method in ("outputs", "losses"):
                self._peak = 9_000_000
            return getattr(self._workload, method)(*arguments)

    return FakeWorker


def fake_comparison(*, output: float = 1.0) -> Comparison:
    def ours(shared: Any) -> Any:
        assert shared is None
        return "ours", {True: FakeWorkload([9999.0, 100.0, 220.0, 90.0])}

    def contiguous(shared: Any) -> Any:
        assert shared == "weights"
        plain = FakeWorkload([*[9.0] * 3, 1.0, 50.0, 100.0, 60.0], output)
        tuned = FakeWorkload([*[8.0] * 3, 1.0, 80.0, 110.0, 100.0], output)
        return "contiguous", {False: plain, True: tuned}

    def channels_last(shared: Any) -> Any:
        assert shared == "weights"
        plain = FakeWorkload([99.0, 10.0, 10.0, 1.0, 40.0, 80.0, 900.0], output)
        tuned = FakeWorkload([99.0, 7.0, 7.0], output)
        return "channels_last", {False: plain, True: tuned}

    eager = {"PyTorch, contiguous": contiguous, "PyTorch, channels_last": channels_last}
    return Comparison("train/fake", "fake", ours, with_both_allocators(eager))


def check_rounds(calls: list, one_round: list, *, rounds: int) -> None:
    """Each round has every call once; their order changes."""
    found = [calls[first : first + len(one_round)] for first in range(0, len(calls), len(one_round))]
    assert [sorted(each) for each in found] == [sorted(one_round)] * rounds
    assert len(set(map(tuple, found))) > 1


def test_rounds_alternate_and_ratios_are_of_one_round(fake_worker: Any, calls: list) -> None:
    entry = measure_row(fake_comparison(), rounds=3, seconds=2.0, cooldown=0.0, worker_class=fake_worker)
    for keep_memory, slower in ((False, "contiguous"), (True, "channels_last")):
        forms = [("contiguous", keep_memory), ("channels_last", keep_memory)]
        trial, calls[:7] = calls[:7], []
        check_rounds(trial[:-1], forms, rounds=3)
        assert trial[-1] == (f"end of {slower}", keep_memory)
    ours, *others = [("ours", True), ("channels_last", False), ("contiguous", True)]
    check_rounds(calls, [ours, *others], rounds=4)  # a warm-up round and three more
    assert {before for before, call in itertools.pairwise(calls) if call == ours} >= set(others)
    assert entry["title"] == "fake"
    assert entry["peak_memory"] == dict.fromkeys(entry["images_per_second"], 9_000_000)
    assert entry["name"] == "train/fake"
    assert entry["baseline"] == "PyTorch, contiguous" + TUNED_ALLOCATOR  # by its median of 100
    assert (entry["ours"], entry["theirs"], entry["rounds"]) == (100.0, 100.0, 3)
    ratios = [100 / 80, 220 / 110, 90 / 100]
    assert entry["ratio"] == entry["ratio_eager_tuned"] == pytest.approx(np.median(ratios))
    assert entry["range"] == pytest.approx([min(ratios), max(ratios)])
    assert entry["baseline_eager"] == "PyTorch, channels_last"
    assert entry["ratio_eager"] == pytest.approx(np.median([100 / 40, 220 / 80, 90 / 900]))
    assert entry["ratio_memory"] == 1.0


def test_the_memory_of_training_is_that_of_processes_that_only_train(fake_worker: Any) -> None:
    class Training(FakeWorkload):
        def losses(self, lr_fraction: float | None = None) -> tuple[np.ndarray, float]:
            return np.array([1.0, 0.9]), 1.0

    def make(name: str) -> Any:
        return lambda shared: (name, {keeps: Training([1.0] * 2) for keeps in (False, True)})

    baselines = {"x": Baseline(make("theirs"), False)}
    row = Comparison("train/fake", "fake", make("ours"), baselines, loss_tolerance=0.01)
    options = {"rounds": 1, "seconds": 2.0, "cooldown": 0.0, "worker_class": fake_worker}
    assert measure_row(row, **options)["peak_memory"] == {"ours": 5_000_000, "x": 5_000_000}
    row = dataclasses.replace(row, loss_tolerance=None)
    assert measure_row(row, **options)["peak_memory"] == {"ours": 9_000_000, "x": 9_000_000}


def test_the_median_of_ratios_is_not_the_ratio_of_medians() -> None:
    entry = summarize("x", {"ours": [10.0, 20.0, 30.0], "theirs": [10.0, 5.0, 60.0]})
    assert entry["ratio"] == 1.0
    assert entry["ours"] / entry["theirs"] == 2.0


def test_without_pytorch_only_jaxnets_is_measured(fake_worker: Any, calls: list) -> None:
    entry = measure_row(
        fake_comparison(), rounds=3, seconds=2.0, cooldown=0.0, with_baselines=False, worker_class=fake_worker
    )
    assert calls == [("ours", True)] * 4
    assert entry["ours"] == 100.0
    for name in ("theirs", "ratio", "ratio_eager", "ratio_eager_tuned", "range", "baseline", "ratio_memory"):
        assert entry[name] is None


def test_with_kernels_jax_without_them_is_measured_too(fake_worker: Any, calls: list) -> None:
    def ours(shared: Any) -> Any:
        return "ours", {True: FakeWorkload([1.0, 30.0, 20.0])}

    def theirs(shared: Any) -> Any:
        return "theirs", {keeps_memory: FakeWorkload([1.0, 10.0, 10.0]) for keeps_memory in (False, True)}

    row = Comparison("train/fake", "fake", ours, with_both_allocators({"PyTorch": theirs}), has_kernels=True)
    options = {"rounds": 2, "seconds": 2.0, "cooldown": 0.0, "worker_class": fake_worker}
    entry = measure_row(row, kernels=Path("kernels.so"), **options)
    assert {name for name, _ in calls} == {"ours with kernels", "ours", "theirs"}
    assert entry["kernels"]
    assert entry["ratio"] == entry["ratio_in_jax"] == 2.5
    assert entry["ratio_eager_in_jax"] == entry["ratio_eager_tuned_in_jax"] == 2.5
    calls.clear()
    plain = measure_row(dataclasses.replace(row, has_kernels=False), kernels=Path("kernels.so"), **options)
    assert {name for name, _ in calls} == {"ours", "theirs"}
    assert not plain["kernels"]
    assert plain["ratio_in_jax"] is None


def test_a_comparison_without_warmup(fake_worker: Any, calls: list) -> None:
    row = dataclasses.replace(fake_comparison(), warmup=0)
    entry = measure_row(row, rounds=2, seconds=2.0, cooldown=0.0, worker_class=fake_worker)
    assert entry["rounds"] == 2
    assert entry["images_per_second"]["ours"] == [9999.0, 100.0]
    assert len([name for name, _ in calls if not name.startswith("end")]) == 2 * 3 * 2 + 2 * 3


def test_a_jaxnets_baseline_uses_our_allocator_setting_and_has_no_ratio_to_pytorch(
    fake_worker: Any, calls: list
) -> None:
    ours = lambda shared: ("cache", {True: FakeWorkload([1.0, 30.0, 30.0])})  # noqa: E731
    theirs = lambda shared: ("jpeg", {True: FakeWorkload([1.0, 10.0, 5.0])})  # noqa: E731
    row = Comparison("pipeline/fake", "fake", ours, {"jpeg": Baseline(theirs, True)}, needs_torch=False)
    entry = measure_row(row, rounds=2, seconds=2.0, cooldown=0.0, worker_class=fake_worker)
    check_rounds(calls, [("cache", True), ("jpeg", True)], rounds=3)
    assert entry["ratio"] == 4.5
    assert entry["ratio_eager"] is entry["ratio_eager_tuned"] is None
    assert entry["ratio_memory"] == 1.0


@pytest.mark.parametrize("output", [1.001, np.nan, -1.0])
def test_different_outputs_raise(output: float, fake_worker: Any, calls: list) -> None:
    with pytest.raises(CheckFailedError, match="train/fake is not measured"):
        measure_row(
            fake_comparison(output=output), rounds=3, seconds=2.0, cooldown=0.0, worker_class=fake_worker
        )
    assert not calls


@pytest.mark.parametrize(
    ("fall", "tolerance", "raises"),
    [(0.02, 1e-4, False), (0.03, 1e-4, True), (0.03, 1e-2, False), (np.nan, 1e-2, True)],
)
def test_different_training_losses_raise(
    fall: float, tolerance: float, raises: bool, fake_worker: Any, calls: list
) -> None:
    ours = lambda shared: ("ours", {True: FakeWorkload([1.0, 30.0])})  # noqa: E731
    theirs = lambda shared: ("x", {k: FakeWorkload([1.0, 10.0], fall=fall) for k in (False, True)})  # noqa: E731
    row = Comparison(
        "train/fake", "fake", ours, with_both_allocators({"form": theirs}), loss_tolerance=tolerance
    )
    options = {"rounds": 1, "seconds": 2.0, "cooldown": 0.0, "worker_class": fake_worker}
    if not raises:
        assert measure_row(row, **options)["ratio"] == 3.0
        return
    with pytest.raises(CheckFailedError, match="train/fake, its training step, is not measured"):
        measure_row(row, **options)
    assert not calls
    other = dataclasses.replace(row, loss_tolerance=None)  # only outputs are compared
    assert measure_row(other, **options)["ratio"] == 3.0


@pytest.mark.parametrize(
    ("ours_measured", "theirs_measured", "raises"),
    [(1.01, 1.02, None), (1.1, 1.1, "the network"), (1.0, 1.1, "OpenVINO"), (1.0, np.nan, "OpenVINO")],
)
def test_different_outputs_of_the_measured_programs_raise(
    ours_measured: float, theirs_measured: float, raises: str | None, fake_worker: Any, calls: list
) -> None:
    def make(name: str, measured_output: float) -> Any:
        workloads = {k: FakeWorkload([1.0, 10.0], measured_output=measured_output) for k in (False, True)}
        return lambda shared: (name, workloads)

    found = {"OpenVINO": Baseline(make("x", theirs_measured), False)}
    row = Comparison("inference/fake", "fake", make("ours", ours_measured), found, tolerance=0.03)
    options = {"rounds": 1, "seconds": 2.0, "cooldown": 0.0, "worker_class": fake_worker}
    if raises is None:
        assert measure_row(row, **options)["ratio"] == 1.0
        return
    with pytest.raises(CheckFailedError, match=f"its program, is not measured: our outputs and.*{raises}"):
        measure_row(row, **options)
    assert not calls


def test_bfloat16_is_compared_with_our_float32_of_the_same_round(fake_worker: Any, calls: list) -> None:
    def make(name: str, speeds: list[float]) -> Any:
        return lambda shared: (name, {k: FakeWorkload(speeds) for k in (False, True)})

    row = Comparison(
        "train/fake/bfloat16",
        "fake",
        make("ours", [1.0, 30.0, 60.0, 10.0]),
        with_both_allocators({"PyTorch": make("theirs", [1.0, 10.0, 10.0, 10.0])}),
        has_kernels=True,
        in_float32=make("float32", [1.0, 15.0, 20.0, 10.0]),
        dtype="bfloat16",
    )
    options = {"rounds": 3, "seconds": 2.0, "cooldown": 0.0, "worker_class": fake_worker}
    entry = measure_row(row, kernels=Path("kernels.so"), **options)
    assert {name for name, _ in calls} == {"ours with kernels", "float32 with kernels", "theirs"}
    assert entry["ratio_float32"] == 2.0
    assert entry["dtype"] == "bfloat16"
    assert entry["ratio"] == entry["ratio_eager"] == 3.0
    assert entry["ratio_in_jax"] is None


def test_outputs_match_within_the_tolerance() -> None:
    theirs = np.array([0.0, -200.0])
    check_outputs_match("row", "form", theirs + 0.5 * measure.TOLERANCE * 200, theirs)
    with pytest.raises(CheckFailedError):
        check_outputs_match("row", "form", theirs + 2 * measure.TOLERANCE * 200, theirs)
    with pytest.raises(CheckFailedError, match="have shape"):
        check_outputs_match("row", "form", np.zeros(3), theirs)
