"""result.json: what a run came to, and the block that tells it."""

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
    "format_test",
    "is_leaky",
    "read",
    "split_in_short",
    "summary_text",
    "test_entry",
    "to_json",
]

WILSON, GROUP_BOOTSTRAP = "wilson", "group bootstrap"
WILSON_BY_GROUP = "wilson, a group for an example"
"""Where resamples of groups would show no spread: one group, or all of one share of right answers."""
DATASETS_WITH_DUPLICATES = {
    "lc25000_lung": "its 15,000 images are augmented copies of 750 photographs"
}
"""Sources that are known to hold copies: under a random split their tests leak."""
GROUP_LEVEL_DEFAULT = "group"
"""The level of a table of groups by which a grouped split goes, where it says no other."""

TESTED_ON = {
    "clean": "clean images",
    "augmented": "augmented images",
    "dropout": "clean images, dropout on",
    "augmented_dropout": "augmented images, dropout on",
}
"""The names of `tests`, in words."""


def test_entry(scores: Scores, predictions: Predictions | None) -> Test:
    """One entry of `tests`: accuracy with its interval, loss, count and confusion by (label, prediction).

    Of a regression loss and count alone. The interval resamples groups where `predictions`, of the same
    examples, know any siblings; else it is Wilson's, every example by itself.
    """
    if not isinstance(scores, ClassScores):
        return {"loss": scores.loss, "examples": scores.examples}
    interval, method = wilson_interval(scores.correct, scores.examples), WILSON
    if predictions is not None and predictions.has_near_duplicates:
        interval = group_interval(predictions.correct, predictions.group)
        alike = scores.correct in (0, scores.examples) or math.isnan(interval[0])
        method = WILSON_BY_GROUP if alike else GROUP_BOOTSTRAP
        if alike:
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
    published: Mapping[str, Any] | None,
) -> str:
    """At most 12 lines: what was trained, ours beside the published number, split, speed, what next."""
    label = result["name"]
    indent = max(22, len(label) + 2)
    auxiliary = result["auxiliary_parameters"]
    heads = f" and {auxiliary:,} in auxiliary heads" if auxiliary else ""
    classes = result["test_accuracy"] is not None
    size = f"{result['image_size']} px, " if result["image_size"] else ""
    rows = [
        (
            label,
            f"{format_network(result, title)}, {result['parameters']:,} parameters{heads}{_trained(result)}, "
            f"{data_title}, "
            f"{size}{_epochs(result['epochs'])}, seed {result['seed']}",
        ),
        ("", "ours".ljust(24) + ("published" if published else "")),
        _accuracy(result, published, title) if classes else _loss(result, published),
        *_other_tests(result),
        ("split", format_split(result)),
        ("speed", _speed(result, classes).ljust(24) + _time(published)),
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


def _trained(result: Mapping[str, Any]) -> str:
    return (
        f", {result['trained_parameters']:,} of them trained"
        if result.get("freeze_backbone")
        else ""
    )


def _accuracy(
    result: Mapping[str, Any], published: Mapping[str, Any] | None, title: str
) -> tuple[str, str]:
    low, high = result["test_interval"]
    ours = f"{100 * result['test_accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return "test accuracy", ours.ljust(24) + _published(published, result, title)


def _other_tests(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A row for what was tested beside the clean images, where anything was."""
    others = [
        f"{name.replace('_', ' and ')} {100 * test['accuracy']:.1f} %"
        for name, test in result["tests"].items()
        if name != "clean" and "accuracy" in test
    ]
    return [("other tests", ", ".join(others))] if others else []


def _loss(result: Mapping[str, Any], published: Mapping[str, Any] | None) -> tuple[str, str]:
    """What a report prints of such a network's loss is from before its only step: nothing to compare."""
    beside = f"report {published['report']} prints no loss after training" if published else ""
    return "test loss", f"{result['tests']['clean']['loss']:.6g}".ljust(24) + beside


def _speed(result: Mapping[str, Any], classes: bool) -> str:
    unit = "images" if classes else "examples"
    speed = result["images_per_second"]
    return "not known" if speed is None else f"{speed:,.0f} {unit}/s{format_head(result)}"


def format_head(result: Mapping[str, Any]) -> str:
    """What a speed is of, where training read what a frozen body gives, computed before; else ""."""
    kept = result.get("on_cached_features")
    kept = (
        result.get("freeze_backbone") if kept is None else kept
    )  # results of version 1 do not say it
    return " by the head, of kept features" if kept else ""


def _epochs(count: float) -> str:
    return f"{count:g} epoch" + ("" if count == 1 else "s")


def _published(entry: Mapping[str, Any] | None, result: Mapping[str, Any], title: str) -> str:
    if entry is None:
        return ""
    recipe = entry["config"]
    known = any(recipe.get(name) is not None for name in ("optimizer", "learning_rate"))
    words = [f"report {entry['report']}", title]
    tested = tested_as(result["entry"])
    words += [] if tested == "clean" else [f"on {TESTED_ON[tested]}"]
    words += ["random split"] if entry["report"] == "A" else []
    words += ["body trained before"] if recipe.get("pretrained") else []
    words += [] if entry["epochs"] == result["epochs"] else [_epochs(entry["epochs"])]
    words += [] if known else ["its recipe is not known"]
    return f"{entry['result']['accuracy_percent']} %   {', '.join(words)}"


def _time(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry.get("time_hours") is None:
        return ""
    return f"{entry['hardware']}, about {entry['time_hours']} h"


def format_network(result: Mapping[str, Any], title: str) -> str:
    """The network in words: where it was cut, and what its body was trained on, or else its name."""
    cut = f" up to {result['truncate_after']}" if result.get("truncate_after") else ""
    weights = result.get("weights")
    if weights is None:
        return f"{title}{cut}"
    state = "frozen" if result["freeze_backbone"] else "trained on"
    name = "random weights" if weights == "random" else Path(weights).name
    origin = result.get("pretrained_on") or name
    return f"{title}{cut} (body: {origin}, {state})"


def format_split(result: Mapping[str, Any]) -> str:
    """How the examples were divided, and whether that lets copies of the test into training."""
    split, shares = split_in_short(result), result.get("leakage") or {}
    if not is_leaky(result):
        return split
    remedy = "" if result["split"] == "grouped" else " (--config.data.split=grouped)"
    for part in ("test", "validation"):
        if shares.get(part):
            share = f"{100 * shares[part]:.1f} % of {part} images"
            return f"{split}: {share} have a sibling in training{remedy}"
    return f"{split}: {DATASETS_WITH_DUPLICATES[result['data']]} (share not measured)"


def split_in_short(result: Mapping[str, Any]) -> str:
    """The same without the share and the mend: "random, LEAKY"."""
    return f"{result['split']}{format_grouping(result)}{', LEAKY' * is_leaky(result)}"


def format_grouping(result: Mapping[str, Any]) -> str:
    """What a grouped split kept together, where it is not the source's own groups: " by ..."."""
    if result["split"] != "grouped":
        return ""
    level = result.get("group_level") or GROUP_LEVEL_DEFAULT
    given = (result.get("groups"), None if level == GROUP_LEVEL_DEFAULT else level)
    message = ", ".join(name for name in given if name)
    return f" by {message}" if message else ""


def is_leaky(result: Mapping[str, Any]) -> bool:
    """Whether held-out images are known to have copies in training, measured or not."""
    shares = result.get("leakage") or {}
    known_to_hold_copies = (
        result["split"] == "random" and result["data"] in DATASETS_WITH_DUPLICATES
    )
    return any(shares.values()) or (known_to_hold_copies and shares.get("test") is None)


def format_test(result: Mapping[str, Any]) -> str:
    """What the clean test came to: accuracy with its interval, or the loss where there are no classes."""
    clean = result["tests"]["clean"]
    if "accuracy" not in clean:
        return f"loss {clean['loss']:.4g}"
    low, high = clean["interval"]
    return f"{100 * clean['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def epochs_of(total_steps: int, steps_per_epoch: int) -> float:
    """Epochs as a number that is whole where it can be."""
    epochs = total_steps / steps_per_epoch
    return int(epochs) if epochs == int(epochs) else round(epochs, 4)
