"""The HTML page of a report, with its pictures."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np

from jaxnets.evaluation.gradcam import overlay
from jaxnets.evaluation.predictions import Predictions
from jaxnets.evaluation.report import plots
from jaxnets.evaluation.report.html import data_uri, environment, percent
from jaxnets.evaluation.report.measure import NAMES
from jaxnets.evaluation.result import confusion_matrix

TITLES = {name: name for name in NAMES} | {"recall": "recall (sensitivity)", "f1": "F1", "roc_auc": "ROC-AUC"}
MAX_TABLE_CLASSES, MAX_LISTED_CLASSES = 20, 50
"""Maximum number of classes to show the confusion matrix as a table, and to list every class's metrics."""
WORST = 25  # number of classes or confusions shown otherwise
MIN_SIDE = 112  # smaller images are enlarged by an integer factor


@dataclasses.dataclass(frozen=True)
class Card:
    """One example of the page: data URIs of the image and its Grad-CAM overlay, label and prediction."""

    image: str
    gradcam: str | None
    file: str
    true: str
    predicted: str
    confidence: float
    true_confidence: float


class FeatureMap(NamedTuple):
    """Charts of the principal components of images' features, and what the chart by group shows."""

    charts: Sequence[plots.Chart]
    text: str


@dataclasses.dataclass(frozen=True)
class Content:
    """The content of a page."""

    title: str
    subtitle: str
    part: str
    warnings: Sequence[str]
    leak_mark: str  # a note next to the accuracy
    disclaimer: str  # "" unless the data are medical
    given_groups: bool  # groups are those of the data, such as patients, not near-duplicates that were found
    metrics: Mapping[str, Any]  # the content of metrics.json
    facts: Mapping[str, str]
    split: str
    parts: Mapping[str, Sequence[int]]  # the number of examples per class, for each part of the split
    curves: Sequence[Mapping[str, Any]]  # the records of metrics.jsonl
    mistakes: Sequence[Card]
    uncertain: Sequence[Card]
    no_gradcam: str  # why cards have no Grad-CAM overlays; "" if they have
    manifest: Mapping[str, str]
    commands: Mapping[str, str]  # shell commands by their descriptions
    runs: Sequence[Mapping[str, Any]] = ()  # the runs of a cross-validation, as in result.json
    feature_map: FeatureMap | None = None


def render(content: Content) -> str:
    """Renders a self-contained HTML file."""
    metrics = content.metrics
    shown: dict[str, Any] = {"content": content, "metrics": metrics, "classes": metrics.get("classes", [])}
    if classes := shown["classes"]:
        confusion = confusion_matrix(metrics)
        listed = list(enumerate(classes))
        if len(classes) > MAX_LISTED_CLASSES:
            scores = [row["f1"]["value"] for row in classes]
            lowest = np.argsort([-1 if score is None else score for score in scores], kind="stable")
            listed = [listed[number] for number in lowest[:WORST]]
        calibration = metrics["calibration"]
        arrays = (np.array(calibration[name]) for name in ("confidence", "accuracy", "count"))
        chart = plots.reliability_chart(*arrays, bins=calibration["bins"])
        shown |= {"shown": listed, "matrix": None, "reliability": chart}
        if len(classes) <= MAX_TABLE_CLASSES:
            shown["matrix"] = [[(n, n / max(sum(row), 1)) for n in row] for row in confusion.tolist()]
        else:
            shown["confusions"] = _confusions(confusion, [row["name"] for row in classes])
            shown["matrix_picture"] = _confusion_picture(confusion)
    charts = [_curve(content.curves, "loss"), _curve(content.curves, "accuracy", in_percent=True)]
    return _template().render(shown, charts=[chart for chart in charts if chart])


def format_metric(figure: Mapping[str, Any], name: str) -> str:
    """The value of a metric: ROC-AUC as a number, others as percentages."""
    value = figure["value"]
    return percent(value) if value is None or name != "roc_auc" else f"{value:.4f}"


