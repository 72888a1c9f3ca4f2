"""The HTML page of a report."""

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

RESEARCH = "For research only. Not a medical device: do not use it for diagnosis or treatment."
TITLES = {
    "precision": "precision",
    "recall": "recall (sensitivity)",
    "specificity": "specificity",
    "f1": "F1",
    "roc_auc": "ROC-AUC",
}
MAX_TABLE_CLASSES, MAX_LISTED_CLASSES = 20, 50
"""Maximum number of classes to show the confusion matrix as a table, and to list every class's metrics."""
WORST = 25
"""Number of classes or confusions shown otherwise."""


@dataclasses.dataclass(frozen=True)
class Content:
    """The content of a page.

    `metrics` is the content of metrics.json, `parts` the number of examples per class for each part of the
    split, `leak_mark` a note next to the accuracy, `curves` the records of metrics.jsonl, and `commands` maps
    descriptions to shell commands.
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
    """Renders a self-contained HTML file."""
    metrics = content.metrics
    classes = metrics.get("classes", [])
    shown = list(enumerate(classes))
    if len(classes) > MAX_LISTED_CLASSES:
        shown = sorted(shown, key=_f1)[:WORST]
    large = len(classes) > MAX_TABLE_CLASSES
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
            matrix=_matrix(metrics) if classes and not large else None,
            confusions=_confusions(metrics) if large else None,
            matrix_picture=confusion_picture(confusion_matrix(metrics)) if large else None,
            reliability=_reliability(metrics),
            charts=_charts(content.curves),
        )
    )


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as a percentage; a dash for None."""
    return "\N{EN DASH}" if value is None else f"{100 * value:.{digits}f} %"


def percent_range(interval: Sequence[float] | None) -> str:
    """An interval in percent; empty for None."""
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def format_metric(figure: Mapping[str, Any], name: str) -> str:
    """The value of a metric: ROC-AUC as a number, others as percentages."""
    value = figure["value"]
    return percent(value) if value is None or name != "roc_auc" else f"{value:.4f}"


def format_interval(figure: Mapping[str, Any], name: str) -> str:
    """The interval of a metric, in the units of `format_metric`."""
    interval = figure["interval"]
    if interval is None or name != "roc_auc":
        return percent_range(interval)
    return f"[{interval[0]:.4f}, {interval[1]:.4f}]"


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxnets.evaluation.report"),
        autoescape=True,  # class and file names are user input
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (percent, percent_range, format_metric, format_interval):
        environment.filters[function.__name__] = function
    environment.filters["count"] = "{:,}".format
    return environment


def _f1(numbered: tuple[int, Mapping[str, Any]]) -> float:
    value = numbered[1]["f1"]["value"]
    return -1.0 if value is None else value


def _matrix(metrics: Mapping[str, Any]) -> list[list[tuple[int, float]]]:
    """Each cell's count and its fraction of the row."""
    rows = confusion_matrix(metrics).tolist()
    return [[(n, n / max(sum(row), 1)) for n in row] for row in rows]


def _confusions(metrics: Mapping[str, Any]) -> list[tuple[str, str, int, float]]:
    """The most frequent mistakes: true class, predicted class, count, fraction of the true class."""
    confusion = confusion_matrix(metrics)
    names = [row["name"] for row in metrics["classes"]]
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:WORST]
    pairs = [divmod(int(cell), len(names)) for cell in order]
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
        chart = plots.line_chart(name.capitalize(), series, x_label="epoch", y_label=name, percent=percents)
        charts += [chart] if chart else []
    return charts
