"""Callbacks that write metrics.jsonl and TensorBoard event files."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

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
    """Returns the valid records of a metrics.jsonl; a run may be writing the last one."""
    records = []
    for text in data.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError, AttributeError):
            record = json.loads(text)
            numbers = (record["step"], record["epoch"], record.get("images_per_second", 0.0))
            if record["split"] in SPLITS and all(map(_is_number, (*numbers, *record["values"].values()))):
                records.append(record)
    return records


def _is_number(value: Any) -> bool:
    """True for a float and for an integer of 64 bits."""
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


class MetricsLog(Callback):
    """Writes metrics.jsonl, one JSON line per record; a resumed run truncates it to its checkpoint."""

    stored = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0

    def on_train_begin(self, run: Run) -> None:
        path = run.workdir / METRICS
        path.touch()
        if path.stat().st_size < self.bytes:  # it was truncated, maybe within a line
            self.bytes = path.read_bytes().rfind(b"\n") + 1
        os.truncate(path, self.bytes)

    def on_log(self, run: Run, record: LogRecord) -> None:
        with (run.workdir / METRICS).open("ab") as file:
            file.write((json.dumps(record) + "\n").encode())
            self.bytes = file.tell()


class TensorBoard(Callback):
    """Writes all records and, every `histograms_every` steps, histograms of the weights to tensorboard/."""

    per_step = False

    def __init__(self) -> None:
        self._events: EventFile | None = None

    def on_train_begin(self, run: Run) -> None:
        with _writing(run):
            self._events = EventFile(run.workdir / TENSORBOARD, first_step=run.step + 1)

    def on_log(self, run: Run, record: LogRecord) -> None:
        if self._events is None:
            return
        values = {f"{record['split']}/{name}": value for name, value in record["values"].items()}
        if "images_per_second" in record:
            values["train/images_per_second"] = record["images_per_second"]
        with _writing(run):
            self._events.scalars(record["step"], values)

    def on_step_end(self, run: Run, metrics: Metrics) -> None:
        every = run.plan.histograms_every
        if self._events is None or not every or run.step % every:
            return
        weights = traverse_util.flatten_dict(jax.device_get(run.state.params), sep="/")
        with _writing(run):
            for name, values in weights.items():
                self._events.histogram(run.step, f"weights/{name}", np.asarray(values))

    def on_train_end(self, run: Run) -> None:
        if self._events is not None:
            with contextlib.suppress(OSError):  # a full disk has been reported
                self._events.close()
        self._events = None


@contextlib.contextmanager
def _writing(run: Run) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"{run.workdir / TENSORBOARD} cannot be written ({error.strerror}): free some space and run "
            "the same command again, or set --config.log.tensorboard=False"
        ) from error
