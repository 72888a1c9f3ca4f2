"""Hooks that write what was measured: metrics.jsonl and TensorBoard's event files."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import IO, Any

import jax
import numpy as np
from flax import traverse_util

from jaxnets.errors import MachineError
from jaxnets.training.callbacks.base import Callback
from jaxnets.training.callbacks.event_file import EventFile
from jaxnets.training.run import LogRecord, Run
from jaxnets.training.step import Metrics

METRICS, TENSORBOARD = "metrics.jsonl", "tensorboard"
SPLITS = ("train", "validation", "test")


def read_lines(data: bytes) -> list[LogRecord]:
    """The lines of a metrics.jsonl that can be used: a run may be writing the last one, or have been cut."""
    return [line for text in data.split(b"\n") if (line := _line(text)) is not None]


def _line(text: bytes) -> LogRecord | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    values = line.get("values")
    numbers = (line.get("step"), line.get("epoch"), line.get("images_per_second", 0.0))
    if not isinstance(values, dict) or line.get("split") not in SPLITS:
        return None
    return line if all(_is_number(each) for each in (*numbers, *values.values())) else None


def _is_number(value: Any) -> bool:
    """Whether arithmetic can be done with it: an integer may be too large."""
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


class MetricsLog(Callback):
    """metrics.jsonl: a JSON line an interval. A resumed run cuts what was written after its checkpoint."""

    def __init__(self) -> None:
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def start(self, run: Run) -> None:
        path = run.workdir / METRICS
        path.touch()
        if path.stat().st_size < self._bytes:  # lines are lost, maybe the end of one
            self._bytes = path.read_bytes().rfind(b"\n") + 1
        os.truncate(path, self._bytes)
        self._file = path.open("ab")

    def log(self, run: Run, line: LogRecord) -> None:
        if self._file is not None:
            self._file.write((json.dumps(line) + "\n").encode())
            self._file.flush()
            self._bytes = self._file.tell()

    def end(self, run: Run) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def state(self) -> dict[str, Any]:
        return {"bytes": self._bytes}

    def restore(self, state: dict[str, Any]) -> None:
        self._bytes = state["bytes"]


class TensorBoard(Callback):
    """Scalars of every line and, every so many steps, histograms of the weights, under tensorboard/.

    What was logged is in the file before the next checkpoint is written: a killed run loses none of it.
    """

    per_step = False

    def __init__(self) -> None:
        self._events: EventFile | None = None

    def start(self, run: Run) -> None:
        with self._writing(run):
            self._events = EventFile(run.workdir / TENSORBOARD, first_step=run.step + 1)

    def log(self, run: Run, line: LogRecord) -> None:
        if self._events is None:
            return
        values = {f"{line['split']}/{name}": value for name, value in line["values"].items()}
        if "images_per_second" in line:
            values["train/images_per_second"] = line["images_per_second"]
        with self._writing(run):
            self._events.scalars(line["step"], values)

    def step(self, run: Run, metrics: Metrics) -> None:
        every = run.plan.histograms_every
        if self._events is None or not every or run.step % every:
            return
        weights = traverse_util.flatten_dict(jax.device_get(run.state.params), sep="/")
        with self._writing(run):
            for name, values in weights.items():
                self._events.histogram(run.step, f"weights/{name}", np.asarray(values))

    def end(self, run: Run) -> None:
        if self._events is not None:
            with contextlib.suppress(OSError):  # after a full disk, which has been reported
                self._events.close()
        self._events = None

    @contextlib.contextmanager
    def _writing(self, run: Run) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MachineError(
                f"{run.workdir / TENSORBOARD} cannot be written ({error.strerror}): make room and run the "
                "same command again, or set --config.log.tensorboard=False"
            ) from error
