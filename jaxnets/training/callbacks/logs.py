"""Log records in metrics.jsonl and on the console."""

import contextlib
import datetime
import json
import os

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from jaxnets.runtime import console
from jaxnets.training.run import Callback, LogRecord, Run
from jaxnets.training.step import Metrics

METRICS = "metrics.jsonl"
SPLITS = ("train", "validation", "test")
WIDE = 132  # terminal columns that fit the full line and a bar
SHORTER = {"epoch ": "", "step ": "", "accuracy ": "", "waiting ": "wait ", " left": "", "  ": " "}


def read_lines(data: bytes) -> list[LogRecord]:
    """Returns the valid records of a metrics.jsonl; a run may be writing the last one."""
    records = []
    for text in data.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError, AttributeError):
            record = json.loads(text)
            numbers = [record["step"], record["epoch"], record.get("images_per_second", 0.0)]
            numbers += record["values"].values()
            others = [number for number in numbers if type(number) is not float]
            are_valid = all(type(number) is int and abs(number) < 2**63 for number in others)
            if record["split"] in SPLITS and are_valid:
                records.append(record)
    return records


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


class ShowProgress(Callback):
    """Shows epoch, step, loss, accuracy (for classes), speed, time waiting for data and time left."""

    per_step = False

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._text = ""
        self._first = (0, 0.0)

    def on_train_begin(self, run: Run) -> None:
        self._first = (run.step, run.seconds)
        display = console.display()
        if display is not None and display.output.is_terminal:
            text = TextColumn("{task.description}", table_column=Column(no_wrap=True))
            bar = (BarColumn(bar_width=20),) if display.output.width >= WIDE else ()
            self._bar = Progress(text, *bar, console=display.output, transient=True)
            self._bar.add_task("train", total=run.plan.total_steps, completed=run.step)
            self._bar.start()

    def on_step_end(self, run: Run, metrics: Metrics) -> None:
        if self._bar is not None:
            text = self._status(run)
            if self._bar.console.width < WIDE:
                for long, short in SHORTER.items():
                    text = text.replace(long, short)
            self._bar.update(self._bar.task_ids[0], completed=run.step, description=text)

    def on_log(self, run: Run, record: LogRecord) -> None:
        values = record["values"]
        metrics, unit = f"loss {values['loss']:.4f}", "examples"
        if "accuracy" in values:
            metrics, unit = f"{metrics}  accuracy {100 * values['accuracy']:5.1f} %", "images"
        if record["split"] == "train":
            speed = f"{record['images_per_second']:,.0f} {unit}/s"
            self._text = f"{metrics}  {speed}  waiting {100 * record['data_wait']:.1f} %"
            if self._bar is None:
                console.log("train", self._status(run))
        else:
            name = "evaluate" if record["split"] == "validation" else record["split"]
            console.log(name, f"{_position(run)}  {metrics}")

    def on_train_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _status(self, run: Run) -> str:
        steps, seconds = run.step - self._first[0], run.seconds - self._first[1]
        left = round((run.plan.total_steps - run.step) * seconds / steps) if steps else None
        time_left = "" if left is None else f"{datetime.timedelta(seconds=left)} left"
        return f"{_position(run)}  {self._text}  {time_left}"


def _position(run: Run) -> str:
    total, epochs = run.plan.total_steps, run.plan.total_steps / run.plan.steps_per_epoch
    return f"epoch {run.epoch:.2f}/{epochs:g}  step {run.step:>{len(str(total))}}/{total}"
