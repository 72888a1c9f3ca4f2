"""The summary that a run prints, and the texts and numbers that result.json holds."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.evaluation.metrics import ClassScores, Scores
from jaxnets.evaluation.predictions import Predictions
from jaxnets.evaluation.result_schema import RESULT, Result, Test, read, stored_confusion, to_json
from jaxnets.evaluation.statistics import group_interval, wilson_interval
from jaxnets.reported import tested_as
from jaxnets.text import printable

__all__ = [
    "DATASETS_WITH_DUPLICATES",
    "RESULT",
    "TESTED_ON",
    "Result",
    "Test",
    "epochs_of",
    "format_grouping",
    "format_head",
    "format_network",
    "format_split",
    "format_split_kind",
    "format_test",
    "is_leaky",
    "read",
    "summary_text",
    "test_entry",
    "to_json",
]

WILSON, GROUP_BOOTSTRAP = "wilson", "group bootstrap"
WILSON_BY_GROUP = "wilson, a group for an example"
"""Used when the group bootstrap is degenerate: a single group, or the same accuracy in every group."""
DATASETS_WITH_DUPLICATES = {"lc25000_lung": "its 15,000 images are augmented copies of 750 photographs"}
"""Sources known to contain near-duplicates: a random split of them leaks."""
GROUP_LEVEL_DEFAULT = "group"
"""The level of a table of groups that a grouped split uses by default."""

TESTED_ON = {
    "clean": "clean images",
    "augmented": "augmented images",
    "dropout": "clean images, dropout on",
    "augmented_dropout": "augmented images, dropout on",
}
"""Descriptions of the keys of `tests`."""


def test_entry(scores: Scores, predictions: Predictions | None) -> Test:
    """One entry of `tests`: accuracy with its interval, loss, count and confusion[label, prediction].

    A regression has only loss and count. The interval is a group bootstrap if `predictions`, of the same
    examples, contain near-duplicates, else Wilson's interval over examples.
    """
    if not isinstance(scores, ClassScores):
        return {"loss": scores.loss, "examples": scores.examples}
    interval, method = wilson_interval(scores.correct, scores.examples), WILSON
    if predictions is not None and predictions.has_near_duplicates:
        interval = group_interval(predictions.correct, predictions.group)
        degenerate = scores.correct in (0, scores.examples) or math.isnan(interval[0])
        method = WILSON_BY_GROUP if degenerate else GROUP_BOOTSTRAP
        if degenerate:
            count = len(np.unique(predictions.group))
            interval = wilson_interval(round(scores.accuracy * count), count)
    return {
        "accuracy": scores.accuracy,
        "interval": list(interval),
        "interval_method": method,
        "loss": scores.loss,
        "examples": scores.examples,
        "confusion": stored_confusion(scores.confusion),
    }


def summary_text(
    result: Mapping[str, Any],
    *,
    title: str,
    data_title: str,
    workdir: Path,
    reported: Mapping[str, Any] | None,
) -> str:
    """At most 12 lines: network, our result next to the reported one, split, speed, next command."""
    label = result["name"]
    indent = max(22, len(label) + 2)
    parameters = f"{result['parameters']:,} parameters"
    if result["auxiliary_parameters"]:
        parameters += f" and {result['auxiliary_parameters']:,} in auxiliary heads"
    if result.get("freeze_backbone"):
        parameters += f", {result['trained_parameters']:,} of them trained"
    classes = result["test_accuracy"] is not None
    size = f"{result['image_size']} px, " if result["image_size"] else ""
    others = [
        f"{name.replace('_', ' and ')} {100 * test['accuracy']:.1f} %"
        for name, test in result["tests"].items()
        if name != "clean" and "accuracy" in test
    ]
    rows = [
        (
            label,
            f"{format_network(result, title)}, {parameters}, {data_title}, "
            f"{size}{_epochs(result['epochs'])}, seed {result['seed']}",
        ),
        ("", "ours".ljust(24) + ("reported" if reported else "")),
        _accuracy(result, reported, title) if classes else _loss(result, reported),
        *([("other tests", ", ".join(others))] if others else []),
        ("split", format_split(result)),
        ("speed", _speed(result, classes).ljust(24) + _time(reported)),
    ]
    if result.get("stopped_early"):
        rows.append(("stopped early", result["stopped_early"]))
    if result["note"]:
        rows.append(("note", result["note"]))
    rows += [
        ("saved", str(workdir / RESULT)),
        ("next", f"python scripts/evaluate.py --workdir {workdir}"),
    ]
    return "\n".join(printable(f"{name.ljust(indent)}{text}").rstrip() for name, text in rows)


def _accuracy(result: Mapping[str, Any], reported: Mapping[str, Any] | None, title: str) -> tuple[str, str]:
    low, high = result["test_interval"]
    ours = f"{100 * result['test_accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return "test accuracy", ours.ljust(24) + _reported(reported, result, title)


def _loss(result: Mapping[str, Any], reported: Mapping[str, Any] | None) -> tuple[str, str]:
    """The loss in the report was computed before its only training step, so it cannot be compared."""
    note = f"report {reported['report']} prints no loss after training" if reported else ""
    return "test loss", f"{result['tests']['clean']['loss']:.6g}".ljust(24) + note


def _speed(result: Mapping[str, Any], classes: bool) -> str:
    unit = "images" if classes else "examples"
    speed = result["images_per_second"]
    return "not known" if speed is None else f"{speed:,.0f} {unit}/s{format_head(result)}"


def format_head(result: Mapping[str, Any]) -> str:
    """A note on a speed that was measured with only the head trained, on cached features; else ""."""
    cached = result.get("on_cached_features")
    if cached is None:  # version 1 of result.json lacks the field
        cached = result.get("freeze_backbone")
    return " (head only, cached features)" if cached else ""


def _epochs(count: float) -> str:
    return f"{count:g} epoch" + ("" if count == 1 else "s")


def _reported(entry: Mapping[str, Any] | None, result: Mapping[str, Any], title: str) -> str:
    if entry is None:
        return ""
    settings = entry["config"]
    known = any(settings.get(name) is not None for name in ("optimizer", "learning_rate"))
    notes = [f"report {entry['report']}", title]
    tested = tested_as(result["entry"])
    notes += [] if tested == "clean" else [f"on {TESTED_ON[tested]}"]
    notes += ["random split"] if entry["report"] == "A" else []
    notes += ["pretrained backbone"] if settings.get("pretrained") else []
    notes += [] if entry["epochs"] == result["epochs"] else [_epochs(entry["epochs"])]
    notes += [] if known else ["optimizer settings not reported"]
    return f"{entry['result']['accuracy_percent']} %   {', '.join(notes)}"


def _time(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry.get("time_hours") is None:
        return ""
    return f"{entry['hardware']}, about {entry['time_hours']} h"


def format_network(result: Mapping[str, Any], title: str) -> str:
    """The network, where it is truncated, and what its backbone was pretrained on, e.g. for tables."""
    truncated = f" up to {result['truncate_after']}" if result.get("truncate_after") else ""
    weights = result.get("weights")
    if weights is None:
        return f"{title}{truncated}"
    state = "frozen" if result["freeze_backbone"] else "fine-tuned"
    name = "random weights" if weights == "random" else Path(weights).name
    origin = result.get("pretrained_on") or name
    return f"{title}{truncated} (backbone: {origin}, {state})"


def format_split(result: Mapping[str, Any]) -> str:
    """The kind of split, and the fraction of held-out images with a near-duplicate in training."""
    split, leakage = format_split_kind(result), result.get("leakage") or {}
    if not is_leaky(result):
        return split
    remedy = "" if result["split"] == "grouped" else " (--config.data.split=grouped)"
    for part in ("test", "validation"):
        if leakage.get(part):
            images = f"{100 * leakage[part]:.1f} % of {part} images"
            return f"{split}: {images} have a near-duplicate in training{remedy}"
    return f"{split}: {DATASETS_WITH_DUPLICATES[result['data']]} (fraction not measured)"


def format_split_kind(result: Mapping[str, Any]) -> str:
    """The kind of split, marked if it leaks: "random, LEAKY"."""
    return f"{result['split']}{format_grouping(result)}{', LEAKY' * is_leaky(result)}"


def format_grouping(result: Mapping[str, Any]) -> str:
    """Names the groups of a grouped split (" by ..."); "" for the source's default groups."""
    if result["split"] != "grouped":
        return ""
    level = result.get("group_level") or GROUP_LEVEL_DEFAULT
    given = (result.get("groups"), None if level == GROUP_LEVEL_DEFAULT else level)
    message = ", ".join(name for name in given if name)
    return f" by {message}" if message else ""


def is_leaky(result: Mapping[str, Any]) -> bool:
    """Whether held-out images have near-duplicates in training, measured or known from the source."""
    leakage = result.get("leakage") or {}
    has_duplicates = result["split"] == "random" and result["data"] in DATASETS_WITH_DUPLICATES
    return any(leakage.values()) or (has_duplicates and leakage.get("test") is None)


def format_test(result: Mapping[str, Any]) -> str:
    """The clean test's accuracy with its interval, or the loss of a regression."""
    clean = result["tests"]["clean"]
    if "accuracy" not in clean:
        return f"loss {clean['loss']:.4g}"
    low, high = clean["interval"]
    return f"{100 * clean['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def epochs_of(total_steps: int, steps_per_epoch: int) -> float:
    """The number of epochs, an int if it is integral."""
    epochs = total_steps / steps_per_epoch
    return int(epochs) if epochs == int(epochs) else round(epochs, 4)
