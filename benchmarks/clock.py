"""Measures the rate of a repeated step."""

import os
import time
from collections.abc import Callable

WARMUP_BATCHES = 2 * (os.cpu_count() or 1) + 4
"""More than the prefetch queues of jaxnets or a DataLoader hold."""
MIN_TRIAL_FRACTION = 0.25
"""Fraction of the requested time that a trial must last for its rate to be used."""


class Clock:
    """Repeats a step for about a given time.

    Args:
      step: Runs or dispatches one step.
      finish: Waits for dispatched steps.
      warmup: Steps before each measurement, which empty the queues that were filled while idle.
      now: Returns the time in seconds.
    """

    def __init__(
        self,
        step: Callable[[], object],
        finish: Callable[[], object] = lambda: None,
        *,
        warmup: int = 0,
        now: Callable[[], float] = time.perf_counter,
    ):
        self._step, self._finish, self._warmup, self._now = step, finish, warmup, now
        self._rate: float | None = None

    def rate(self, seconds: float) -> float:
        """Returns steps per second, measured for about `seconds`."""
        rate = self._trial(seconds) if self._rate is None else self._rate
        self._rate = self.time(max(1, round(seconds * rate)))
        return self._rate

    def _trial(self, seconds: float) -> float:
        self.time(1)  # the first call compiles
        count = 1
        while count < MIN_TRIAL_FRACTION * seconds * (rate := self.time(count)):
            count *= 2
        return rate

    def time(self, count: int) -> float:
        """Returns steps per second over `count` steps."""
        for _ in range(self._warmup):
            self._step()
        self._finish()
        start = self._now()
        for _ in range(count):
            self._step()
        self._finish()
        return count / (self._now() - start)
