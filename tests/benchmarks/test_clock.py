"""Rates, with a fake clock that only steps advance."""

import pytest

from benchmarks.clock import Clock


class Work:
    """A step of constant duration; the first takes longer, buffered ones no time."""

    def __init__(self, seconds: float, first: float = 0.0, buffered: int = 0):
        self.time, self.steps, self.waited = 0.0, 0, 0
        self._seconds, self._first, self._buffered = seconds, first, buffered

    def step(self) -> None:
        self.steps += 1
        if self.steps > self._buffered:
            self.time += self._seconds + (self._first if self.steps == 1 else 0.0)

    def finish(self) -> None:
        self.waited += 1

    def now(self) -> float:
        return self.time + 1e-9 * self.steps  # no two calls see the same time


def test_the_first_step_does_not_count() -> None:
    work = Work(0.01, first=100.0)
    clock = Clock(work.step, work.finish, now=work.now)
    assert clock.rate(2.0) == pytest.approx(100.0, rel=1e-3)


def test_a_measurement_takes_the_requested_time() -> None:
    work = Work(0.01)
    clock = Clock(work.step, work.finish, now=work.now)
    clock.rate(2.0)
    before = work.time
    clock.rate(2.0)
    assert work.time - before == pytest.approx(2.0, rel=0.01)
    assert work.waited >= 4


def test_prefetched_batches_do_not_distort_the_trial() -> None:
    work = Work(0.01, buffered=6)
    clock = Clock(work.step, now=work.now)
    clock.rate(1.0)
    assert work.steps < 500


def test_warmup_steps_precede_every_measurement() -> None:
    work = Work(0.01)
    clock = Clock(work.step, warmup=8, now=work.now)
    clock.rate(1.0)
    before = work.steps
    assert clock.rate(1.0) == pytest.approx(100.0, rel=1e-3)
    assert work.steps - before == 108


def test_a_step_longer_than_the_requested_time_is_run_once() -> None:
    work = Work(10.0)
    clock = Clock(work.step, now=work.now)
    clock.rate(1.0)
    before = work.steps
    assert clock.rate(1.0) == pytest.approx(0.1)
    assert work.steps - before == 1
