"""Turns, pairing and refusal, on sides that are no networks."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import measure
from benchmarks.measure import TUNED_ALLOCATOR, Row, check_same, measure_row, summary
from benchmarks.worker import PEAK_MEMORY
from jaxnets.errors import CheckFailedError


class Side:
    """Gives its speeds one after another."""

    def __init__(self, speeds: list[float], answer: float = 1.0, fall: float = 0.02):
        self._speeds, self._answer, self._fall = iter(speeds), answer, fall

    def share(self) -> str:
        return "weights"

    def answer(self) -> np.ndarray:
        return np.full(3, self._answer)

    def losses(self, share: float | None = None) -> tuple[np.ndarray, float]:
        share = 0.5 if share is None else share
        return np.array([3.0, 3.0 * (1 - self._fall * share)]), share

    def measure(self, seconds: float) -> float:
        assert seconds == 2.0
        return next(self._speeds)


@pytest.fixture
def turns() -> list[tuple[str, bool]]:
    return []


@pytest.fixture
def start(turns: list[tuple[str, bool]]) -> Iterator[Any]:
    """Instead of a process: the same calls in this one, noted in `turns`."""

    class Here:
        def __init__(self, make: Any, shared: Any, *, keep_memory: bool, kernels: Path | None = None):
            self._name, side = make(shared)
            self._name += " with kernels" if kernels else ""
            self._side, self._keep_memory = side[keep_memory], keep_memory

        def __enter__(self) -> "Here":
            return self

        def __exit__(self, *_: object) -> None: ...

        def call(self, method: str, *arguments: Any) -> Any:
            if method == "measure":
                turns.append((self._name, self._keep_memory))
            if method == PEAK_MEMORY:
                return 5_000_000
            return getattr(self._side, method)(*arguments)

    return Here


def make_row(*, answer: float = 1.0) -> Row:
    def ours(shared: Any) -> Any:
        assert shared is None
        return "ours", {True: Side([9999.0, 100.0, 220.0, 90.0])}

    def contiguous(shared: Any) -> Any:
        assert shared == "weights"
        plain, tuned = (
            Side([1.0, 50.0, 100.0, 60.0], answer),
            Side([1.0, 80.0, 110.0, 100.0], answer),
        )
        return "contiguous", {False: plain, True: tuned}

    def channels_last(shared: Any) -> Any:
        assert shared == "weights"
        plain, tuned = Side([1.0, 40.0, 80.0, 900.0], answer), Side([1.0] * 4, answer)
        return "channels_last", {False: plain, True: tuned}

    return Row("train/fake", "fake", ours, {"contiguous": contiguous, "channels_last": channels_last})


def test_sides_take_turns_and_ratios_are_of_one_round(start: Any, turns: list) -> None:
    entry = measure_row(make_row(), rounds=3, seconds=2.0, pause=0.0, start=start)
    one_round = [
        ("ours", True),
        ("contiguous", False),
        ("channels_last", False),
        ("contiguous", True),
        ("channels_last", True),
    ]
    # One to warm up, then three; the next round begins with the next side.
    assert turns == [side for n in range(4) for side in one_round[n:] + one_round[:n]]
    assert entry["title"] == "fake"
    assert entry["peak_memory"] == dict.fromkeys(entry["images_per_second"], 5_000_000)
    assert entry["name"] == "train/fake"
    assert entry["opponent"] == "channels_last"  # by its median, 80 against 60
    assert (entry["ours"], entry["theirs"], entry["rounds"]) == (100.0, 80.0, 3)
    ratios = [100 / 40, 220 / 80, 90 / 900]
    assert entry["ratio"] == pytest.approx(np.median(ratios))
    assert entry["range"] == pytest.approx([min(ratios), max(ratios)])
    assert entry["opponent_tuned"] == "contiguous" + TUNED_ALLOCATOR
    assert entry["ratio_tuned"] == pytest.approx(np.median([100 / 80, 220 / 110, 90 / 100]))


def test_the_median_of_ratios_is_not_the_ratio_of_medians() -> None:
    entry = summary("x", {"ours": [10.0, 20.0, 30.0], "theirs": [10.0, 5.0, 60.0]})
    assert entry["ratio"] == 1.0
    assert entry["ours"] / entry["theirs"] == 2.0


def test_without_pytorch_ours_stands_alone(start: Any, turns: list) -> None:
    entry = measure_row(make_row(), rounds=3, seconds=2.0, pause=0.0, with_theirs=False, start=start)
    assert turns == [("ours", True)] * 4
    assert entry["ours"] == 100.0
    for name in ("theirs", "ratio", "ratio_tuned", "range", "opponent", "opponent_tuned"):
        assert entry[name] is None


def test_with_kernels_the_forms_in_jax_are_measured_beside(start: Any, turns: list) -> None:
    def ours(shared: Any) -> Any:
        return "ours", {True: Side([1.0, 30.0, 20.0])}

    def theirs(shared: Any) -> Any:
        return "theirs", {kept: Side([1.0, 10.0, 10.0]) for kept in (False, True)}

    row = Row("train/fake", "fake", ours, {"form": theirs}, has_kernels=True)
    options = {"rounds": 2, "seconds": 2.0, "pause": 0.0, "start": start}
    entry = measure_row(row, kernels=Path("kernels.so"), **options)
    assert {name for name, _ in turns} == {"ours with kernels", "ours", "theirs"}
    assert entry["kernels"]
    assert entry["ratio"] == entry["ratio_in_jax"] == entry["ratio_tuned_in_jax"] == 2.5
    turns.clear()
    plain = measure_row(dataclasses.replace(row, has_kernels=False), kernels=Path("kernels.so"), **options)
    assert {name for name, _ in turns} == {"ours", "theirs"}
    assert not plain["kernels"]
    assert plain["ratio_in_jax"] is None


def test_what_begins_anew_every_turn_is_not_warmed_up(start: Any, turns: list) -> None:
    row = dataclasses.replace(make_row(), untimed=0)
    entry = measure_row(row, rounds=2, seconds=2.0, pause=0.0, start=start)
    assert entry["rounds"] == 2
    assert entry["images_per_second"]["ours"] == [9999.0, 100.0]
    assert len(turns) == 2 * 5


def test_our_own_opponent_has_our_setting_and_no_tuned_ratio(start: Any, turns: list) -> None:
    ours = lambda shared: ("cache", {True: Side([1.0, 30.0, 30.0])})  # noqa: E731
    theirs = lambda shared: ("jpeg", {True: Side([1.0, 10.0, 5.0])})  # noqa: E731
    row = Row("pipeline/fake", "fake", ours, {"jpeg": theirs}, needs_torch=False)
    entry = measure_row(row, rounds=2, seconds=2.0, pause=0.0, start=start)
    one_round = [("cache", True), ("jpeg", True)]
    assert turns == [*one_round, *one_round[::-1], *one_round]
    assert entry["ratio"] == 4.5
    assert entry["ratio_tuned"] is None


@pytest.mark.parametrize("answer", [1.001, np.nan, -1.0])
def test_a_row_is_refused_where_answers_differ(answer: float, start: Any, turns: list) -> None:
    with pytest.raises(CheckFailedError, match="train/fake is not measured"):
        measure_row(make_row(answer=answer), rounds=3, seconds=2.0, pause=0.0, start=start)
    assert not turns


@pytest.mark.parametrize(
    ("fall", "tolerance", "refused"),
    [(0.02, 1e-4, False), (0.03, 1e-4, True), (0.03, 1e-2, False), (np.nan, 1e-2, True)],
)
def test_a_training_row_is_refused_where_a_step_does_something_else(
    fall: float, tolerance: float, refused: bool, start: Any, turns: list
) -> None:
    ours = lambda shared: ("ours", {True: Side([1.0, 30.0])})  # noqa: E731
    theirs = lambda shared: ("x", {k: Side([1.0, 10.0], fall=fall) for k in (False, True)})  # noqa: E731
    row = Row("train/fake", "fake", ours, {"form": theirs}, loss_tolerance=tolerance)
    options = {"rounds": 1, "seconds": 2.0, "pause": 0.0, "start": start}
    if not refused:
        assert measure_row(row, **options)["ratio"] == 3.0
        return
    with pytest.raises(CheckFailedError, match="train/fake, its training step, is not measured"):
        measure_row(row, **options)
    assert not turns
    other = dataclasses.replace(row, loss_tolerance=None)  # no step is taken: answers alone count
    assert measure_row(other, **options)["ratio"] == 3.0


def test_answers_are_held_to_the_tolerance() -> None:
    theirs = np.array([0.0, -200.0])
    check_same("row", "form", theirs + 0.5 * measure.TOLERANCE * 200, theirs)
    with pytest.raises(CheckFailedError):
        check_same("row", "form", theirs + 2 * measure.TOLERANCE * 200, theirs)
    with pytest.raises(CheckFailedError, match="we give"):
        check_same("row", "form", np.zeros(3), theirs)