def format_interval(interval: Sequence[float] | None, name: str = "") -> str:
    """The interval of a metric, in the units of `format_metric`; empty for None."""
    scale, digits = (1, 4) if name == "roc_auc" else (100, 1)
    ends = [f"{scale * end:.{digits}f}" for end in interval or ()]
    return f"[{', '.join(ends)}]" if ends else ""


@functools.cache
def _template() -> jinja2.Template:
    for function in (format_metric, format_interval):
        environment().filters[function.__name__] = function
    constants = {"names": NAMES, "titles": TITLES, "plots": plots}
    return environment().get_template("page.html", globals=constants)


def _confusions(confusion: np.ndarray, names: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """The most frequent mistakes: true class, predicted class, count, fraction of the true class."""
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:WORST]
    return [
        (names[i], names[j], int(wrong[i, j]), wrong[i, j] / max(confusion[i].sum(), 1))
        for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[i, j] > 0
    ]


def _curve(lines: Sequence[Mapping[str, Any]], name: str, *, in_percent: bool = False) -> plots.Chart | None:
    """A metric of the records of metrics.jsonl by epoch; None if no record has it."""
    curves = []
    for split in ("train", "validation", "test"):
        points = [
            (line["epoch"], line["values"][name])
            for line in lines
            if line["split"] == split and line["values"].get(name) is not None
        ]
        curves.append(plots.Line(split, np.array(points, float).reshape(-1, 2), dots=split != "train"))
    return plots.line_chart(name.capitalize(), curves, x_label="epoch", y_label=name, percent=in_percent)


def most_confident_mistakes(predictions: Predictions, count: int) -> np.ndarray:
    """Positions of up to `count` wrong predictions, most confident first, at most one per group."""
    confidence = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(~predictions.correct)
    return _first_per_group(predictions, wrong[np.argsort(-confidence[wrong], kind="stable")], count)


def most_uncertain(predictions: Predictions, count: int) -> np.ndarray:
    """Positions of up to `count` predictions with the smallest top-two margin, at most one per group."""
    ordered = np.sort(predictions.probabilities, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    return _first_per_group(predictions, np.argsort(margin, kind="stable"), count)


def _first_per_group(predictions: Predictions, positions: np.ndarray, count: int) -> np.ndarray:
    if predictions.groups_known:
        _, first = np.unique(predictions.group[positions], return_index=True)
        positions = positions[np.sort(first)]
    return positions[:count]


def card(
    predictions: Predictions,
    position: int,
    classes: Sequence[str],
    pixels: np.ndarray,
    heat: np.ndarray | None,
) -> Card:
    """The example at `position`, from its image uint8[S, S, 1 or 3] and its Grad-CAM map [h, w]."""
    label, probabilities = predictions.label[position], predictions.probabilities[position]
    predicted = int(probabilities.argmax())
    times = -(-MIN_SIDE // len(pixels))
    shown = pixels.repeat(times, axis=0).repeat(times, axis=1)
    return Card(
        image=data_uri(shown, "jpeg", quality=88),
        gradcam=None if heat is None else data_uri(overlay(shown, heat), "jpeg", quality=88),
        file=str(predictions.files[position]),
        true=classes[label],
        predicted=classes[predicted],
        confidence=float(probabilities[predicted]),
        true_confidence=float(probabilities[label]),
    )


def _confusion_picture(confusion: np.ndarray, max_side: int = 250) -> str:
    """A large confusion matrix [K, K] as a picture: row fractions, max-pooled to at most `max_side` cells."""
    fractions = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    block = -(-len(fractions) // max_side)
    padding = -len(fractions) % block
    padded = np.pad(fractions, ((0, padding), (0, padding)))
    side = len(padded) // block
    cells = padded.reshape(side, block, side, block).max(axis=(1, 3))
    grey = 255 - np.rint(255 * np.sqrt(cells))  # the root makes small fractions visible
    times = -(-300 // side)
    picture = grey.astype(np.uint8)[..., None].repeat(times, axis=0).repeat(times, axis=1)
    return data_uri(picture, "png", optimize=True)
