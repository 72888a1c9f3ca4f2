"""Draws learning curves of the reports and of our runs; also saves all pictures of the pages."""

import hashlib
import importlib.util
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from jaxnets import reported
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.evaluation.result import TESTED_ON
from jaxnets.experiment.run_directory import read_verified
from jaxnets.io import atomic_write
from jaxnets.training.callbacks.logs import METRICS
from jaxnets.training.callbacks.logs import read_lines as lines_of

Curve = list[tuple[float, float]]
"""(epochs done, value), by epoch."""

PANELS = ("loss", "accuracy")
STYLES = {"train": "-", "validation": "--", "test": ":"}
OURS, THEIRS = "#1f5fa8", "#b8480b"
DIGEST = "Data"
"""PNG text field with the digest of the drawn data, since two drawings of the same data differ in bytes."""
SIZE, DPI, COLORS = (7.2, 2.7), 80, 64


def reported_curves(name: str) -> dict[str, Curve]:
    """Returns the curves in a report's log, by "train loss", "test accuracy" and so on.

    Values are means over an epoch or over the batches between two lines; accuracies are fractions.
    """
    entry = reported.entry(name)
    curves: dict[str, Curve] = {}
    for line in entry.get("log") or ():
        if "batches" in line:
            per_epoch = math.ceil(entry["train_examples"] / entry["config"]["batch_size"])
            ends = [line["epoch"] - 1 + batch / per_epoch for batch in line["batches"]]
            curve = zip(ends, line["train_loss"], strict=True)
            curves.setdefault("train loss", []).extend(curve)
            continue
        for split in STYLES:
            values = {
                "loss": line.get(f"{split}_loss_per_batch_computed", line.get(f"{split}_loss")),
                "accuracy": _fraction(line, f"{split}_accuracy"),
            }
            for kind, value in values.items():
                if value is not None:
                    curves.setdefault(f"{split} {kind}", []).append((line["epoch"], value))
    return curves


def run_curves(lines: Sequence[Mapping[str, Any]], *, by_epoch: bool) -> dict[str, Curve]:
    """Returns the curves in the lines of a metrics.jsonl; `by_epoch` averages training lines by epoch."""
    curves: dict[str, Curve] = {}
    sums: dict[tuple[str, int], list[tuple[int, float]]] = {}
    last = 0
    for line in lines:
        train = line["split"] == "train"
        steps = line["step"] - last if train else 0
        last = line["step"] if train else last
        for kind in PANELS:
            if kind not in line["values"]:
                continue
            name, value = f"{line['split']} {kind}", line["values"][kind]
            if train and by_epoch:
                sums.setdefault((name, math.ceil(line["epoch"])), []).append((steps, value))
            else:
                curves.setdefault(name, []).append((line["epoch"], value))
    for (name, epoch), parts in sums.items():
        weights, values = zip(*parts, strict=True)
        curves.setdefault(name, []).append((epoch, float(np.average(values, weights=weights))))
    return curves


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Returns the lines of a stored metrics.jsonl; empty if there is none.

    Raises CheckpointError if it differs from its checksum or a line cannot be read.
    """
    data = read_verified(folder, METRICS) or b""
    lines = lines_of(data)
    if len(lines) < data.count(b"\n"):
        raise CheckpointError(f"{folder / METRICS} is damaged: restore it from a copy")
    return lines


def drawn_data(name: str, folders: Sequence[Path], *, configs: int = 1) -> dict[str, Any]:
    """Returns the curves of a reported entry and of its runs, which have `configs` different configs."""
    theirs = reported_curves(name)
    by_epoch = not any("batches" in line for line in reported.entry(name).get("log") or ())
    runs = {path.name: run_curves(read_lines(path), by_epoch=by_epoch) for path in folders}
    return {"entry": name, "published": theirs, "runs": runs, "configs": configs}


def is_current(path: Path, data: Mapping[str, Any]) -> bool:
    """Returns whether a picture shows the given data."""
    if not path.is_file():
        return False
    with Image.open(path) as picture:
        return picture.info.get(DIGEST) == _digest(data)


def draw(path: Path, data: Mapping[str, Any]) -> None:
    """Draws the picture; raises ConfigError if matplotlib is not installed."""
    figure = new_figure(SIZE)
    width, alpha = (1.6, 1.0) if len(data["runs"]) == 1 else (0.8, 0.6)
    for axes, kind in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for run in data["runs"].values():
            _plot(axes, run, kind, color=OURS, linewidth=width, alpha=alpha)
        _plot(axes, data["published"], kind, color=THEIRS, linewidth=1.6)
        axes.set(xlabel="epoch", ylabel=kind)
        if not any(kind in curve for curve in data["published"]):
            note = f"report {data['entry'][0]} prints no {kind} by epoch"
            axes.set_title(note, fontsize=7, color="0.4")
        axes.grid(alpha=0.3)
    _legend(figure.axes[0], data)
    save(path, figure, data)


def new_figure(size: tuple[float, float]) -> Any:
    """Returns an empty figure of a size in inches; raises ConfigError if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("pictures of results need matplotlib: pip install -e '.[plots]'")
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def save(path: Path, figure: Any, data: Mapping[str, Any]) -> None:
    """Writes a figure atomically as a small PNG with the digest of its data."""
    drawing = io.BytesIO()
    figure.savefig(drawing, format="png", dpi=DPI)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, _small(drawing, _digest(data)))


def _plot(axes: Any, curves: Mapping[str, Curve], kind: str, **style: Any) -> None:
    for split, line in STYLES.items():
        curve = curves.get(f"{split} {kind}")
        if curve:
            axes.plot(*zip(*curve, strict=True), line, **style)


def _legend(axes: Any, data: Mapping[str, Any]) -> None:
    axes.plot([], [], color=OURS, label=f"ours, {_count(len(data['runs']), data['configs'])}")
    axes.plot([], [], color=THEIRS, label=f"report {data['entry'][0]}")
    drawn = (data["published"], *data["runs"].values())
    shown = {name.split()[0] for curves in drawn for name in curves}
    for split, line in STYLES.items():
        if split in shown:
            axes.plot([], [], line, color="0.4", label=_format(split, data["entry"]))
    axes.legend(fontsize=7)


def _count(runs: int, configs: int) -> str:
    if configs > 1:
        return f"{runs} runs of {configs} configs"
    return f"{runs} seed{'s' if runs > 1 else ''}"


def _format(split: str, entry: str) -> str:
    """Returns the label of a split; test curves are measured as in the report."""
    tested = reported.tested_as(entry)
    return split if split != "test" or tested == "clean" else f"test, {TESTED_ON[tested]}"


def _small(drawing: io.BytesIO, digest: str) -> bytes:
    """Returns the PNG with few colours and the digest of its data."""
    info = PngImagePlugin.PngInfo()
    info.add_text(DIGEST, digest)
    picture = Image.open(drawing).convert("RGB").quantize(COLORS)
    small = io.BytesIO()
    picture.save(small, format="png", optimize=True, pnginfo=info)
    return small.getvalue()


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _fraction(line: Mapping[str, Any], name: str) -> float | None:
    percent = line.get(f"{name}_percent")
    return line.get(name) if percent is None else percent / 100
