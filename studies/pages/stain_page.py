"""Accuracy of stored runs under other stains and cameras: table and picture of docs/lc25000.md."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnets import models
from jaxnets.errors import ConfigError
from jaxnets.evaluation import result as results
from jaxnets.experiment.run_directory import read_result
from studies import stain_jitter as shifts
from studies.pages import curves

NUMBERS = "stain_shift.json"
"""Stored next to a run's result.json."""
LEAKY = "LEAKY"
HEADS = ("network, split", "clean", *shifts.SHIFTS)
CSV_HEADS = ("run", "network", "split", "shift", "strength", "percent")
"""Columns of docs/tables/stain_shift.csv."""
SMALL: Mapping[str, tuple[float, float]] = {
    "hue": (-0.02, 0.02),
    "saturation": (0.8, 1.25),
    "haematoxylin": (0.8, 1.25),
    "eosin": (0.8, 1.25),
}
"""Range of the small shifts in the table."""


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row per run: accuracy, and the lowest accuracy under small shifts and under all."""
    return [_format(*found) for found in _read_runs(folder).values()]


def drawn_data(folder: Path) -> dict[str, Any]:
    """Returns title, split and curves ([strength, percent] by kind) of each run."""
    return {
        name: {
            "title": _title(result),
            "split": results.format_split_kind(result),
            "curves": {
                kind: [[row["strength"], 100 * row["accuracy"]] for row in shifts.curve(message, kind)]
                for kind in shifts.SHIFTS
            },
        }
        for name, (result, message) in _read_runs(folder).items()
    }


def csv_rows(folder: Path) -> list[tuple[Any, ...]]:
    """Returns the cells of each run, shift and strength, by `CSV_HEADS`."""
    return [
        (name, run["title"], run["split"], kind, strength, percent)
        for name, run in drawn_data(folder).items()
        for kind, curve in run["curves"].items()
        for strength, percent in curve
    ]


def draw(path: Path, data: Mapping[str, Any]) -> None:
    """Draws one panel per kind, one line per run; raises ConfigError if matplotlib is not installed."""
    figure = curves.new_figure((11.0, 4.0))
    panels = figure.subplots(1, len(shifts.SHIFTS), sharey=True)
    titles = list(dict.fromkeys(run["title"] for run in data.values()))
    for panel, kind in zip(panels, shifts.SHIFTS, strict=True):
        for run in data.values():
            style = {"color": f"C{titles.index(run['title'])}", "marker": "o", "markersize": 3}
            line = ":" if LEAKY in run["split"] else "-"
            label = f"{run['title']}, {run['split']}"
            panel.plot(*zip(*run["curves"][kind], strict=True), line, label=label, **style)
        panel.axvline(shifts.NEUTRAL[kind], color="grey", linewidth=0.8)
        panel.set_xlabel(shifts.LABELS[kind])
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("test accuracy, %")
    handles, labels = panels[0].get_legend_handles_labels()
    place = {"loc": "outside upper center", "ncols": 2, "fontsize": 8, "frameon": False}
    figure.legend(handles, labels, **place)
    curves.save(path, figure, data)


def _read_runs(folder: Path) -> dict[str, tuple[results.Result, Mapping[str, Any]]]:
    """Returns the result and the measured shifts of each run, ordered by title and name."""
    found = {}
    for path in folder.glob(f"*/{NUMBERS}"):
        result = read_result(path.parent)
        if result is not None:
            found[path.parent.name] = result, _read(path)
    return dict(sorted(found.items(), key=lambda item: (_title(item[1][0]), item[0])))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        message = json.loads(path.read_text())
        assert set(shifts.SHIFTS) <= message["shifts"].keys()
        assert "clean" in message
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ConfigError(f"{path} is not a file of shifts: remove it or measure again") from error
    return message


def _title(result: Mapping[str, Any]) -> str:
    message = results.format_network(result, models.entry(result["model"]).title)
    return f"{message}, {result['image_size']} px, {result['epochs']:g} epochs"


def _format(result: results.Result, measured: Mapping[str, Any]) -> tuple[str, ...]:
    lowest = (_lowest(measured, kind) for kind in shifts.SHIFTS)
    clean = f"{100 * measured['clean']['accuracy']:.1f} %"
    return f"{_title(result)}, {results.format_split_kind(result)}", clean, *lowest


def _lowest(measured: Mapping[str, Any], kind: str) -> str:
    rows, (least, most) = shifts.curve(measured, kind), SMALL[kind]
    small = min(row["accuracy"] for row in rows if least <= row["strength"] <= most)
    return f"{100 * small:.1f} / {100 * min(row['accuracy'] for row in rows):.1f}"
