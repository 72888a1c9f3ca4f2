"""How fast a step repeats."""

import os
import time
from collections.abc import Callable

UNTIMED_BATCHES = 2 * (os.cpu_count() or 1) + 4
"""More than the readers of a pipeline hold ready, on either side."""
MIN_TRIAL_FRACTION = 0.25
"""The share of the wanted time that a trial must last before its rate says how many steps to take."""


class Clock:
    """Repeats a step for about a given time; `finish` waits for steps that are still under way.

    `untimed` steps go before each measurement: they use up what readers had prepared while idle.
    """

    def __init__(
        self,
        step: Callable[[], object],
        finish: Callable[[], object] = lambda: None,
        *,
        untimed: int = 0,
        now: Callable[[], float] = time.perf_counter,
    ):
        self._step, self._finalize_run, self._untimed, self._now = step, finish, untimed, now
        self._rate: float | None = None

    def rate(self, seconds: float) -> float:
        """Steps per second, over as many steps as the last rate says fit into `seconds`."""
        rate = self._trial(seconds) if self._rate is None else self._rate
        self._rate = self.time(max(1, round(seconds * rate)))
        return self._rate

    def _trial(self, seconds: float) -> float:
        self.time(1)  # the first call, which compiles, is not timed
        count = 1
        while count < MIN_TRIAL_FRACTION * seconds * (rate := self.time(count)):
            count *= 2
        return rate

    def time(self, count: int) -> float:
        """Steps per second, over `count` of them."""
        for _ in range(self._untimed):
            self._step()
        self._finalize_run()
        start = self._now()
        for _ in range(count):
            self._step()
        self._finalize_run()
        return count / (self._now() - start)
