"""Draws the accuracy of each network: reported, random split and grouped folds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets.evaluation import result as results
from studies.pages import curves
from studies.pages.leak_table import Pair, mean_and_interval

SERIES = {
    "reported": ("reported", curves.THEIRS, "D"),
    "random": ("jaxnets, random split: LEAKY", "#7a7a7a", "o"),
    "grouped": ("jaxnets, grouped folds", curves.OURS, "s"),
}
"""Label, colour and marker of each series."""
MARKER_DISTANCE = 0.22
"""Distance between the markers of a row, in rows."""


def drawn_data(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Returns the accuracies of each pair in percent, and the intervals of ours.

    Grouped splits that leak are shown in the table only.
    """
    rows = []
    for pair in pairs:
        if pair.grouped is not None and results.is_leaky(pair.grouped.first):
            continue
        row: dict[str, Any] = {"name": pair.title, "reported": None}
        if pair.reported_percent is not None:
            row["reported"] = [pair.reported_percent, None]
        for name, group in (("random", pair.random), ("grouped", pair.grouped)):
            row[name] = None if group is None else list(mean_and_interval(group))
        rows.append(row)
    return {"rows": rows}


def draw(path: Path, data: Mapping[str, Any]) -> None:
    """Draws the picture; raises ConfigError if matplotlib is not installed."""
    figure = curves.new_figure((7.2, 0.9 + 0.55 * len(data["rows"])))
    axes = figure.subplots()
    for place, (name, (label, colour, mark)) in enumerate(SERIES.items()):
        shown = [(y, *row[name]) for y, row in enumerate(data["rows"]) if row[name] is not None]
        for y, percent, interval in shown:
            low, high = interval or (percent, percent)
            errors = [[percent - low], [high - percent]]
            style = {"fmt": mark, "color": colour, "markersize": 5, "capsize": 2.5}
            axes.errorbar(percent, y + (place - 1) * MARKER_DISTANCE, xerr=errors, **style)
        axes.plot([], [], mark, color=colour, markersize=5, label=label)
    names = [row["name"].replace(", ", "\n", 1) for row in data["rows"]]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("test accuracy, %, with 95 % intervals of whole groups", fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(SERIES), fontsize=8, frameon=False)
    curves.save(path, figure, data)
