"""The page itself: what it shows, and how that becomes one HTML file."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from jaxnets.evaluation.class_metrics import NAMES
from jaxnets.evaluation.report import plots
from jaxnets.evaluation.report.pictures import Card, confusion_picture
from jaxnets.evaluation.result_schema import confusion_matrix

RESEARCH = "This is research, not diagnosis: nobody may be treated on the strength of it."
TITLES = {
    "precision": "precision",
    "recall": "recall (sensitivity)",
    "specificity": "specificity",
    "f1": "F1",
    "roc_auc": "ROC-AUC",
}
WHOLE_MATRIX, ALL_CLASSES = 20, 50
"""The most classes whose confusion matrix is shown as a table, and whose metrics are all shown."""
WORST = 25
"""How many classes, or confusions, are shown where not all are."""


@dataclasses.dataclass(frozen=True)
class Content:
    """What a page shows; None, or empty, where there is no such thing.

    `metrics` is what metrics.json says, `facts` and `manifest` are names with their values, `parts` the
    number of examples of each class by part of the split, `leak_mark` what stands beside the
    accuracy, `curves` lines of metrics.jsonl, `commands` what a person types with what it does.
    """

    title: str
    subtitle: str
    part: str
    warnings: Sequence[str]
    leak_mark: str
    metrics: Mapping[str, Any]
    facts: Mapping[str, str]
    split: str
    parts: Mapping[str, Sequence[int]]
    curves: Sequence[Mapping[str, Any]]
    mistakes: Sequence[Card]
    uncertain: Sequence[Card]
    manifest: Mapping[str, str]
    commands: Mapping[str, str]


def render(content: Content) -> str:
    """One HTML file that needs nothing beside itself."""
    metrics = content.metrics
    classes = metrics.get("classes", [])
    shown = list(enumerate(classes))
    if len(classes) > ALL_CLASSES:
        shown = sorted(shown, key=lambda row: _rank(row[1]["f1"]["value"]))[:WORST]
    return (
        _templates()
        .get_template("page.html")
        .render(
            content=content,
            metrics=metrics,
            classes=classes,
            shown=shown,
            names=NAMES,
            titles=TITLES,
            research=RESEARCH,
            matrix=_matrix(metrics) if 0 < len(classes) <= WHOLE_MATRIX else None,
            confusions=_confusions(metrics) if len(classes) > WHOLE_MATRIX else None,
            matrix_picture=(
                confusion_picture(confusion_matrix(metrics))
                if len(classes) > WHOLE_MATRIX
                else None
            ),
            reliability=_reliability(metrics),
            charts=_charts(content.curves),
        )
    )


def percent(value: float | None, digits: int = 1) -> str:
    """A share as the page tells it; a dash where there is none."""
    return "\N{EN DASH}" if value is None else f"{100 * value:.{digits}f} %"


def percent_range(interval: Sequence[float] | None) -> str:
    """An interval of a share as the page tells it; nothing where there is none."""
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def value_of(figure: Mapping[str, Any], name: str) -> str:
    """A metric as the page tells it: an area as a number, a share as a percentage."""
    value = figure["value"]
    return percent(value) if value is None or name != "roc_auc" else f"{value:.4f}"


def range_of(figure: Mapping[str, Any], name: str) -> str:
    """A metric's interval as the page tells it."""
    interval = figure["interval"]
    if interval is None or name != "roc_auc":
        return percent_range(interval)
    return f"[{interval[0]:.4f}, {interval[1]:.4f}]"


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxnets.evaluation.report"),
        autoescape=True,  # names of classes and files are the user's
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["percent_range"] = percent_range
    environment.filters["value_of"] = value_of
    environment.filters["range_of"] = range_of
    environment.filters["count"] = "{:,}".format
    return environment


def _rank(value: float | None) -> float:
    return -1.0 if value is None else value


def _matrix(metrics: Mapping[str, Any]) -> list[list[tuple[int, float]]]:
    """Of each cell the count and its share of the row."""
    rows = confusion_matrix(metrics).tolist()
    return [[(n, n / max(sum(row), 1)) for n in row] for row in rows]


def _confusions(metrics: Mapping[str, Any]) -> list[tuple[str, str, int, float]]:
    """The most frequent mistakes: true class, told class, count, share of the true class."""
    confusion = confusion_matrix(metrics)
    names = [row["name"] for row in metrics["classes"]]
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:WORST]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [
        (names[i], names[j], int(wrong[i, j]), wrong[i, j] / max(confusion[i].sum(), 1))
        for i, j in pairs
        if wrong[i, j] > 0
    ]


def _reliability(metrics: Mapping[str, Any]) -> plots.Chart | None:
    if "calibration" not in metrics:
        return None
    found = metrics["calibration"]
    arrays = (np.array(found[name]) for name in ("confidence", "accuracy", "count"))
    return plots.reliability_chart(*arrays, bins=found["bins"])


def _charts(lines: Sequence[Mapping[str, Any]]) -> list[plots.Chart]:
    charts = []
    for name, percents in (("loss", False), ("accuracy", True)):
        series = []
        for split in ("train", "validation"):
            points = [
                (line["epoch"], line["values"][name])
                for line in lines
                if line["split"] == split and line["values"].get(name) is not None
            ]
            x, y = np.array(points, float).reshape(-1, 2).T
            series.append(plots.Series(split, x, y, dots=split == "validation"))
        chart = plots.line_chart(
            name.capitalize(), series, x_label="epoch", y_label=name, percent=percents
        )
        charts += [chart] if chart else []
    return charts
