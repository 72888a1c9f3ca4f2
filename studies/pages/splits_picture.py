"""The picture of what a leaking split is worth: published, ours random and ours grouped, by network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnets.evaluation import result as results
from studies.pages import curves
from studies.pages.leak_table import measured, pairs

SERIES = {
    "published": ("published", curves.THEIRS, "D"),
    "random": ("ours, random: LEAKY", "#7a7a7a", "o"),
    "grouped": ("ours, grouped", curves.OURS, "s"),
}
"""By what is drawn: its name in the legend, colour and mark."""
APART = 0.22
"""Between the marks of one row, in rows."""


def drawn_data(folder: Path) -> dict[str, Any]:
    """All that the picture shows: of each config its accuracies in per cent, with [low, high] of ours.

    Splits by groups that leak all the same are left to the table.
    """
    rows = []
    for pair in pairs(folder):
        if pair.grouped is not None and results.is_leaky(pair.grouped.first):
            continue
        row: dict[str, Any] = {"name": pair.title, "published": None}
        if pair.published_percent is not None:
            row["published"] = [pair.published_percent, None]
        for name, group in (("random", pair.random), ("grouped", pair.grouped)):
            row[name] = None if group is None else list(measured(group))
        rows.append(row)
    return {"rows": rows}


def draw(path: Path, data: Mapping[str, Any]) -> None:
    """Writes the picture, whole; raises ConfigError where matplotlib is not installed."""
    figure = curves.new_figure((7.2, 0.9 + 0.55 * len(data["rows"])))
    axes = figure.subplots()
    for place, (name, (label, colour, mark)) in enumerate(SERIES.items()):
        shown = [(y, *row[name]) for y, row in enumerate(data["rows"]) if row[name] is not None]
        for y, percent, interval in shown:
            low, high = interval or (percent, percent)
            errors = [[percent - low], [high - percent]]
            style = {"fmt": mark, "color": colour, "markersize": 5, "capsize": 2.5}
            axes.errorbar(percent, y + (place - 1) * APART, xerr=errors, **style)
        axes.plot([], [], mark, color=colour, markersize=5, label=label)
    names = [row["name"].replace(", ", "\n", 1) for row in data["rows"]]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("test accuracy, %, with 95 % intervals of whole groups", fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(SERIES), fontsize=8, frameon=False)
    curves.save(path, figure, data)
