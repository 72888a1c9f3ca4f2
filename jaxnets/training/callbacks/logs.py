"""Log records in metrics.jsonl and on the console."""

import contextlib
import datetime
import json
import os
from collections.abc import Mapping

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from jaxnets.runtime import console
from jaxnets.training.run import Callback, LogRecord, Run
from jaxnets.training.step import Metrics

METRICS = "metrics.jsonl"
SPLITS = ("train", "validation", "test")
BAR_WIDTH, WIDE = 20, 100  # a terminal of at least WIDE columns shows a bar
MAX_ROWS = 50
"""The maximum number of rows on a terminal if a run has no evaluations; otherwise each of them has a row."""


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
    """Shows training as a table on a terminal, above a line that moves; elsewhere each record is a line.

    A row of the table has the metrics of an evaluation, which ends with `last_split`, and those of training
    in the same epoch. Without evaluations each epoch has a row, up to `MAX_ROWS` rows.
    """

    per_step = False

    def __init__(self, last_split: str = "validation") -> None:
        self._last_split = last_split
        self._bar: Progress | None = None
        self._interval: LogRecord | None = None  # the last record of training
        self._evaluated: dict[str, dict[str, float]] = {}  # metrics by split
        self._rows = 0
        self._first = (0, 0.0)

    def on_train_begin(self, run: Run) -> None:
        self._first = (run.step, run.seconds)
        display = console.display()
        if display is not None and display.output.is_terminal:
            text = TextColumn("{task.description}", table_column=Column(no_wrap=True))
            bar = (BarColumn(bar_width=BAR_WIDTH),) if display.output.width >= WIDE else ()
            self._bar = Progress(*bar, text, console=display.output, transient=True)
            self._bar.add_task("training", total=run.plan.total_steps, completed=run.step)
            self._bar.start()

    def on_step_end(self, run: Run, metrics: Metrics) -> None:
        if self._bar is None:
            return
        parts = self._status(run)
        width = self._bar.console.width - (BAR_WIDTH + 1) * (len(self._bar.columns) - 1)
        while len(parts) > 1 and len("  ".join(parts)) > width:
            parts.pop()
        self._bar.update(self._bar.task_ids[0], completed=run.step, description="  ".join(parts))
        rows = MAX_ROWS * run.step // run.plan.total_steps
        is_epoch = run.step % run.plan.steps_per_epoch == 0 and rows > self._rows
        if run.plan.evaluate_every is None and (is_epoch or run.ending):
            run.fetch_metrics()
            self._add_row(run, self._bar.console.width)

    def on_log(self, run: Run, record: LogRecord) -> None:
        split = record["split"]
        if split == "train":
            self._interval = record
            if self._bar is None:
                console.log(split, "  ".join([_position(run), *_speed(record), *self._time_left(run)]))
        elif self._bar is None:
            name = "evaluate" if split == "validation" else split
            console.log(name, f"{_position(run)}  {'  '.join(_metrics(record['values']))}")
        else:
            self._evaluated[split] = record["values"]
            if split == self._last_split:
                self._add_row(run, self._bar.console.width)

    def on_train_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _status(self, run: Run) -> list[str]:
        """The parts of the moving line, the most important ones first."""
        epochs = run.plan.total_steps / run.plan.steps_per_epoch
        parts, time_left = [f"epoch {run.epoch:.2f}/{epochs:g}"], self._time_left(run)
        if run.evaluation_due():
            return [*parts, "evaluating", *time_left]
        step = f"step {run.step}/{run.plan.total_steps}"
        if self._interval is None:
            return [*parts, step]
        *metrics, speed, waiting = _speed(self._interval)
        return [*parts, *metrics, *time_left, speed, step, waiting]

    def _time_left(self, run: Run) -> list[str]:
        steps, seconds = run.step - self._first[0], run.seconds - self._first[1]
        left = (run.plan.total_steps - run.step) * seconds / max(steps, 1)
        return [f"{datetime.timedelta(seconds=round(left))} left"] if steps else []

    def _add_row(self, run: Run, width: int) -> None:
        epochs = f"{run.plan.total_steps / run.plan.steps_per_epoch:g}"
        train = run.last_epoch if run.step % run.plan.steps_per_epoch == 0 else None
        if train is None and self._interval is not None:
            train = self._interval["values"]
        splits = {"train": train or {}, **self._evaluated}
        epoch = f"{run.epoch:.4g}".rjust(len(epochs))
        row: list[tuple[str, str]] = [("epoch".ljust(8), f"{epoch}/{epochs}".ljust(8))]
        for split, values in splits.items():
            row.append((f"{split} loss", _loss(values["loss"]) if values else ""))
            if any("accuracy" in others for others in splits.values()):
                row.append(("accuracy", f"{100 * values['accuracy']:.1f} %" if values else ""))
        speed = f"{self._interval['images_per_second']:,.0f}" if self._interval is not None else ""
        row.append((_unit(train or {}), speed))
        row.append(("   time", str(datetime.timedelta(seconds=round(run.seconds)))))
        cells = [(name.rjust(len(cell)), cell.rjust(len(name))) for name, cell in row]
        while len("  ".join(name for name, _ in cells)) > width and len(cells) > 3:
            cells.pop()
        if not self._rows:
            console.log_text("  ".join(name for name, _ in cells))
        console.log_text("  ".join(cell for _, cell in cells))
        self._rows, self._evaluated = max(MAX_ROWS * run.step // run.plan.total_steps, 1), {}


def _position(run: Run) -> str:
    total, epochs = run.plan.total_steps, run.plan.total_steps / run.plan.steps_per_epoch
    return f"epoch {run.epoch:.2f}/{epochs:g}  step {run.step:>{len(str(total))}}/{total}"


def _speed(record: LogRecord) -> list[str]:
    """The metrics, the speed and the waiting time of a record of training."""
    values = record["values"]
    speed = f"{record['images_per_second']:,.0f} {_unit(values)}"
    return [*_metrics(values), speed, f"waiting {100 * record['data_wait']:.1f} %"]


def _metrics(values: Mapping[str, float]) -> list[str]:
    accuracy = [f"accuracy {100 * values['accuracy']:5.1f} %"] if "accuracy" in values else []
    return [f"loss {_loss(values['loss'])}", *accuracy]


def _loss(value: float) -> str:
    return f"{value:.4f}" if value == 0 or 0.001 <= abs(value) < 10_000 else f"{value:.3e}"


def _unit(values: Mapping[str, float]) -> str:
    return "images/s" if "accuracy" in values else "examples/s"
