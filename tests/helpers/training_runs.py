"""Interrupts training runs in tests and reads their metrics."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from jaxnets.training.callbacks import Callback


def send_signal(run: Any, number: int) -> None:
    """Sends this process a signal, and waits until the run has it: a thread may receive it."""
    os.kill(os.getpid(), number)
    limit = time.monotonic() + 10
    while run.interrupted is None and time.monotonic() < limit:
        time.sleep(0.005)


class SignalAfterStep(Callback):
    """Sends this process a signal after a training step."""

    def __init__(self, step: int, number: int = signal.SIGTERM, *, per_step: bool = True):
        self._step, self._number, self.per_step = step, number, per_step

    def on_step_end(self, run: Any, metrics: Any) -> None:
        if run.step == self._step:
            send_signal(run, self._number)


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Returns the records of metrics.jsonl without timings."""
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    timings = ("images_per_second", "data_wait")
    return [{name: v for name, v in record.items() if name not in timings} for record in records]
